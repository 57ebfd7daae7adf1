"""The pager's operating characteristics on simulated streams: false pages over a stream's life, and delay.

Run: python tests/benchmarks/pager.py [null|delay|rate|long] [--streams N]. One JSON line a cell.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time

import numpy as np

from monitor import pager, ranks
from monitor.pager import Wealth
from monitor.ranks import Bet, Floats


def thresholds(reference: Floats, m: list[int]) -> Floats:
    """[S, K - 1]: the reference rows that part the bins, from sorted rows [S, n]."""
    return reference[:, np.cumsum(m)[:-1] - 1]


def counted(parted: Floats, rows: Floats) -> Floats:
    """[S, K]: rows [S, w] of each stream in bins between thresholds [S, K - 1]."""
    below = np.stack([(rows < edge[:, None]).sum(axis=1) for edge in parted.T], axis=1)
    edges = np.concatenate([np.zeros((len(rows), 1)), below, np.full((len(rows), 1), rows.shape[1])], axis=1)
    return np.diff(edges, axis=1)


def draw(rng: np.random.Generator, size: tuple[int, int], kind: str, change: float) -> Floats:
    """kind "shift": normal rows moved down by `change` sd; "rate": right with probability 0.95 - change, ties
    broken.
    """
    if kind == "shift":
        return rng.normal(size=size) - change
    return (rng.random(size) < 0.95 - change) + rng.random(size) / 2


def follow(
    bet: Bet,
    *,
    reference_rows: int,
    window: int,
    windows: int,
    streams: int,
    kind: str = "shift",
    change: float = 0.0,
    change_at: int = 0,
    seed: int = 0,
) -> tuple[Floats, Wealth]:
    """Return log e after each window, [S, windows], and the wealth at the end."""
    rng = np.random.default_rng(seed)
    m = ranks.gaps(reference_rows, bet)
    parted = thresholds(np.sort(draw(rng, (streams, reference_rows), kind, 0.0), axis=1), m)
    wealth = pager.new_wealth(m, bet, streams=(streams,))
    path = np.empty((streams, windows))
    for t in range(windows):
        rows = draw(rng, (streams, window), kind, change if t >= change_at else 0.0)
        wealth = wealth.update(counted(parted, rows))
        path[:, t] = wealth.log_e
    return path, wealth


def null_table(streams: int) -> None:
    for bet in ("down", "any"):
        for reference_rows in (100, 300, 1000):
            began = time.process_time()
            ever = np.concatenate(
                [
                    follow(
                        bet, reference_rows=reference_rows, window=100, windows=100, streams=250, seed=part
                    )[0].max(axis=1)
                    for part in range(streams // 250)
                ]
            )
            pages = {str(a): float((ever >= -math.log(a)).mean()) for a in (0.05, 0.01)}
            say(
                bet=bet,
                reference=reference_rows,
                streams=ever.size,
                ever_paged=pages,
                cpu_s=time.process_time() - began,
            )


def delay_table(streams: int, kind: str, changes: tuple[float, ...], alpha: float = 0.01) -> None:
    line = -math.log(alpha) + math.log(4)  # four detectors share the page
    for reference_rows in (100, 300, 1000):
        for window in (100, 200, 500):
            for change in changes:
                for change_at in (0, 20):
                    path, _ = follow(
                        "down",
                        reference_rows=reference_rows,
                        window=window,
                        windows=change_at + 40,
                        streams=streams,
                        kind=kind,
                        change=change,
                        change_at=change_at,
                        seed=1,
                    )
                    paged = path >= line
                    found = paged.any(axis=1)
                    delay = np.where(found, paged.argmax(axis=1) - change_at + 1, np.inf)
                    say(
                        kind=kind,
                        reference=reference_rows,
                        window=window,
                        change=change,
                        change_at=change_at,
                        detected=float(found.mean()),
                        median=float(np.median(delay)),
                        p90=float(np.quantile(delay, 0.9, method="higher")),
                        early=float((delay < 1).mean()),
                    )


def long_table() -> None:
    """A year of hourly windows against 100 reference rows."""
    path, _ = follow("down", reference_rows=100, window=100, windows=8760, streams=40)
    say(
        kind="long",
        rows=8760 * 100,
        ever_paged=float((path.max(axis=1) >= math.log(100)).mean()),
        last=float(np.median(path[:, -1])),
    )


def say(**figures: object) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["null", "delay", "rate", "long"])
    parser.add_argument("--streams", type=int, default=1000)
    chosen = parser.parse_args()
    if chosen.table == "null":
        null_table(chosen.streams)
    elif chosen.table == "long":
        long_table()
    elif chosen.table == "delay":
        delay_table(chosen.streams, "shift", (0.2, 0.4, 1.0))
    else:
        delay_table(chosen.streams, "rate", (0.05, 0.1, 0.2))


if __name__ == "__main__":
    main()
