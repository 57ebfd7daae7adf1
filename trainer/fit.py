"""The adapter rung, from rows to weights: frozen states once, then LoRA on the top layers and a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapter import Texts, first_trained, fit_adapter
from trainer.encoder import Tick, embed, load_encoder
from trainer.head import Head, fit_head
from trainer.rows import Row
from trainer.spec import TrainSpec
from trainer.tokens import encode, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
Sift = Callable[[Array], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained version in memory; `embeddings` are unit rows [rows, hidden] of its training texts."""

    encoder: Any
    head: Head
    labels: list[str]
    embeddings: Array


def fit(spec: TrainSpec, rows: Sequence[Row], base: Path, *, sift: Sift, tick: Tick) -> Fitted:
    """Train adapters and head on `rows`; the same rows, spec and seed give the same weights.

    `sift` says from the frozen encoder's embeddings which rows to learn from.
    """
    use_threads(spec.fit.threads)
    model = load_encoder(base)
    ids = encode(tokenizer(base / "tokenizer.json", spec.model.max_tokens), [row.text for row in rows])
    embedded, steps = len(rows), spec.fit.epochs * len(rows)
    frozen = embed(
        model, ids, layer=first_trained(model, spec.fit), tick=lambda done, _: tick(done, embedded + steps)
    )
    left = sift(frozen.embeddings)
    ids, rows, frozen = [ids[row] for row in left], [rows[row] for row in left], frozen.take(left)
    labels = sorted({row.label for row in rows})
    truth = np.array([labels.index(row.label) for row in rows], dtype=np.int64)
    head, embeddings = fit_adapter(
        model,
        fit_head(frozen.embeddings, truth, classes=len(labels)),
        Texts(ids=ids, truth=truth, frozen=frozen),
        spec.fit,
        tick=lambda done, total: tick(embedded + steps * done // total, embedded + steps),
    )
    return Fitted(encoder=model, head=head, labels=labels, embeddings=embeddings)


def use_threads(threads: int) -> None:
    """Set torch's threads: its default spins all cores of a busy machine to a standstill."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
