"""Which rows prove a challenger, and what its hold-out is made of.

Where each labelled row can be answered by a challenger that was trained without it (cross-fitting, the head
rung), the rows that prove it teach it too; only APART of the recent ones stay out of it, for the reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row as Found

from trainer.rows import HoldoutRow, Row, fields_of

FEWEST, MOST = 120, 300  # rows that prove a challenger, where there are twice as many labels
KEPT = 0.2  # of the rows that proved the parent; the base hold-out is as large a share by default
FRESH_ROWS = 100  # recent rows from which they alone are the new reference
APART = 0.2  # of recent labels, which a cross-fitted challenger never learns: its reference must be new to it
JUDGED = 2000  # cross-fitted rows of each part: more would lengthen the record, not the proof


def held_out(recent: list[Found[Any]], share: float) -> list[Found[Any]]:
    """The rows that are kept for the verdict, in their order."""
    return lowest(recent, proof_rows(len(recent), share))


def apart(recent: list[Found[Any]]) -> list[Found[Any]]:
    """The rows that a cross-fitted challenger does not learn, in their order."""
    return lowest(recent, min(MOST, round(APART * len(recent))))


def judged(taught: Sequence[Found[Any]], since_seq: int) -> Crossfit:
    """Which rows that the challenger learns are cross-fitted: JUDGED at most of either part."""
    old = [found for found in taught if found.seq < since_seq]
    recent = [found for found in taught if found.seq >= since_seq]
    return Crossfit(old=tuple(lowest(old, JUDGED)), recent=tuple(lowest(recent, JUDGED)))


def lowest(rows: Sequence[Found[Any]], count: int) -> list[Found[Any]]:
    """`count` rows in their order, those whose ids have the lowest hashes: more labels change few of them."""
    ranked = sorted(rows, key=lambda found: hashlib.sha256(found.id.encode()).digest())
    chosen = {found.id for found in ranked[:count]}
    return [found for found in rows if found.id in chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossfit:
    """Labelled predictions that the champion never learnt, and the challenger does."""

    old: tuple[Found[Any], ...] = ()  # from before the drift
    recent: tuple[Found[Any], ...] = ()

    @property
    def rows(self) -> list[HoldoutRow]:
        """Both parts as the trainer reads them, the old ones first."""
        parts = (*self.old, *self.recent)
        return [HoldoutRow(text=found.text, label=found.truth, in_reference=False) for found in parts]


def release(held: Sequence[HoldoutRow]) -> tuple[list[HoldoutRow], list[Row]]:
    """(the parent's hold-out, rows to learn): most of what proved the parent has done its work.

    KEPT of it goes on guarding against forgetting. The others stay in the hold-out, whose rows are known by
    their numbers, without a label and out of the reference: nothing is judged by them again.
    """
    gone = {
        row.text for row in held if row.slice == "recent" and row.label is not None and _lot(row.text) >= KEPT
    }
    kept = [replace(row, label=None, in_reference=False) if row.text in gone else row for row in held]
    learnt = [
        Row(text=row.text, label=row.label, origin="traffic", fields=row.fields)
        for row in held
        if row.text in gone and row.label is not None
    ]
    return kept, learnt


def silent(texts: Sequence[str]) -> list[HoldoutRow]:
    """Rows that judge nothing and are never learnt: a later retrain leaves out what a hold-out knows."""
    return [HoldoutRow(text=text, label=None, in_reference=False, slice="recent") for text in texts]


def _lot(text: str) -> float:
    """A number in [0, 1) that is the text's for ever."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def proof_rows(labels: int, share: float) -> int:
    """How many of the labels of a drift prove the challenger: `share` of them, within bounds.

    What a verdict can prove depends on the number of rows, not on their share: with fewer than FEWEST even a
    good challenger is refused, beyond MOST more rows would teach more than they prove. Never more than half.

    >>> [proof_rows(labels, 0.3) for labels in (40, 200, 500, 5000)]
    [20, 100, 150, 300]
    """
    return min(labels // 2, max(FEWEST, min(MOST, round(share * labels))))


def build_holdout(
    held: list[HoldoutRow],
    proof: list[Found[Any]],
    quiet: list[str],
    reference_rows: int,
    slices: Sequence[str] = (),
) -> list[HoldoutRow]:
    """The parent's rows, labelled proof, traffic without labels; recent rows become the reference.

    `slices` are the metadata keys that the new version is reported by.
    """
    room = max(0, reference_rows - len(proof))
    texts = list(dict.fromkeys(quiet))[:room]
    recent = [
        HoldoutRow(
            text=found.text,
            label=found.truth,
            in_reference=True,
            slice="recent",
            fields=fields_of(found.metadata, slices),
        )
        for found in proof
    ] + [HoldoutRow(text=text, label=None, in_reference=True, slice="recent") for text in texts]
    enough = len(recent) >= FRESH_ROWS
    base = [replace(row, slice="base", in_reference=row.in_reference and not enough) for row in held]
    return base + recent
