"""Champion and challenger row by row: all that a verdict rests on, as plain data that a record can keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from monitor.verdict.cost import Cost
from monitor.verdict.paired import Pairs, pair

SCORE_DIGITS = 4  # of a kept score


@dataclass(frozen=True, slots=True)
class Said:
    """One model's answer to a row whose truth is known."""

    right: bool
    score: float  # of its own answer, in [0, 1]
    truth_score: float  # of the truth, in [0, 1]; 0 where the model has no such label
    label: str  # the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    key: str  # prediction id, or row number in the hold-out
    truth: str
    champion: Said
    challenger: Said
    slices: tuple[str, ...] = ()  # "name=value" of the client's metadata

    def to_json(self) -> list[Any]:
        """[key, truth, champion, challenger, slices], an answer being [right, score, truth_score, label]."""
        said = [
            [int(one.right), one.score, one.truth_score, one.label]
            for one in (self.champion, self.challenger)
        ]
        return [self.key, self.truth, *said, list(self.slices)]

    @staticmethod
    def from_json(row: Sequence[Any]) -> PairedRow:
        """Back from `to_json`. Raises ValueError, TypeError."""
        key, truth, champion, challenger, slices = row
        first, second = (
            Said(bool(right), float(score), float(truth_score), str(label))
            for right, score, truth_score, label in (champion, challenger)
        )
        return PairedRow(
            key=str(key), truth=str(truth), champion=first, challenger=second, slices=tuple(slices)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossfitRows:
    """How many of the rows, the last ones of each part, were answered by `folds` challengers in turn, each
    trained without the rows that it answered, and not by the version that is sealed."""

    folds: int
    recent: int
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same rows. recent: labelled traffic; base: the champion's own hold-out."""

    recent: tuple[PairedRow, ...]
    base: tuple[PairedRow, ...]
    cost: Cost = field(default_factory=Cost)
    left_out: tuple[str, ...] = ()  # keys of rows that nearly repeat a training row; not among the rows above
    crossfit: CrossfitRows | None = None  # None: the sealed version answered every row

    @property
    def sealed_base(self) -> tuple[PairedRow, ...]:
        """Old rows that the sealed version answered itself: only they are cut into slices.

        The slices' test has no margin. On thousands of rows it would refuse a point lost in one class and won
        in another, which the test of the whole allows.
        """
        crossed = self.crossfit.base if self.crossfit is not None else 0
        return self.base[: len(self.base) - crossed]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "recent": [row.to_json() for row in self.recent],
            "base": [row.to_json() for row in self.base],
            "cost": asdict(self.cost)
            | {"champion_ms": list(self.cost.champion_ms)}
            | {"challenger_ms": list(self.cost.challenger_ms)},
            "left_out": list(self.left_out),
        } | ({"crossfit": asdict(self.crossfit)} if self.crossfit is not None else {})

    @staticmethod
    def from_json(state: dict[str, Any]) -> Comparison:
        """Back from `to_json`. Raises KeyError, ValueError, TypeError."""
        cost = state["cost"]
        rounds = {name: tuple(cost[name]) for name in ("champion_ms", "challenger_ms")}
        return Comparison(
            recent=tuple(PairedRow.from_json(row) for row in state["recent"]),
            base=tuple(PairedRow.from_json(row) for row in state["base"]),
            cost=Cost(**cost | rounds),
            left_out=tuple(state["left_out"]),
            crossfit=CrossfitRows(**state["crossfit"]) if "crossfit" in state else None,
        )


def count(rows: Sequence[PairedRow]) -> Pairs:
    """Rows by who is right."""
    return pair([row.champion.right for row in rows], [row.challenger.right for row in rows])
