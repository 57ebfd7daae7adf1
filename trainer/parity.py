"""Proof that the exported graph answers as the trained model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import Parity
from trainer.encoder import pool
from trainer.errors import ParityError
from trainer.fit import Fitted
from trainer.graph import Graph
from trainer.spec import GateTable
from trainer.tokens import padded

Array = np.ndarray[Any, np.dtype[Any]]


def parity(fitted: Fitted, path: Path, ids: Sequence[list[int]], gate: GateTable, *, threads: int) -> Parity:
    """Compare logits over texts, in mixed batches and one alone; ParityError beyond the gate."""
    graph = Graph(path, threads=threads)
    worst, agreed = 0.0, 0
    for batch in [ids[:1], *(ids[start : start + 16] for start in range(1, len(ids), 16))]:
        ours, theirs = torch_logits(fitted, batch), graph.run(batch)[0]
        worst = float(np.maximum(worst, np.abs(ours - theirs).max()))  # unlike max, it hands NaN on
        agreed += int((ours.argmax(1) == theirs.argmax(1)).sum())
    agreement = agreed / len(ids)
    # NaN compares false with everything, so the comparison is written to refuse it.
    if not (worst <= gate.parity_max_abs and agreement >= gate.label_agreement):
        raise ParityError(worst, gate.parity_max_abs, agreement, gate.label_agreement)
    return Parity(max_abs=worst, label_agreement=agreement, rows=len(ids))


def probes(ids: Sequence[list[int]], *, max_tokens: int, rows: int = 48) -> list[list[int]]:
    """Texts for the comparison: evenly spread over the given ones, and one that fills every position.

    >>> [len(row) for row in probes([[1, 2, 3]] * 9, max_tokens=8, rows=2)]
    [3, 3, 8]
    """
    spread = np.unique(np.linspace(0, len(ids) - 1, min(rows, len(ids))).astype(int))
    chosen = [list(ids[i]) for i in spread]
    longest = max(ids, key=len)
    return [*chosen, (list(longest) * (max_tokens // len(longest) + 1))[:max_tokens]]


def torch_logits(fitted: Fitted, ids: Sequence[list[int]]) -> Array:
    """Logits [rows, labels] of the trained model itself."""
    import torch

    tokens, mask = map(torch.from_numpy, padded(ids))
    with torch.inference_mode():
        hidden = fitted.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return fitted.head.logits(pool(hidden, mask).numpy())
