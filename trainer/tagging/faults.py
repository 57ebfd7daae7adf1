"""What can be wrong with marked texts: one function a kind, each naming its rows.

Faults of any labelled text (copies, leakage, rare classes, personal data) are found by `trainer.findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from trainer.findings import EXAMPLES, Action, Data, Finding, examine, example
from trainer.rows import HoldoutRow, Row
from trainer.tagging import TASK
from trainer.tagging.entities import Entity, canonical, entities
from trainer.tagging.rows import TRANSITIONS
from trainer.tagging.tags import Tokens, tags_of, tokens_of
from trainer.tokens import lengths, tokenizer

SHARED = (
    "class_shift", "conflicting_labels", "exact_duplicates", "foreign_language", "foreign_script",
    "imbalance", "leakage", "near_duplicates", "personal_data", "rare_classes", "text_shift", "truncated",
)  # fmt: skip
SHOWN = 3  # entities of a row


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Rows, and each as its encoder reads it."""

    rows: Sequence[Row]
    tokens: Sequence[Tokens]

    @cached_property
    def entities(self) -> list[list[Entity]]:
        return [entities(row.label) for row in self.rows]


Found = dict[int, str]  # row -> what is wrong with it


def spans_out_of_bounds(marked: Marked) -> Found:
    """Rows with an entity that has no characters, or lies outside of its text."""
    return _each(
        marked,
        lambda row, one: (
            not (0 <= one.start < one.end <= len(row.text) and row.text[one.start : one.end].strip())
        ),
    )


def overlapping_spans(marked: Marked) -> Found:
    """Rows in which two entities share a character: a token has one tag."""
    found = {}
    for row, own in enumerate(marked.entities):
        pairs = [(one, other) for one, other in pairwise(own) if other.start < one.end]
        if pairs:
            found[row] = f"{canonical(pairs[0])} overlap"
    return found


def cut_tokens(marked: Marked) -> Found:
    """Rows with an entity that begins or ends inside of a token: it can be learnt by whole tokens only."""
    found = {}
    for row, (tokens, own) in enumerate(zip(marked.tokens, marked.entities, strict=True)):
        places = [tokens.places[number] for number in tokens.tagged]
        read = [one for one in own if not places or one.start < places[-1][1]]  # the others were cut off
        _, cut = tags_of(places, read, [])
        if cut:
            found[row] = f"no whole tokens make up {canonical(cut[:SHOWN])}"
    return found


def cut_off_spans(marked: Marked) -> Found:
    """Rows with an entity behind the last token that is read."""
    found = {}
    for row, (tokens, own) in enumerate(zip(marked.tokens, marked.entities, strict=True)):
        last = max((end for _, end in tokens.places), default=0)
        lost = [one for one in own if tokens.truncated and one.end > last]
        if lost:
            found[row] = f"only {last} characters are read, not {canonical(lost[:SHOWN])}"
    return found


Fault = tuple[Callable[[Marked], Found], Action, str]
FAULTS: dict[str, Fault] = {
    "spans_out_of_bounds": (spans_out_of_bounds, "refuse", "rows have entities outside of their text"),
    "overlapping_spans": (overlapping_spans, "refuse", "rows have entities that overlap"),
    "cut_tokens": (cut_tokens, "warn", "rows have entities that begin or end inside of a token"),
    "cut_off_spans": (cut_off_spans, "warn", "rows have entities behind max_tokens"),
}


def kinds() -> list[str]:
    """Names of all findings of marked texts, for `on_finding`.

    >>> "overlapping_spans" in kinds(), "leakage" in kinds()
    (True, True)
    """
    return sorted({*FAULTS, *SHARED, TRANSITIONS})


def look(
    rows: Sequence[Row],
    holdout: Sequence[HoldoutRow],
    cutting: Path,
    *,
    max_tokens: int,
    on_finding: Mapping[str, Action],
    traffic: Sequence[str] = (),
) -> list[Finding]:
    """Every finding of the rows that is not ignored, with what is to be done about it.

    `cutting` is the tokenizer.json that cuts them.
    """
    texts = [row.text for row in rows]
    data = Data(
        rows=rows,
        holdout=holdout,
        lengths=lengths(cutting, texts),
        max_tokens=max_tokens,
        task=TASK,
        traffic=traffic,
    )
    marked = Marked(rows=rows, tokens=tokens_of(tokenizer(cutting, max_tokens), texts))
    found = [_finding(kind, data, marked, on_finding.get(kind, FAULTS[kind][1])) for kind in FAULTS]
    return [one for one in found if one is not None] + examine(data, on_finding, only=SHARED)


def _finding(kind: str, data: Data, marked: Marked, action: Action) -> Finding | None:
    find, _, told = FAULTS[kind]
    found = find(marked) if action != "ignore" else {}
    if not found:
        return None
    return Finding(
        kind=kind,
        message=f"{len(found)} of {len(data.rows)} {told}",
        rows=tuple(found),
        examples=tuple(example(data, row, why) for row, why in list(found.items())[:EXAMPLES]),
        action=action,
    )


def _each(marked: Marked, wrong: Callable[[Row, Entity], bool]) -> Found:
    found = {}
    for number, (row, own) in enumerate(zip(marked.rows, marked.entities, strict=True)):
        bad = [one for one in own if wrong(row, one)]
        if bad:
            found[number] = f"{canonical(bad[:SHOWN])} in a text of {len(row.text)} characters"
    return found
