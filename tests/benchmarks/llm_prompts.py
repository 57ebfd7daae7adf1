"""Real dated prompts to language models: when is their change of 2025-12 paged, and is their shuffle ever?

python -m tests.benchmarks.llm_prompts [--shuffles 50]
Nothing is known but the prompts: 67 stand for those that the model was tuned on, 200 older ones are the
reference, and the rest arrive in windows of 100. The control deals all rows out at random instead.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import numpy.typing as npt

from exporter.sketch import fit_sketch
from exporter.sketches import ReplayedRow
from monitor.ranks import Ints
from tests.benchmarks import texts
from tests.benchmarks.follow import Followed, follow, windows
from tests.benchmarks.streams import Pool, pool_of

CHANGE, WINDOW, TUNED_ON = "2025-12", 100, 67
ANSWER = "answer"  # what the model says is not looked at here: one class, always certain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shuffles", type=int, default=50)
    chosen = parser.parse_args()
    rows = sorted(texts.read("llm_prompts_dated"), key=lambda row: str(row["date"]))
    pool = pool_of([row["prompt"] for row in rows], [ANSWER] * len(rows))
    before = sum(row["date"] < CHANGE for row in rows)
    dated = [paged(pool, np.arange(len(rows)), before, seed) for seed in range(10)]
    orders = (np.random.default_rng(seed).permutation(len(rows)) for seed in range(chosen.shuffles))
    control = [paged(pool, order, before, seed) for seed, order in enumerate(orders)]
    told = {
        "stream": "llm_prompts_dated", "window": WINDOW, "prompts": len(rows), "before": before,
        "dated_paged_in_window": [one.page for one in dated],
        "dated_paged_by": sorted(name for name, at in dated[0].by_detector.items() if at == dated[0].page),
        "shuffles": len(control), "shuffles_paged": sum(one.page is not None for one in control),
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


def paged(pool: Pool, order: Ints, before: int, seed: int) -> Followed:
    """The pager's way through one order of the prompts, the first `before` of which are known."""
    known = np.random.default_rng(seed).permutation(order[:before])
    tuned_on = pool.embedding[known[:TUNED_ON]]
    held = answered(pool.take(known[TUNED_ON:]), tuned_on)
    sketch = fit_sketch(held, [ANSWER] * len(held), (ANSWER,), nearest=tuned_on)
    arriving = sketch.place(answered(pool.take(order[before:]), tuned_on))
    return follow(sketch, [[tally] for tally in windows(sketch, arriving, WINDOW)], run=seed)


def answered(pool: Pool, nearest: npt.NDArray[np.float16]) -> list[ReplayedRow]:
    near = (pool.embedding.astype(np.float32) @ nearest.astype(np.float32).T).max(axis=1)
    return [
        ReplayedRow(
            label=ANSWER,
            score=1.0,
            similarity=float(similarity),
            characters=characters,
            embedding=vector.astype("<f2").tobytes(),
            descriptors=descriptors,
            words=words,
        )
        for similarity, vector, (descriptors, words, characters) in zip(
            near, pool.embedding, pool.described, strict=True
        )
    ]


if __name__ == "__main__":
    main()
