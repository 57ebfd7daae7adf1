"""Windows until a page, on real text with a change in it; one JSON line a stream.

python -m tests.benchmarks.delay [--quick] [--runs 40] [--first-seed 0] [--only WORDS]
The head, its hold-out and the rows are drawn afresh in every run. Ten clean windows come first; a page among
them is early. `loss` counts pages whose cause means loss (drift, accuracy), `page` any.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.tallies import Tally
from tests.benchmarks import streams
from tests.benchmarks.follow import Followed, answered, follow, windows
from tests.benchmarks.streams import Pool, Stream

Change = Callable[[Pool, np.random.Generator], Pool]
CLEAN_WINDOWS = 10
CHANGED_WINDOWS = 10
LABELLED = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    base: Callable[[], Pool]
    change: Change
    window: int = 300
    reference: int = 1000
    clean_windows: int = CLEAN_WINDOWS
    labels: bool = False
    channel: str = ""  # a domain whose rows are a slice
    goal: str = ""


def new_intents(share: float) -> Change:
    def change(rest: Pool, rng: np.random.Generator) -> Pool:
        other = streams.shuffled(streams.clinc()[1], rng)
        return streams.shuffled(streams.mixed(rest, other, share), rng)

    return change


def new_intents_in(domain: str, share: float) -> Change:
    """Only rows of one domain change, and `share` of those."""

    def change(rest: Pool, rng: np.random.Generator) -> Pool:
        other = streams.clinc()[1]
        fresh = streams.shuffled(other.take(np.flatnonzero(other.truth == domain)), rng)
        own = rest.truth == domain
        gone = rng.permutation(np.flatnonzero(own))[: min(fresh.size, round(share * own.sum()))]
        kept = rest.take(np.setdiff1d(np.arange(rest.size), gone))
        return streams.shuffled(streams.joined(kept, fresh.take(np.arange(gone.size))), rng)

    return change


def replaced_by(other: Callable[[], Pool]) -> Change:
    return lambda rest, rng: streams.shuffled(other(), rng)


def relabelled(pairs: dict[str, str]) -> Change:
    def change(rest: Pool, rng: np.random.Generator) -> Pool:
        truth = np.array([pairs.get(name, name) for name in rest.truth.tolist()])
        return Pool(embedding=rest.embedding, truth=truth, described=rest.described)

    return change


def prior_shift(times: float, classes: int = 3) -> Change:
    """The first classes come `times` as often as before."""

    def change(rest: Pool, rng: np.random.Generator) -> Pool:
        often = np.isin(rest.truth, sorted(set(rest.truth.tolist()))[:classes])
        weight = np.where(often, times, 1.0)
        order = np.argsort(-np.log(rng.random(rest.size)) / weight)  # exponential races: without replacement
        return rest.take(order[: round(rest.size * 0.3)])

    return change


def cases() -> list[Case]:
    known = lambda: streams.clinc()[0]  # noqa: E731
    swap = {"banking": "credit_cards", "credit_cards": "banking", "work": "utility", "utility": "work"}
    moved = {"banking": "credit_cards", "work": "utility"}
    return [
        Case(name="clinc new intents 25 %", base=known, change=new_intents(0.25), goal="<= 2 in 90 %"),
        Case(name="clinc new intents 10 %", base=known, change=new_intents(0.1), goal="median <= 6"),
        *(
            Case(
                name=f"clinc new intents in half of a tenth of the traffic, {told}",
                base=known,
                change=new_intents_in("banking", 0.5),
                channel=channel,
                goal="sooner with slices",
            )
            for channel, told in (("", "no slices"), ("banking", "a slice"))
        ),
        Case(
            name="clinc typos 5 %",
            base=known,
            change=replaced_by(lambda: streams.clinc_typos()[1]),
            goal="<= 2",
        ),
        Case(
            name="xlmt English to Spanish",
            base=lambda: streams.sentiment()[0],
            change=replaced_by(lambda: streams.sentiment()[1]),
            reference=500,
            clean_windows=3,
            goal="<= 2",
        ),
        Case(
            name="vader tweets to movie reviews",
            base=lambda: streams.reviews()[0],
            change=replaced_by(lambda: streams.reviews()[1]),
            reference=500,
            clean_windows=3,
            goal="<= 2",
        ),
        Case(
            name="clinc labels swapped, 20 % a window late",
            base=known,
            change=relabelled(swap),
            labels=True,
            goal="<= 4",
        ),
        Case(
            name="clinc labels of two classes moved, 20 % a window late",
            base=known,
            change=relabelled(moved),
            labels=True,
        ),
        Case(
            name="clinc prior shift x12", base=known, change=prior_shift(12), goal="no page that means loss"
        ),
        Case(name="clinc unchanged", base=known, change=lambda rest, _: rest, goal="no page"),
        Case(
            name="clinc unchanged, a slice",
            base=known,
            change=lambda rest, _: rest,
            channel="banking",
            goal="no page",
        ),
    ]


def tallies(case: Case, stream: Stream, rng: np.random.Generator) -> Iterator[Sequence[Tally]]:
    """Predictions of each window and, where the case has labels, the labels of the window before."""
    clean = case.clean_windows * case.window
    placed = np.concatenate([stream.clean[:clean], stream.changed])
    right = np.concatenate([stream.clean_right[:clean], stream.changed_right])
    last = case.clean_windows + CHANGED_WINDOWS
    slices = None
    if case.channel:
        own = stream.truth[: len(placed)] == case.channel
        slices = np.where(own, "channel=a", "channel=b")
    for number, tally in enumerate(windows(stream.sketch, placed, case.window, slices=slices)[:last]):
        given = [tally]
        if case.labels and number:
            before = right[(number - 1) * case.window : number * case.window]
            sample = before[rng.random(before.size) < LABELLED]
            given.append(answered(sample, first_seq=tally.first_seq))
        yield given


def measure(case: Case, runs: int, *, first_seed: int = 0) -> dict[str, object]:
    found: list[Followed] = []
    began = time.process_time()
    for seed in range(first_seed, first_seed + runs):
        stream = streams.run(
            case.base(),
            case.change,
            reference=case.reference,
            clean=case.clean_windows * case.window,
            seed=seed,
        )
        given = tallies(case, stream, np.random.default_rng(seed))
        found.append(follow(stream.sketch, given, run=seed, keys=int(bool(case.channel))))
    first = Counter(name for one in found for name, at in one.by_detector.items() if at == one.page)
    return {
        "stream": case.name,
        "goal": case.goal,
        "runs": runs,
        "first_seed": first_seed,
        "window": case.window,
        "reference": case.reference,
        "page": summary([one.page for one in found], case.clean_windows),
        "loss": summary([one.loss for one in found], case.clean_windows),
        "paged_first": dict(first.most_common()),
        "paged_at_all": dict(Counter(name for one in found for name in one.by_detector).most_common()),
        "drift_reported": dict(Counter(name for one in found for name in one.drifted).most_common()),
        "cpu_s": round(time.process_time() - began, 1),
    }


def summary(pages: Sequence[int | None], clean: int) -> dict[str, float]:
    """Windows after the change until the page."""
    delay = np.array([np.inf if page is None else page - clean for page in pages])
    late = delay[delay > 0]
    return {
        "early": int((delay <= 0).sum()),
        "paged": float(np.isfinite(delay).mean()),
        "median": float(np.median(late)) if late.size else float("nan"),
        "p90": float(np.quantile(late, 0.9, method="higher")) if late.size else float("nan"),
        "within_2": float(((delay > 0) & (delay <= 2)).mean()),
        "within_4": float(((delay > 0) & (delay <= 4)).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="four runs a stream")
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    for case in cases():
        if chosen.only in case.name:
            found = measure(case, 4 if chosen.quick else chosen.runs, first_seed=chosen.first_seed)
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
