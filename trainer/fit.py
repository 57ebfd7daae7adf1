"""Rungs: how deep a training goes. `head` trains what reads the embedding, `adapter` the top layers too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapter import Texts, first_trained, fit_adapter
from trainer.encoder import Tick, embed, load_encoder
from trainer.errors import SpecError
from trainer.head import Head, fit_head
from trainer.rows import Row
from trainer.spec import TrainSpec
from trainer.tokens import encode, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained version in memory; `embeddings` are unit rows [rows, hidden] of its training texts."""

    encoder: Any
    head: Head
    labels: list[str]
    embeddings: Array


def fit(spec: TrainSpec, rows: Sequence[Row], base: Path, *, tick: Tick) -> Fitted:
    """Train the rung of the spec on `rows`; the same rows, spec and seed give the same weights."""
    use_threads(spec.fit.threads)
    model = load_encoder(base)
    _check_positions(model, spec)
    labels = sorted({row.label for row in rows})
    truth = np.array([labels.index(row.label) for row in rows], dtype=np.int64)
    ids = encode(tokenizer(base / "tokenizer.json", spec.model.max_tokens), [row.text for row in rows])
    deep = spec.fit.rung == "adapter"
    steps = spec.fit.epochs * len(rows) if deep else 0
    frozen = embed(
        model,
        ids,
        layer=first_trained(model, spec.fit) if deep else None,
        tick=lambda done, total: tick(done, total + steps),
    )
    head, embeddings = fit_head(frozen.embeddings, truth, classes=len(labels)), frozen.embeddings
    if deep:
        texts = Texts(ids=ids, truth=truth, frozen=frozen)
        share = len(rows) + steps
        head, embeddings = fit_adapter(
            model,
            head,
            texts,
            spec.fit,
            tick=lambda done, total: tick(len(rows) + steps * done // total, share),
        )
    return Fitted(encoder=model, head=head, labels=labels, embeddings=embeddings)


def _check_positions(model: Any, spec: TrainSpec) -> None:
    places = getattr(model.config, "max_position_embeddings", None)
    if places is not None and getattr(model.config, "model_type", "") in {
        "roberta",
        "xlm-roberta",
        "camembert",
    }:
        places -= 2  # they count positions from their padding number on
    if places is not None and spec.model.max_tokens > places:
        problem = f"{spec.model.max_tokens} tokens, but the encoder has {places} positions"
        raise SpecError("the spec", "model.max_tokens", problem, f"Use at most {places}.")


def use_threads(threads: int) -> None:
    """Set torch's threads: its default spins all cores of a busy machine to a standstill."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
