"""Tiny random encoders of every architecture that the exporter knows, and of some that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.fit import Fitted
from trainer.head import Head

PLACES, WORDS, HIDDEN = 40, 40, 32
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": PLACES,
    "initializer_range": 0.3,
}
DISTIL = {"vocab_size": WORDS, "dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}


def _modern(transformers: Any) -> Any:
    numbers = {f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))}
    config = transformers.ModernBertConfig(
        **SIZES, **numbers, local_attention=8, global_attn_every_n_layers=2
    )
    return transformers.ModernBertModel(config)


BUILDERS: dict[str, Callable[[Any], Any]] = {
    "bert": lambda t: t.BertModel(t.BertConfig(**SIZES)),
    "roberta": lambda t: t.RobertaModel(t.RobertaConfig(**SIZES, pad_token_id=1)),
    "xlm-roberta": lambda t: t.XLMRobertaModel(t.XLMRobertaConfig(**SIZES, pad_token_id=1)),
    "distilbert": lambda t: t.DistilBertModel(
        t.DistilBertConfig(**DISTIL, max_position_embeddings=PLACES, initializer_range=0.3)
    ),
    "electra": lambda t: t.ElectraModel(t.ElectraConfig(**SIZES, embedding_size=16)),
    "albert": lambda t: t.AlbertModel(t.AlbertConfig(**SIZES, embedding_size=16)),
    "modernbert": _modern,
    "eurobert": lambda t: t.EuroBertModel(
        t.EuroBertConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2, mask_token_id=3)
    ),
    "mpnet": lambda t: t.MPNetModel(t.MPNetConfig(**SIZES, pad_token_id=1)),
    "deberta-v2": lambda t: t.DebertaV2Model(
        t.DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"])
    ),
}
PLAIN = {"mpnet", "deberta-v2"}  # outside transformers' attention interface


def encoder(name: str) -> Any:
    """An encoder with random weights, biases and norms among them, as one that was trained has."""
    import torch
    import transformers

    torch.manual_seed(0)
    made = BUILDERS[name](transformers).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    made.set_attn_implementation("sdpa" if made._supports_sdpa else "eager")
    return made


def fitted(made: Any) -> Fitted:
    """The encoder under a random head of three labels."""
    weight = np.random.default_rng(0).normal(size=(3, HIDDEN)).astype("f4")
    head = Head(weight=weight, bias=np.zeros(3, "f4"))
    return Fitted(encoder=made, head=head, labels=["a", "b", "c"], embeddings=np.zeros((1, HIDDEN)))


def batches(longest: int = PLACES - 2) -> list[list[list[int]]]:
    """Texts of one and two tokens, alone and beside long ones, and one that fills every place."""
    rng = np.random.default_rng(0)
    sizes = [[1], [2], [1, 1], [longest], [5, longest, 1, 20], [9, 9, 9]]
    return [[rng.integers(5, WORDS, size).tolist() for size in batch] for batch in sizes]
