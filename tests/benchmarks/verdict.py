"""How often a verdict is right, by simulation: the figures of the offline tests and of the canary.

Usage: python -m tests.benchmarks.verdict [--quick]
prints one JSON document. Traffic: both models answer the same rows; `discordance` is the share of rows that
only one of them has right.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.canary import Row, differences, log_wealth
from monitor.verdict import Intent, Pairs, judge_accuracy, judge_slices, mcnemar_mid_p

RIGHT = 0.88  # accuracy of the champion
DISCORDANCE = 0.06
MARGIN = 0.03
CLASSES, CHANNELS = 10, 4
ALPHA = 0.05

Ints = npt.NDArray[np.int64]


def outcomes(rng: np.random.Generator, rows: int, gain: float) -> Ints:
    """[rows] 0 both right, 1 only the champion, 2 only the challenger, 3 neither."""
    lost, won = (DISCORDANCE - gain) / 2, (DISCORDANCE + gain) / 2
    return rng.choice(4, size=rows, p=[RIGHT - lost, lost, won, 1 - RIGHT - won])


def pairs(cells: Ints) -> Pairs:
    both, champion, challenger, neither = (int(n) for n in np.bincount(cells, minlength=4))
    return Pairs(both=both, only_champion=champion, only_challenger=challenger, neither=neither)


def slices(rng: np.random.Generator, recent: Ints, base: Ints) -> dict[str, Pairs]:
    """Classes of both parts and two metadata fields that overlap them, as `slice_pairs` cuts them."""
    found: dict[str, Pairs] = {}
    for name, cells in (("recent", recent), ("old", base)):
        kind = rng.integers(CLASSES, size=len(cells))
        found |= {f"{name} class {k}": pairs(cells[kind == k]) for k in range(CLASSES)}
    channel, hour = rng.integers(CHANNELS, size=len(recent)), rng.integers(3, size=len(recent))
    found |= {f"channel {k}": pairs(recent[channel == k]) for k in range(CHANNELS)}
    found |= {f"hour {k}": pairs(recent[hour == k]) for k in range(3)}
    return {name: one for name, one in found.items() if one.rows >= 30}


def cell(intent: Intent, *, recent_gain: float, base_gain: float, rows: int, runs: int) -> dict[str, Any]:
    """Shares over `runs` of what the whole verdict and its parts say; both slices of `rows`."""
    rng = np.random.default_rng(11)
    promoted = accurate = blocked = 0
    for _ in range(runs):
        recent, base = outcomes(rng, rows, recent_gain), outcomes(rng, rows, base_gain)
        passed = judge_accuracy(intent, recent=pairs(recent), base=pairs(base), margin=MARGIN).promote
        harmless = judge_slices(slices(rng, recent, base)).passed
        promoted += passed and harmless
        accurate += passed
        blocked += not harmless
    return {
        "intent": intent,
        "recent_gain": recent_gain,
        "base_gain": base_gain,
        "rows": rows,
        "runs": runs,
        "promoted": promoted / runs,
        "passed_accuracy": accurate / runs,
        "blocked_by_a_slice": blocked / runs,
    }


def exact_size(rows: int, discordance: float, gain: float = 0.0) -> float:
    """Chance that the McNemar test finds a gain, by summing over every outcome."""
    share = (discordance + gain) / (2 * discordance)
    total = 0.0
    for n in range(1, rows + 1):
        chance = _binomial(rows, n, discordance)
        if chance < 1e-12:
            continue
        won = [c for c in range(n + 1) if mcnemar_mid_p(n - c, c) < ALPHA]
        total += chance * sum(_binomial(n, c, share) for c in won)
    return total


def _binomial(n: int, k: int, p: float) -> float:
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def canary_cell(
    *, canary: float, champion: float = 0.9, share: float = 0.1, rows: int, runs: int, paired: bool = False
) -> dict[str, Any]:
    """How streams of labelled rows end that are looked at after every one, and after how many rows."""
    rng = np.random.default_rng(7)
    ends: dict[str, list[float]] = {"promote": [], "roll back": []}
    for _ in range(runs):
        gains, step = (
            _shadow(rng, canary - champion, rows) if paired else _split(rng, champion, canary, share, rows)
        )
        harm = np.flatnonzero(log_wealth([-gain for gain in gains], mean=0.0) >= math.log(2 / ALPHA))
        good = np.flatnonzero(log_wealth(gains, mean=-MARGIN) >= math.log(1 / ALPHA))
        first = [float(found[0]) if found.size else math.inf for found in (good, harm)]
        if min(first) < math.inf:
            ends["promote" if first[0] < first[1] else "roll back"].append((min(first) + 1) * step)
    return {
        "design": "shadow, both answer" if paired else f"split, canary {share:.0%}",
        "champion": champion,
        "canary": canary,
        "rows": rows,
        "runs": runs,
        **{
            name.replace(" ", "_"): {
                "share": round(len(found) / runs, 4),
                "median_labelled_rows": round(float(np.median(found))) if found else None,
            }
            for name, found in ends.items()
        },
    }


def _split(
    rng: np.random.Generator, champion: float, canary: float, share: float, rows: int
) -> tuple[list[float], float]:
    arms, luck = rng.random(rows) < share, rng.random(rows)
    gains = differences(
        Row("canary", float(one < canary)) if arm else Row("champion", float(one < champion))
        for arm, one in zip(arms, luck, strict=True)
    )
    return gains, rows / max(1, len(gains))


def _shadow(rng: np.random.Generator, gain: float, rows: int) -> tuple[list[float], float]:
    discordance = max(DISCORDANCE, abs(gain))
    lost, won = (discordance - gain) / 2, (discordance + gain) / 2
    return rng.choice([-1.0, 0.0, 1.0], size=rows, p=[lost, 1 - lost - won, won]).tolist(), 1.0


def figure(found: dict[str, Any], name: str, wanted: str) -> dict[str, Any]:
    """A wanted figure and what was simulated."""
    share, runs = found[name], found["runs"]
    error = math.sqrt(max(share, 1 / runs) * (1 - share) / runs)
    return {"simulated": share, "standard_error": round(error, 4), "runs": runs, "wanted": wanted}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A tenth of the runs.")
    runs = 400 if parser.parse_args().quick else 4000
    began = time.process_time()
    cells = [
        cell("drift", recent_gain=0.0, base_gain=0.0, rows=1000, runs=4 * runs),
        cell("drift", recent_gain=0.0, base_gain=0.0, rows=300, runs=runs),
        cell("drift", recent_gain=0.02, base_gain=0.0, rows=1000, runs=runs),
        cell("drift", recent_gain=0.02, base_gain=-0.03, rows=1000, runs=runs),
        cell("refresh", recent_gain=0.0, base_gain=0.0, rows=1000, runs=runs),
        cell("refresh", recent_gain=-0.03, base_gain=0.0, rows=1000, runs=runs),
    ]
    canaries = [
        canary_cell(canary=canary, paired=paired, rows=20_000 // (4 if paired else 1), runs=runs // 10)
        for paired in (False, True)
        for canary in (0.92, 0.9, 0.885, 0.87, 0.8)
    ]
    json.dump(
        {
            "figures": {
                "a_a_promoted": figure(cells[0], "promoted", "<= 0.05"),
                "equal_slices_blocked": figure(cells[0], "blocked_by_a_slice", "<= 0.05"),
                "two_points_found": figure(cells[2], "promoted", ">= 0.80"),
            },
            "better_on_recent_exact": {  # without simulation; the other checks can only refuse
                "a_a_by_discordance": {share: exact_size(1000, share) for share in (0.02, 0.06, 0.1)},
                "a_a_300_rows": exact_size(300, DISCORDANCE),
                "two_points": exact_size(1000, DISCORDANCE, 0.02),
            },
            "verdicts": cells,
            "canary": canaries,
            "cpu_s": round(time.process_time() - began, 1),
        },
        sys.stdout,
        indent=2,
    )  # fmt: skip
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
