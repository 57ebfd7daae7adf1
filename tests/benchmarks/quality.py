"""The accuracy interval and the label buying on public streams: `python -m tests.benchmarks.quality`.

coverage    share of runs whose interval held the true accuracy at 100 labels, and at every look (`anytime`)
width       ratio to the interval from the same labels without predictions, and to that from uniform labels
recovery    accuracy of a head refitted on base and bought labels, on traffic kept aside, by labels bought
One JSON line each; see `quality_streams` for the data and the cache of embeddings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.quality.buying import Shares, appeal, draw, novelty, probabilities, spread_order
from monitor.quality.correctness import Curve, Labelled, Served, cross_fitted, reference_curve
from monitor.quality.design import Design, arrived
from monitor.quality.estimate import proportion, sample_of
from monitor.quality.interval import interval
from monitor.quality.macro_f1 import confusion, macro_f1
from monitor.windows import Floats, Ints
from tests.benchmarks.quality_streams import Stream, embeddings, streams
from trainer.calibrate import temperature
from trainer.head import Head, fit_head
from trainer.tasks.classification import decode

WINDOW, LABELS, ALPHA = 1000, 100, 0.05
LOOKS = (20, 40, 60, 80, 100)
DESIGNS = ("uniform", "next", "arrived")
BATCH, BUDGETS = 50, (50, 100, 150, 200, 250, 300)


@dataclass(frozen=True, slots=True)
class Setting:
    """A stream as a version served it."""

    name: str
    head: Head
    curve: Curve
    similarity: Floats  # of the reference
    confused: Floats
    served: Served  # the traffic
    truth: Ints


def setting(stream: Stream) -> Setting:
    """Train a head on the stream's train part and answer the rest with it."""
    place = {name: number for number, name in enumerate(sorted({label for _, label in stream.train}))}
    train = embeddings([text for text, _ in stream.train])
    told = _numbers(place, stream.train)
    head = fit_head(train.astype(np.float32), told, classes=len(place))
    reference = embeddings([text for text, _ in stream.reference])
    known = _numbers(place, stream.reference)
    half = len(known) // 2
    heat = temperature(head.logits(reference[:half]), known[:half])
    before = _answer(head, heat, reference, train)
    right = (before.answered == known).astype(np.float64)
    return Setting(
        name=stream.name,
        head=head,
        curve=reference_curve(before.score, before.similarity, right),
        similarity=before.similarity,
        confused=confusion(before.answered, known, len(place)),
        served=_answer(head, heat, embeddings([text for text, _ in stream.traffic]), train),
        truth=_numbers(place, stream.traffic),
    )


def coverage(found: Setting, design: str, runs: int, seed: int) -> dict[str, object]:
    """One row of the table: `runs` windows, each labelled anew."""
    looked = np.array([_window(found, design, np.random.default_rng([seed, run])) for run in range(runs)])
    held, width, alone, plain, f1, f1_width, error = np.moveaxis(looked, 2, 0)
    measured = not np.isnan(f1[:, -1]).all()
    right = found.truth == found.served.answered
    return {
        "stream": found.name,
        "design": design,
        "accuracy": round(float(right.mean()), 3),
        "runs": runs,
        "coverage": float(held[:, -1].mean()),
        "anytime_coverage": float(held.all(axis=1).mean()),
        "width": round(float(width[:, -1].mean()), 3),
        "width_ratio_same_labels": round(float(width[:, -1].mean() / alone[:, -1].mean()), 3),
        "width_ratio_uniform_labels": round(float(width[:, -1].mean() / plain[:, -1].mean()), 3),
        "bias": round(float(error[:, -1].mean()), 4),
        "macro_f1_coverage": round(float(np.nanmean(f1[:, -1])), 3) if measured else None,
        "macro_f1_width": round(float(np.nanmean(f1_width[:, -1])), 3) if measured else None,
    }


def recovery(stream: Stream, runs: int, seed: int) -> list[dict[str, object]]:
    """Accuracy on kept traffic after each budget, bought uniformly or by `next` in batches of `BATCH`."""
    found = setting(stream)
    place = {name: number for number, name in enumerate(sorted({label for _, label in stream.train}))}
    base = embeddings([text for text, _ in stream.train]), _numbers(place, stream.train)
    kept = embeddings([text for text, _ in stream.kept]), _numbers(place, stream.kept)
    lines: list[dict[str, object]] = []
    curves = {}
    for design in ("uniform", "next"):
        runs_made = [
            _bought(found, design, base, kept, np.random.default_rng([seed, run])) for run in range(runs)
        ]
        curves[design] = np.mean(runs_made, axis=0)
        accuracy = dict(zip(BUDGETS, (round(float(one), 4) for one in curves[design]), strict=True))
        lines.append({"stream": stream.name, "recovery": design, "runs": runs, "accuracy": accuracy})
    before = float((found.head.logits(kept[0]).argmax(axis=1) == kept[1]).mean())
    equal = {
        budget: round(1 - _needed(curves["next"], float(level), before) / budget, 3)
        for budget, level in zip(BUDGETS, curves["uniform"], strict=True)
    }
    lines.append({"stream": stream.name, "before": round(before, 4), "fewer_labels_than_uniform": equal})
    return lines


def _window(found: Setting, design: str, rng: np.random.Generator) -> list[tuple[float, ...]]:
    rows = rng.permutation(len(found.truth))[:WINDOW]
    kept = np.zeros(len(found.truth), dtype=bool)
    kept[rows] = True
    served, truth = found.served.only(kept), found.truth[kept]
    right = (served.answered == truth).astype(np.float64)
    chance, order = _drawing(found, served, design, rng)
    taken = rng.permutation(draw(chance, order, rng))
    plain = rng.permutation(len(truth))
    return [
        _look(found, served, truth, right, _design(found, served, design, taken, chance, look), plain[:look])
        for look in LOOKS
    ]


