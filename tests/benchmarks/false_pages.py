"""How many clean streams are ever paged: simulated, shuffled real text, and strongly seasonal.

python -m tests.benchmarks.false_pages [simulated|rivals|text|seasonal] [--quick]     one JSON line a cell
The page is the product's: weighted bets of every detector, alpha = 0.01 for a whole stream.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np

from exporter.sketch import Sketch, fit_sketch
from exporter.sketches import ReplayedRow
from monitor import pager
from monitor.evidence import bettors, judge_window, open_wealth, weighted
from monitor.pager import page_line
from monitor.ranks import Bet, Floats, Ints
from monitor.reference import Reference
from monitor.settings import Season
from monitor.tallies import Tally
from tests.benchmarks import streams as real
from tests.benchmarks.follow import ALPHA, follow, windows
from tests.benchmarks.pager import follow as follow_simulated
from tests.benchmarks.pager import say
from tests.benchmarks.rivals import ever_fires

WINDOWS = 100
_PART = 125  # streams at a time: memory


def simulated(streams: int, window: int, *, reference: int = 500) -> None:
    """Independent detectors, the hardest case for their union: each draws a stream of its bet's kind."""
    began = time.process_time()
    bets: tuple[Bet, ...] = ("down", "both", "any")
    highest = {bet: _highest(bet, streams, window, reference) for bet in bets}
    highest["rate"] = _highest_rate(streams, window)
    rng = np.random.default_rng(1)
    score = np.full(streams, -np.inf)
    for one in bettors():
        assert one.bet is not None
        own = highest["down" if one.bet == "up" else one.bet]  # "up" mirrors "down"
        score = np.maximum(score, weighted(one.name, 0.0) + rng.permutation(own))
    say(
        table="false pages, simulated",
        rule="trueup",
        reference=reference,
        window=window,
        windows=WINDOWS,
        streams=streams,
        ever_paged=float((score >= page_line(ALPHA)).mean()),
        one_detector={bet: float((log_e >= page_line(ALPHA)).mean()) for bet, log_e in highest.items()},
        cpu_s=round(time.process_time() - began, 1),
    )


def _highest(bet: Bet, streams: int, window: int, reference: int) -> Floats:
    """The highest log e of each clean stream: [streams]."""
    parts = [
        follow_simulated(
            bet, reference_rows=reference, window=window, windows=WINDOWS, streams=_PART, seed=part
        )[0].max(axis=1)
        for part in range(math.ceil(streams / _PART))
    ]
    return np.concatenate(parts)[:streams]


def _highest_rate(streams: int, window: int) -> Floats:
    """The highest log e of clean streams whose requests fail exactly as often as they may: [streams]."""
    rng = np.random.default_rng(2)
    wealth = pager.new_wealth([1, 99], "rate", streams=(streams,))
    highest = np.full(streams, -np.inf)
    for failed in rng.binomial(window, 0.01, size=(WINDOWS, streams)):
        wealth = wealth.update(np.stack([failed, window - failed], axis=-1).astype(np.float64))
        highest = np.maximum(highest, wealth.log_e)
    return highest


def rivals(streams: int, window: int, *, reference: int = 500) -> None:
    began = time.process_time()
    found = ever_fires(reference=reference, window=window, windows=WINDOWS, streams=streams)
    cost = round(time.process_time() - began, 1)
    say(
        table="false pages, simulated",
        rule="rivals",
        reference=reference,
        window=window,
        windows=WINDOWS,
        streams=streams,
        **found,
        cpu_s=cost,
    )


