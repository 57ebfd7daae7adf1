"""Verdict: may the challenger replace the champion? Paired tests on rows that neither was trained on, or that
were answered out of their fold (trainer.crossfit).

A drift retrain must be better where the drift is and not worse on the old traffic; a refresh must not be
worse on either. Neither may be proven worse in a slice, lose its calibration, or cost much more. Rows are
pairs: the same text answered by both. Too few rows is a refusal, never a silent pass.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from monitor.verdict.calibration import judge_calibration
from monitor.verdict.cost import Cost, judge_cost, measure
from monitor.verdict.finding import Finding
from monitor.verdict.paired import (
    LEVEL,
    NonInferiority,
    Pairs,
    gain_lower_bound,
    harm_p,
    mcnemar_mid_p,
    non_inferiority,
    numbers,
    pair,
    power_line,
)
from monitor.verdict.rows import SCORE_DIGITS, Comparison, CrossfitRows, PairedRow, Said, count
from monitor.verdict.slices import frequent, holm, judge_slices, names, slice_pairs

__all__ = [
    "RULES", "SCORE_DIGITS", "Comparison", "Cost", "CrossfitRows", "Finding", "Intent", "NonInferiority",
    "PairedRow", "Pairs", "Said", "Verdict", "frequent", "gain_lower_bound", "harm_p", "holm", "judge",
    "judge_accuracy", "judge_calibration", "judge_cost", "judge_slices", "mcnemar_mid_p", "measure",
    "names", "non_inferiority", "pair", "power_line", "slice_pairs",
]  # fmt: skip

Intent = Literal["drift", "refresh"]

RULES = 2  # number of the rules below: a record of other rules cannot be judged again
MIN_RECENT = 20  # rows: with fewer, the slice says nothing about traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    promote: bool
    reasons: tuple[str, ...]
    numbers: dict[str, Any]  # JSON-able


def judge(intent: Intent, comparison: Comparison, *, margin: float) -> Verdict:
    """Judge a challenger by every check; `margin` is what it may lose, 0.03 = 3 points. Pure: a record of the
    comparison gives the same verdict again.
    """
    accuracy = judge_accuracy(
        intent, recent=count(comparison.recent), base=count(comparison.base), margin=margin
    )
    more = {
        "slices": judge_slices(slice_pairs(comparison.recent, comparison.sealed_base)),
        "calibration": judge_calibration(comparison.recent),
        "cost": judge_cost(comparison.cost),
    }
    left_out = len(comparison.left_out)
    said = (f"Left out {left_out} rows that nearly repeat a training row.",) if left_out else ()
    return Verdict(
        promote=accuracy.promote and all(finding.passed for finding in more.values()),
        reasons=accuracy.reasons
        + tuple(finding.reason for finding in more.values())
        + said
        + _crossfitted(comparison.crossfit),
        numbers=accuracy.numbers
        | {name: finding.numbers for name, finding in more.items()}
        | {"left_out": left_out}
        | ({"crossfit": asdict(comparison.crossfit)} if comparison.crossfit is not None else {}),
    )


def _crossfitted(crossfit: CrossfitRows | None) -> tuple[str, ...]:
    if crossfit is None:
        return ()
    return (
        f"Cross-fitted: {crossfit.recent} recent and {crossfit.base} old rows were answered by "
        f"{crossfit.folds} challengers, each trained without the rows that it answered; the version that is "
        "sealed learnt them all.",
    )


def judge_accuracy(intent: Intent, *, recent: Pairs, base: Pairs, margin: float) -> Verdict:
    """Judge by accuracy alone. recent: labelled rows of the drifted traffic; base: the champion's own
    hold-out.
    """
    better = mcnemar_mid_p(recent.only_champion, recent.only_challenger)
    checks = [_not_worse("old traffic", base, margin)]
    if intent == "drift":
        checks.append(_better("recent traffic", recent, better))
    else:
        checks.append(_not_worse("recent traffic", recent, margin))
    return Verdict(
        promote=all(check.passed for check in checks),
        reasons=tuple(check.reason for check in checks),
        numbers={
            "intent": intent,
            "margin": margin,
            "recent": {**numbers(recent, margin), "mcnemar_mid_p": better},
            "base": numbers(base, margin),
            "forgotten_points": -100 * base.gain if base.rows else None,
        },
    )


def _better(name: str, pairs: Pairs, p: float) -> Finding:
    if pairs.rows < MIN_RECENT:
        few = f"Not enough data: {pairs.rows} labelled rows of {name}, at least {MIN_RECENT} are needed."
        return Finding(passed=False, reason=few)
    counts = f"{pairs.only_challenger} rows won, {pairs.only_champion} lost of {pairs.rows}, p = {p:.2g}"
    if p < LEVEL:
        return Finding(passed=True, reason=f"Better on {name}: {counts}.")
    return Finding(passed=False, reason=f"Not proven better on {name}: {counts}; {power_line(pairs)}.")


def _not_worse(name: str, pairs: Pairs, margin: float) -> Finding:
    result = non_inferiority(pairs, margin)
    if pairs.rows < result.rows_needed:
        few = (
            f"Not enough data: {pairs.rows} labelled rows of {name}, at least {result.rows_needed} needed "
            f"to prove a loss under {100 * margin:g} points."
        )
        return Finding(passed=False, reason=few)
    bound = (
        f"gain {100 * pairs.gain:+.1f} points, at worst {100 * result.lower:+.1f} (margin -{100 * margin:g})"
    )
    start = "Not worse" if result.passed else "Not proven as good"
    return Finding(passed=result.passed, reason=f"{start} on {name}: {bound}; {power_line(pairs)}.")
