"""The accuracy interval and the label buying on public streams: `python -m tests.benchmarks.quality`.

coverage    share of runs whose interval held the true accuracy at 100 labels, and at every look (`anytime`),
            with the 95 % lower confidence limit of that share over the runs
width       ratio to the interval of as many uniform labels without predictions, by the same machinery
bound       what the predictions allow: sqrt(1 - rho²) with uniform labels; with the draw's probabilities
recovery    accuracy of a head refitted on base and bought labels, on traffic kept aside, by labels bought
Each run first labels `--earlier` windows before the measured one in the same way, 100 labels a window; dated
streams keep their order.
One JSON line each; see `quality_streams` for the data and the cache of embeddings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.quality.buying import appeal, draw, novelty, probabilities, shares_for, spread_order
from monitor.quality.correctness import Curve, Labelled, Served, cross_fitted, reference_curve
from monitor.quality.design import Design, arrived
from monitor.quality.estimate import proportion, sample_of
from monitor.quality.interval import interval
from monitor.quality.macro_f1 import confusion, macro_f1
from monitor.windows import Floats, Ints
from tests.benchmarks.quality_streams import Rows, Stream, embeddings, streams
from trainer.calibrate import temperature
from trainer.head import Head, fit_head
from trainer.tasks.classification import decode

WINDOW, LABELS, ALPHA = 1000, 100, 0.05
LOOKS = (20, 50, LABELS)
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
    dated: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a run: the labelled rows before it and the probabilities with which its own are drawn."""

    served: Served
    truth: Ints
    earlier: tuple[Served, Labelled]
    chance: Floats  # [N]
    taken: Ints  # in random order


def setting(stream: Stream, traffic: Sequence[Rows]) -> Setting:
    """Train a head on the stream's train part and answer the parts of `traffic` with it."""
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
        served=_answer(
            head, heat, np.concatenate([embeddings([text for text, _ in part]) for part in traffic]), train
        ),
        truth=np.concatenate([_numbers(place, part) for part in traffic]),
        dated=stream.dated,
    )


def coverage(
    found: Setting, design: str, runs: int, earlier: int, looks: Sequence[int], seed: int
) -> dict[str, object]:
    """One row of the table: `runs` windows, each labelled anew."""
    looked = np.array(
        [_run(found, design, earlier, looks, np.random.default_rng([seed, run])) for run in range(runs)]
    )
    held, width, plain, f1, f1_width, error, rho, drawn = np.moveaxis(looked, 2, 0)
    measured = not np.isnan(f1[:, -1]).all()
    right = found.truth == found.served.answered
    return {
        "stream": found.name,
        "design": design,
        "accuracy": round(float(right.mean()), 3),
        "runs": runs,
        "earlier_windows": earlier,
        "coverage": round(float(held[:, -1].mean()), 3),
        "coverage_at_least": _at_least(held[:, -1]),
        "looks": list(looks),
        "anytime_coverage": round(float(held.all(axis=1).mean()), 3),
        "width": round(float(width[:, -1].mean()), 3),
        "width_ratio": round(float(width[:, -1].mean() / plain[:, -1].mean()), 3),
        "rho": round(float(rho[:, -1].mean()), 3),
        "bound_uniform": round(float(np.sqrt(1 - rho[:, -1] ** 2).mean()), 3),
        "bound_drawn": round(float(drawn[:, -1].mean()), 3),
        "bias": round(float(error[:, -1].mean()), 4),
        "macro_f1_coverage": round(float(np.nanmean(f1[:, -1])), 3) if measured else None,
        "macro_f1_width": round(float(np.nanmean(f1_width[:, -1])), 3) if measured else None,
    }


def recovery(stream: Stream, runs: int, seed: int) -> list[dict[str, object]]:
    """Accuracy on kept traffic after each budget, bought uniformly or by `next` in batches of `BATCH`."""
    found = setting(stream, [stream.traffic])
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