def text(shuffles: int, *, window: int = 200, reference: int = 1000, heads: int = 10) -> None:
    """CLINC150's known intents in random order: head, hold-out and stream are never the same rows."""
    began, paged, seen = time.process_time(), 0, 0
    pool = real.clinc()[0]
    for seed in range(heads):
        order = np.random.default_rng(seed).permutation(pool.size)
        head = real.train(pool.take(order[: real.TRAIN_ROWS]))
        rest = pool.take(order[real.TRAIN_ROWS :])
        rows = head.answer(rest)
        for shuffle in range(shuffles // heads):
            own = np.random.default_rng([seed, shuffle]).permutation(rest.size)
            held = [rows[row] for row in own[:reference].tolist()]
            truth = rest.truth[own[:reference]].tolist()
            sketch = fit_sketch(held, truth, head.labels, nearest=head.nearest)
            placed = sketch.place([rows[row] for row in own[reference:].tolist()])
            given = ([tally] for tally in windows(sketch, placed, window))
            paged += follow(sketch, given, run=1000 * seed + shuffle).page is not None
            seen = len(placed) // window
    say(
        table="false pages, shuffled CLINC150",
        reference=reference,
        window=window,
        windows=seen,
        streams=shuffles,
        ever_paged=paged / shuffles,
        cpu_s=round(time.process_time() - began, 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Texts whose similarity, confidence and classes follow the hour of the day."""

    swing: float  # sd between noon and midnight, each way
    rows_an_hour: int

    def hour(self, rng: np.random.Generator, hour: int) -> list[ReplayedRow]:
        high = self.swing * math.sin(2 * math.pi * (hour % 24) / 24)
        share = 0.5 + 0.35 * math.sin(2 * math.pi * (hour % 24) / 24)
        similarity, score = rng.normal(size=(2, self.rows_an_hour))
        label = rng.random(self.rows_an_hour) < share
        return [
            ReplayedRow(
                label="yes" if yes else "no",
                score=1 / (1 + math.exp(-2 - high - b)),
                similarity=0.6 + 0.1 * (a + high),
                characters=40,
            )
            for a, b, yes in zip(similarity.tolist(), score.tolist(), label.tolist(), strict=True)
        ]


def seasonal(streams: int, season: Season, *, swing: float = 1.5, hours_a_window: int = 2) -> None:
    """Windows of two hours, a hundred of them, after a hold-out drawn from all hours and a first day."""
    began, paged = time.process_time(), 0
    day = Day(swing=swing, rows_an_hour=50)
    for seed in range(streams):
        rng = np.random.default_rng(seed)
        held = [row for hour in range(24) for row in day.hour(rng, hour)[:20]]
        sketch = fit_sketch(held, [None] * len(held), ("no", "yes"))
        first = {hour: _counted(sketch, day.hour(rng, hour)) for hour in range(24)}
        reference = Reference(
            model=f"stream {seed}",
            version="v1",
            sketch=sketch,
            season=season,
            strata=first if season != "none" else {},
        )
        paged += _ever_paged(reference, day, rng, hours_a_window)
    say(
        table="false pages, seasonal",
        season=season,
        swing_sd=swing,
        window=hours_a_window * day.rows_an_hour,
        windows=WINDOWS,
        streams=streams,
        ever_paged=paged / streams,
        cpu_s=round(time.process_time() - began, 1),
    )


def _ever_paged(reference: Reference, day: Day, rng: np.random.Generator, hours: int) -> bool:
    bet = [one for one in bettors() if one.name in ("similarity", "confidence", "class_mix")]
    held = {one.name: open_wealth(one, reference) for one in bet}
    for number in range(WINDOWS):
        span = range(24 + number * hours, 24 + (number + 1) * hours)
        counts = {hour % 24: _counted(reference.sketch, day.hour(rng, hour)) for hour in span}
        strata = counts if reference.season != "none" else {0: np.sum(list(counts.values()), axis=0)}
        rows = hours * day.rows_an_hour
        window = Tally(places=reference.sketch.places, strata=strata, rows=rows, first_seq=1 + number * rows)
        for one in bet:
            _, wealth = judge_window(one, window, reference, held[one.name], minimum=30)
            assert wealth is not None
            held[one.name] = wealth
            if weighted(one.name, wealth.log_e) >= page_line(ALPHA):
                return True
    return False


def _counted(sketch: Sketch, rows: list[ReplayedRow]) -> Ints:
    return sketch.count(sketch.place(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", choices=["simulated", "rivals", "text", "seasonal"])
    parser.add_argument("--quick", action="store_true", help="a tenth of the streams")
    parser.add_argument("--window", type=int, choices=[100, 500])
    chosen = parser.parse_args()
    share = 10 if chosen.quick else 1
    sizes = [chosen.window] if chosen.window else [100, 500]
    if chosen.table in (None, "simulated"):
        for window in sizes:
            simulated(1000 // share, window)
    if chosen.table in (None, "rivals"):
        for window in sizes:
            rivals(1000 // share, window)
    if chosen.table in (None, "seasonal"):
        seasonal(200 // share, "hour-of-day")
        seasonal(200 // share, "none")
    if chosen.table in (None, "text"):
        text(200 // share)


if __name__ == "__main__":
    main()
