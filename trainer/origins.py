"""Every value of a spec, and where it came from: a line of the file, the environment, a default."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.decoder import TASK as GENERATION
from trainer.findings import kinds
from trainer.generation.faults import FAULTS
from trainer.generation.gate import kinds as kinds_of_generation
from trainer.spec import load_spec, overrides
from trainer.tagging import TASK as TAGGING
from trainer.tagging.faults import FAULTS as MARKED
from trainer.tagging.faults import kinds as kinds_of_tagging
from trainer.tagging.rows import TRANSITIONS

DEFAULT = "default"
OF_TASK = {GENERATION: kinds_of_generation, TAGGING: kinds_of_tagging}  # what is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value as JSON has it; `key` is dotted, `origin` as people read it."""

    key: str
    value: Any
    origin: str


def explain(path: Path, environment: Mapping[str, str]) -> list[Setting]:
    """Every value that a training of this spec would use, passwords hidden. Raises SpecError."""
    spec = load_spec(path, environment)
    values = _leaves(spec.model_dump(mode="json"))
    generates = spec.model.task == GENERATION
    if not generates:
        values = {key: value for key, value in values.items() if not key.startswith("generation.")}
    looked_for = OF_TASK.get(spec.model.task, kinds)()
    values |= {f"data.on_finding.{kind}": _action(kind, spec.data.on_finding) for kind in looked_for}
    values.pop("data.on_finding", None)
    told = {f"{table}.{key}": name for (table, key), (name, _) in overrides(environment).items()}
    lines = lines_of(path.read_text(encoding="utf-8-sig"))

    def origin(key: str) -> str:
        table_key = ".".join(key.split(".")[:2])  # the environment replaces a whole table in a table
        if table_key in told:
            return f"environment, {told[table_key]}"
        return f"{path}, line {lines[key]}" if key in lines else DEFAULT

    return [Setting(key=key, value=value, origin=origin(key)) for key, value in values.items()]


def lines_of(toml: str) -> dict[str, int]:
    """Dotted key -> line on which its value begins.

    A statement is what turns one valid file into another when its lines are added: no second parser of TOML.

    >>> lines_of('[fit]\\nrung = "head"\\n[data]\\nsql = \\'\\'\\'\\nselect\\n\\'\\'\\'\\ntext = "t"')
    {'fit.rung': 2, 'data.sql': 4, 'data.text': 7}
    """
    lines = toml.splitlines(keepends=True)
    found: dict[str, int] = {}
    begun = 1
    for number in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue
        found |= {key: begun for key in _leaves(tables) if key not in found}
        begun = number + 1
    return found


def _leaves(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{above}{key}.")
        elif not isinstance(value, dict) or above:
            found[f"{above}{key}"] = value
    return found


def _action(kind: str, on_finding: Mapping[str, str]) -> str:
    own = {name: fault[1] for name, fault in (*FAULTS.items(), *MARKED.items())} | {TRANSITIONS: "refuse"}
    if kind in own:
        return str(on_finding.get(kind, own[kind]))
    default = importlib.import_module(f"trainer.findings.{kind}").ACTION
    return str(on_finding.get(kind, default))