def _run(
    found: Setting, design: str, earlier: int, looks: Sequence[int], rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """One look at a time at the last of a row of windows, all labelled by the same design."""
    *before, rows = _windows(found, earlier, rng)
    told = np.zeros(0, dtype=np.int64)
    for part in before:
        told = np.concatenate([told, part[_drawn(found, part, told, design, rng).taken]])
    window = _drawn(found, rows, told, design, rng)
    plain = rng.permutation(len(rows))
    return [_look(found, window, _design(found, window, design, look), plain[:look]) for look in looks]


def _windows(found: Setting, earlier: int, rng: np.random.Generator) -> list[Ints]:
    """Row numbers of up to `earlier` windows, of WINDOW rows where there are as many, and of the last."""
    count = len(found.truth)
    order = np.arange(count) if found.dated else rng.permutation(count)
    past = min(earlier * WINDOW, count - WINDOW)
    start = int(rng.integers(0, count - WINDOW - past + 1))
    parts = np.array_split(order[start : start + past], -(-past // WINDOW)) if past else []
    return [*parts, order[start + past : start + past + WINDOW]]


def _drawn(found: Setting, rows: Ints, told: Ints, design: str, rng: np.random.Generator) -> Window:
    """The window of `rows`, its labels drawn by what those of the rows `told` teach."""
    served, earlier = _rows(found.served, rows), _rows(found.served, told)
    right = (found.truth[told] == earlier.answered).astype(np.float64)
    taught = earlier, Labelled(rows=np.arange(len(told)), truth=found.truth[told], correct=right)
    chance, order = _drawing(found, served, taught, design, rng)
    taken = rng.permutation(draw(chance, order, rng))
    return Window(served=served, truth=found.truth[rows], earlier=taught, chance=chance, taken=taken)


def _rows(served: Served, rows: Ints) -> Served:
    assert served.scores is not None
    assert served.embedding is not None
    return Served(
        answered=served.answered[rows],
        score=served.score[rows],
        similarity=served.similarity[rows],
        scores=served.scores[rows],
        embedding=served.embedding[rows],
    )


def _look(found: Setting, window: Window, made: Design, plain: Ints) -> tuple[float, ...]:
    rows, sample, served, truth = made.rows, made.sample, window.served, window.truth
    right = (served.answered == truth).astype(np.float64)
    told = Labelled(rows=rows, truth=truth[rows], correct=right[rows])
    judged = cross_fitted(found.curve, served, told, window.earlier)
    best = proportion(told.correct, judged[rows], float(judged.mean()), sample)
    even = sample_of(np.full(len(plain), len(plain) / len(truth)), len(truth))
    uniform = proportion(right[plain], None, 0.0, even)
    lower, upper = interval(best.mean, best.effective, ALPHA, labels=len(rows))
    low, high = interval(uniform.mean, uniform.effective, ALPHA, labels=len(plain))
    f1 = macro_f1(served, told, judged, found.confused, sample, ALPHA)
    actual = _macro_f1(served.answered, truth)
    return (
        float(lower <= right.mean() <= upper),
        upper - lower,
        high - low,
        np.nan if f1 is None else float(f1.lower <= actual <= f1.upper),
        np.nan if f1 is None else f1.upper - f1.lower,
        best.mean - float(right.mean()),
        float(np.corrcoef(judged, right)[0, 1]),
        _bound(right, judged, window.chance),
    )


def _bound(right: Floats, judged: Floats, chance: Floats) -> float:
    """Standard error of the corrected mean by that of as many uniform labels alone, all rows being known."""
    even = chance.mean()
    plain = len(right) * (1 - even) / even * right.var()
    return float(np.sqrt((1 - chance) / chance @ (right - judged) ** 2 / plain))


def _at_least(held: Floats) -> float:
    """Lower 95 % confidence limit of a share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    hits = int(held.sum())
    return round(float(beta.ppf(0.05, hits, len(held) - hits + 1)), 3) if hits else 0.0


def _drawing(
    found: Setting, served: Served, earlier: tuple[Served, Labelled], design: str, rng: np.random.Generator
) -> tuple[Floats, Ints]:
    """Probabilities and order of the draw; "arrived" labels doubtful answers four times as often."""
    count = len(served)
    labels = round(LABELS * count / WINDOW)
    if design == "next":
        assert served.embedding is not None
        none = np.zeros(0, dtype=np.int64)
        told = Labelled(rows=none, truth=none, correct=none.astype(np.float64))
        chance = cross_fitted(found.curve, served, told, earlier)
        new = novelty(served.similarity, found.similarity)
        liked = appeal(chance, new, shares_for(new)).sum(axis=0)
        return probabilities(liked, labels), spread_order(served.embedding, rng)
    start = found.curve(served.score, served.similarity)
    liked = np.where(start < np.median(start), 4.0, 1.0) if design == "arrived" else np.ones(count)
    return probabilities(liked, labels), rng.permutation(count)


def _design(found: Setting, window: Window, design: str, look: int) -> Design:
    rows, served = np.sort(window.taken[:look]), window.served
    if design == "arrived":
        return arrived(found.curve(served.score, served.similarity), rows)
    sample = sample_of(window.chance[rows] * look / len(window.taken), len(served))
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
            told = Labelled(rows=known, truth=found.truth[known], correct=right)
            chance = cross_fitted(found.curve, served, told)
            liked = appeal(chance[free], new[free], shares_for(new)).sum(axis=0)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--recovery-runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--earlier", type=int, default=2, help="labelled windows before the measured one")
    parser.add_argument("--looks", type=int, nargs="+", default=LOOKS, help="labels at which to look")
    parser.add_argument("--designs", default=",".join(DESIGNS))
    parser.add_argument("--only", default="", help="streams whose name begins so")
    chosen = parser.parse_args()
    for stream in streams():
        if not stream.name.startswith(chosen.only):
            continue
        found = setting(stream, [stream.traffic, stream.kept])
        lines = [
            coverage(found, design, chosen.runs, chosen.earlier, chosen.looks, chosen.seed)
            for design in chosen.designs.split(",")
            if chosen.runs
        ]
        if chosen.recovery_runs and "new intents" in stream.name and " 0 %" not in stream.name:
            lines += recovery(stream, chosen.recovery_runs, chosen.seed)
        for line in lines:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
