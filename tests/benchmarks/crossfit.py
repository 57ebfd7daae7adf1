"""How often a cross-fitted verdict promotes a challenger that is no better, on real embeddings.

Usage: python -m tests.benchmarks.crossfit [--quick]
prints a JSON line for each number of recent labels. Every run draws the champion's training rows, the recent
rows and a hold-out anew from one topic's movie reviews, before anything changes. "equal": the challenger
learns the recent rows instead of as many old ones, so that it is no better. "more": it learns them as well,
as a retrain does; what is promoted then has learnt more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from monitor.backtest.past import read_history
from monitor.verdict import judge_accuracy, mcnemar_mid_p, pair
from tests.benchmarks.histories import CLEAN, TRAIN, write
from tests.benchmarks.texts import embedded
from trainer.crossfit import out_of_fold
from trainer.head import fit_head

HISTORY = "vader movie to tweet"
OLD, HELD = 1200, 300
MARGIN, LEVEL = 0.03, 0.05
Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A tenth of the runs.")
    runs = 40 if parser.parse_args().quick else 400
    with tempfile.TemporaryDirectory() as folder:
        events = read_history(write(HISTORY, Path(folder)).file)
    texts = [event.text for event in events]
    rows = embedded(texts).astype(np.float32)[: TRAIN + CLEAN]
    names = sorted({event.label for event in events})
    truth = np.array([names.index(event.label) for event in events[: TRAIN + CLEAN]])
    for recent in (240, 900):
        print(json.dumps(shares(texts, rows, truth, recent, runs)), flush=True)


def shares(texts: list[str], rows: Array, truth: Array, recent: int, runs: int) -> dict[str, Any]:
    """Shares of `runs` that are promoted, and whose recent test alone finds a gain."""
    rng, began = np.random.default_rng(5), time.process_time()
    told = {"equal": [0, 0], "more": [0, 0]}
    for _ in range(runs):
        old, new, held, _ = np.split(rng.permutation(len(rows)), np.cumsum([OLD, recent, HELD]))
        champion = fit_head(rows[old], truth[old], classes=2)
        for name, kept in (("equal", old[recent:]), ("more", old)):
            found, better = _judged(texts, rows, truth, np.concatenate([kept, new]), new, held, champion)
            told[name][0] += found
            told[name][1] += better
    return {
        "recent": recent,
        "runs": runs,
        **{
            name: {"promoted": counts[0] / runs, "better_on_recent": counts[1] / runs}
            for name, counts in told.items()
        },
        "cpu_s": round(time.process_time() - began, 1),
    }


def _judged(
    texts: list[str], rows: Array, truth: Array, learnt: Array, new: Array, held: Array, champion: Any
) -> tuple[bool, bool]:
    """Whether a drift retrain would be promoted, and found better on recent rows."""
    unseen = out_of_fold(
        [texts[row] for row in new], [texts[row] for row in learnt], rows[learnt], truth[learnt], classes=2
    )
    asked = new[unseen.rows]
    right = unseen.logits.argmax(axis=1) == truth[asked]
    recent = pair(_right(champion, rows, truth, asked), right.tolist())
    challenger = fit_head(rows[learnt], truth[learnt], classes=2)
    base = pair(_right(champion, rows, truth, held), _right(challenger, rows, truth, held))
    verdict = judge_accuracy("drift", recent=recent, base=base, margin=MARGIN)
    return verdict.promote, mcnemar_mid_p(recent.only_champion, recent.only_challenger) < LEVEL


def _right(head: Any, rows: Array, truth: Array, asked: Array) -> list[bool]:
    found: list[bool] = (head.logits(rows[asked]).argmax(axis=1) == truth[asked]).tolist()
    return found


if __name__ == "__main__":
    main()