def _look(
    found: Setting, served: Served, truth: Ints, right: Floats, made: Design, plain: Ints
) -> tuple[float, ...]:
    rows, sample = made.rows, made.sample
    told = Labelled(rows=rows, truth=truth[rows], correct=right[rows], weight=sample.weight)
    judged = cross_fitted(found.curve, served, told)
    best = proportion(told.correct, judged[rows], float(judged.mean()), sample)
    alone = proportion(told.correct, None, 0.0, sample)
    even = sample_of(np.full(len(plain), len(plain) / len(truth)), len(truth))
    uniform = proportion(right[plain], None, 0.0, even)
    lower, upper = interval(best.mean, best.effective, ALPHA)
    f1 = macro_f1(served, told, judged, found.confused, sample, ALPHA)
    actual = _macro_f1(served.answered, truth)
    return (
        float(lower <= right.mean() <= upper),
        upper - lower,
        _width(alone.mean, alone.effective),
        _width(uniform.mean, uniform.effective),
        np.nan if f1 is None else float(f1.lower <= actual <= f1.upper),
        np.nan if f1 is None else f1.upper - f1.lower,
        best.mean - float(right.mean()),
    )


def _drawing(found: Setting, served: Served, design: str, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Probabilities and order of the draw; "arrived" labels doubtful answers four times as often."""
    count = len(served)
    start = found.curve(served.score, served.similarity)
    if design == "next":
        assert served.embedding is not None
        liked = appeal(start, novelty(served.similarity, found.similarity), Shares()).sum(axis=0)
        return probabilities(liked, LABELS), spread_order(served.embedding, rng)
    liked = np.where(start < np.median(start), 4.0, 1.0) if design == "arrived" else np.ones(count)
    return probabilities(liked, LABELS), rng.permutation(count)


def _design(found: Setting, served: Served, design: str, taken: Ints, chance: Floats, look: int) -> Design:
    rows = np.sort(taken[:look])
    if design == "arrived":
        return arrived(found.curve(served.score, served.similarity), rows)
    sample = sample_of(chance[rows] * look / len(taken), len(served))
    return Design(
        rows=rows, sample=sample, covered=np.ones(len(served), dtype=bool), answered=1.0, back=len(rows)
    )


def _bought(
    found: Setting,
    design: str,
    base: tuple[Floats, Ints],
    kept: tuple[Floats, Ints],
    rng: np.random.Generator,
) -> list[float]:
    served, known = found.served, np.zeros(0, dtype=np.int64)
    assert served.embedding is not None
    new, accuracy = novelty(served.similarity, found.similarity), []
    for _ in BUDGETS:
        free = np.setdiff1d(np.arange(len(served)), known)
        liked, order = np.ones(len(free)), rng.permutation(len(free))
        if design == "next":
            right = (found.truth[known] == served.answered[known]).astype(np.float64)
            told = Labelled(rows=known, truth=found.truth[known], correct=right, weight=np.ones(len(known)))
            chance = cross_fitted(found.curve, served, told)
            liked = appeal(chance[free], new[free], Shares()).sum(axis=0)
            order = spread_order(served.embedding[free], rng)
        known = np.concatenate([known, free[draw(probabilities(liked, BATCH), order, rng)]])
        told_rows = known[found.truth[known] >= 0]
        rows = np.concatenate([base[0], served.embedding[told_rows]]).astype(np.float32)
        head = fit_head(rows, np.concatenate([base[1], found.truth[told_rows]]), classes=len(found.confused))
        accuracy.append(float((head.logits(kept[0]).argmax(axis=1) == kept[1]).mean()))
    return accuracy


def _needed(curve: Floats, level: float, before: float) -> float:
    """Labels after which a recovery curve reaches `level`, straight between budgets; at most the last."""
    reached = np.flatnonzero(curve >= level)
    if not reached.size:
        return float(BUDGETS[-1])
    at = int(reached[0])
    low, left = (before, 0) if at == 0 else (float(curve[at - 1]), BUDGETS[at - 1])
    return left + (BUDGETS[at] - left) * (level - low) / max(float(curve[at]) - low, 1e-9)


def _answer(head: Head, heat: float, rows: Floats, train: Floats) -> Served:
    scores = decode(head.logits(rows), heat)
    return Served(
        answered=scores.argmax(axis=1),
        score=scores.max(axis=1),
        similarity=(rows @ train.T).max(axis=1),
        scores=scores,
        embedding=rows,
    )


def _numbers(place: dict[str, int], rows: Sequence[tuple[str, str]]) -> Ints:
    return np.array([place.get(label, -1) for _, label in rows], dtype=np.int64)


def _macro_f1(answered: Ints, truth: Ints) -> float:
    classes = np.unique(truth[truth >= 0])
    hits = [2 * ((answered == c) & (truth == c)).sum() for c in classes]
    sizes = [(answered == c).sum() + (truth == c).sum() for c in classes]
    return float(np.mean([hit / size for hit, size in zip(hits, sizes, strict=True)]))


def _width(mean: float, effective: float) -> float:
    lower, upper = interval(mean, effective, ALPHA)
    return upper - lower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--recovery-runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="streams whose name begins so")
    chosen = parser.parse_args()
    for stream in streams():
        if not stream.name.startswith(chosen.only):
            continue
        found = setting(stream)
        lines = [coverage(found, design, chosen.runs, chosen.seed) for design in DESIGNS if chosen.runs]
        if chosen.recovery_runs and "new intents" in stream.name and " 0 %" not in stream.name:
            lines += recovery(stream, chosen.recovery_runs, chosen.seed)
        for line in lines:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
