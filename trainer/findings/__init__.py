"""What is wrong with labelled rows, found before anything is learnt from them: one module a kind.

A module is a finder when it has `ACTION` (what is done by default) and `find(data) -> Finding | None`. Its
name is the kind, by which `[data] on_finding` says otherwise: "refuse" ends the training, "drop" leaves the
rows of the finding out, "warn" says it, "ignore" does not look.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np

from trainer.errors import FindingError
from trainer.rows import HoldoutRow, Row
from trainer.tasks import load

Array = np.ndarray[Any, np.dtype[Any]]
Action = Literal["refuse", "drop", "warn", "ignore"]
EXAMPLES = 5
SHOWN = 120  # characters of an example


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What finders look at; a part that is not there yet is None, and its finders find nothing."""

    rows: Sequence[Row]
    holdout: Sequence[HoldoutRow] = ()
    lengths: Sequence[int] | None = None  # tokens of every row, uncut
    max_tokens: int | None = None
    embeddings: Array | None = None  # unit rows [rows, hidden] of a frozen encoder
    task: str = "classification"
    traffic: Sequence[str] = ()  # texts that were asked lately
    presidio: bool = False  # personal data are looked for by its patterns, too

    def names(self, label: str) -> list[str]:
        """The classes that a row's label names."""
        return load(self.task).names(label)

    def counts(self) -> Counter[str]:
        """Rows of each class."""
        return Counter(name for row in self.rows for name in self.names(row.label))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of a finding: its position, what it holds, and what is wrong with it."""

    row: int
    text: str
    label: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of fault. `rows` are the positions that "drop" leaves out, worst first where ordered."""

    kind: str
    message: str
    rows: tuple[int, ...]
    examples: tuple[Example, ...] = ()
    action: Action = "warn"


class Finder(Protocol):
    """What a module of this package offers."""

    ACTION: Action

    @staticmethod
    def find(data: Data) -> Finding | None:
        """The finding, None where nothing is wrong or what is needed is missing."""
        ...


def kinds() -> list[str]:
    """Names of all finders.

    >>> "leakage" in kinds()
    True
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def examine(
    data: Data, on_finding: Mapping[str, Action], *, only: Iterable[str] | None = None
) -> list[Finding]:
    """Every finding of the finders that are not ignored, with what is to be done about it."""
    findings: list[Finding] = []
    for kind in kinds() if only is None else only:
        finder = cast("Finder", importlib.import_module(f"{__name__}.{kind}"))
        action = on_finding.get(kind, finder.ACTION)
        found = finder.find(data) if action != "ignore" else None
        if found is not None:
            findings.append(replace(found, action=action))
    return findings


def refuse(findings: Iterable[Finding]) -> None:
    """Raise FindingError, naming every finding that is to be refused."""
    refused = [(finding.kind, finding.message) for finding in findings if finding.action == "refuse"]
    if refused:
        raise FindingError(refused)


def kept(rows: int, findings: Iterable[Finding]) -> list[int]:
    """Positions of the rows that no finding drops.

    >>> kept(4, [Finding(kind="leakage", message="", rows=(2,), action="drop")])
    [0, 1, 3]
    """
    dropped = {row for finding in findings if finding.action == "drop" for row in finding.rows}
    return [row for row in range(rows) if row not in dropped]


def example(data: Data, row: int, note: str) -> Example:
    """A row as people see it: its text cut to SHOWN characters."""
    text = " ".join(data.rows[row].text.split())
    return Example(
        row=row,
        text=text if len(text) <= SHOWN else text[: SHOWN - 1] + "…",
        label=data.rows[row].label,
        note=note,
    )


def recorded(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """What a manifest keeps of findings: no row's text."""
    return [
        {"kind": one.kind, "action": one.action, "message": one.message, "rows": len(one.rows)}
        for one in findings
    ]


def told(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data for JSON, with their examples."""
    return [asdict(finding) | {"rows": list(finding.rows)} for finding in findings]
