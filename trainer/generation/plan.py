"""The steps of a whole fit, laid down before the first: the same rows, settings and seed give the same plan.

So a fit that died at step n goes on at step n, and the time left is known from the first step on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from trainer.generation.packing import bucketed, packed
from trainer.generation.rows import Sample
from trainer.generation.settings import GenerationFit
from trainer.generation.template import Tokens

Lines = list[list[int]]  # of one forward pass
Step = list[Lines]
BUCKET = 512  # rows that are sorted by length together: all of them would make every epoch alike


def plan(rows: Sequence[Tokens], fit: GenerationFit) -> list[Step]:
    """Forward passes of every step; each row comes once an epoch."""
    rng = np.random.default_rng(fit.seed)
    return [step for _ in range(fit.epochs) for step in _epoch(rows, fit, rng)]


def _epoch(rows: Sequence[Tokens], fit: GenerationFit, rng: np.random.Generator) -> list[Step]:
    order = rng.permutation(len(rows))
    width = min(fit.pass_tokens, fit.batch_tokens)
    passes: list[Lines] = []
    if fit.batching == "packed":
        passes = [[line] for line in packed(rows, width, order)]
    else:
        for start in range(0, len(order), BUCKET):
            batches = bucketed(rows, width, order[start : start + BUCKET])
            passes += [[[row] for row in batch] for batch in batches]
    return _grouped([passes[number] for number in rng.permutation(len(passes))], rows, fit.batch_tokens)


def _grouped(passes: Iterable[Lines], rows: Sequence[Tokens], tokens: int) -> list[Step]:
    """Passes together until the next one would exceed a step's tokens."""
    steps: list[Step] = []
    room = 0
    for one in passes:
        size = sum(len(rows[row].ids) for line in one for row in line)
        if not steps or size > room:
            steps.append([])
            room = tokens
        steps[-1].append(one)
        room -= size
    return steps


def split(rows: Sequence[Tokens], fit: GenerationFit) -> tuple[list[Tokens], list[Tokens]]:
    """(rows to learn, rows to choose the weights by), drawn by the seed; all to learn without patience.

    >>> rows = [Tokens(ids=(number,), learnt=(True,)) for number in range(40)]
    >>> [len(part) for part in split(rows, GenerationFit())], len(split(rows, GenerationFit(patience=0))[1])
    ([36, 4], 0)
    """
    count = round(fit.validation_share * len(rows)) if fit.patience else 0
    chosen = set(np.random.default_rng(fit.seed).permutation(len(rows))[:count].tolist())
    return (
        [row for number, row in enumerate(rows) if number not in chosen],
        [rows[number] for number in sorted(chosen)],
    )


def rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the learning rate at a step from 0: a linear warm-up, then half a cosine to zero.

    >>> [round(rate(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    warm = math.ceil(warm_up * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def replayed(samples: Sequence[Sample], limit: int | None, *, seed: int) -> list[Sample]:
    """All rows of traffic and at most `limit` base rows, drawn by `seed`, in their order.

    >>> from trainer.generation.rows import chat
    >>> base = [chat(("user", str(n)), ("assistant", "yes")) for n in range(9)]
    >>> len(replayed(base, 4, seed=0)), len(replayed(base, None, seed=0))
    (4, 9)
    """
    base = [number for number, one in enumerate(samples) if one.origin == "base"]
    if limit is None or len(base) <= limit:
        return list(samples)
    drawn = set(np.random.default_rng(seed).permutation(base)[:limit].tolist())
    return [one for number, one in enumerate(samples) if one.origin == "traffic" or number in drawn]
