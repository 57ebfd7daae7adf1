"""Proof that an exported decoder says what the trained model says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.decoder.errors import PerplexityError, ProofTextsError, TokensDifferError
from trainer.decoder.export import Precision
from trainer.decoder.graph import CHUNK, DecoderGraph, greedy

Array = np.ndarray[Any, np.dtype[Any]]
TIE = 1e-3  # between two logits: about ten times what rounding differs by
LEAST_TOKENS = 32  # of the texts of a perplexity


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How far an export may be from the trained model."""

    tokens: int = 32  # of every greedy answer
    perplexity_rise: float = 0.05  # of int4 and fp16, as a share of torch's


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Greedy answers equal to torch's, of `prompts`; the rest is over every token of the prompts."""

    prompts: int
    equal: int
    max_abs: float  # of the difference between two logits
    perplexity: float
    torch_perplexity: float


def prove(
    graph: DecoderGraph, base: Path, ids: Sequence[Sequence[int]], gate: Gate, precision: Precision
) -> Proof:
    """Compare with torch on tokenised prompts.

    fp32 must give torch's greedy tokens, all of them up to a tie; other precisions must keep the perplexity.
    Raises TokensDifferError, PerplexityError, ProofTextsError.
    """
    scored = sum(len(one) - 1 for one in ids)
    if scored < LEAST_TOKENS:
        raise ProofTextsError(scored, LEAST_TOKENS)
    proof = _compared(graph, _Torch(base), ids, gate.tokens, scored)
    graph.release()
    if precision == "fp32" and proof.equal < proof.prompts:
        raise TokensDifferError(proof.prompts - proof.equal, proof.prompts)
    # NaN compares false with everything, so the comparison is written to refuse it.
    if not proof.perplexity <= proof.torch_perplexity * (1 + gate.perplexity_rise):
        raise PerplexityError(precision, proof.perplexity, proof.torch_perplexity, gate.perplexity_rise)
    return proof


def _compared(
    graph: DecoderGraph, torch: _Torch, ids: Sequence[Sequence[int]], tokens: int, scored: int
) -> Proof:
    loss = torch_loss = worst = 0.0
    equal = 0
    answers = greedy(graph, ids, tokens)
    for one, answer in zip(ids, answers, strict=True):
        ours, theirs = all_logits(graph, one), torch.logits(one)
        worst = max(worst, float(np.abs(ours - theirs).max()))
        loss, torch_loss = loss + surprise(ours, one), torch_loss + surprise(theirs, one)
        equal += _same(answer, torch.greedy(one, tokens), one, torch)
    return Proof(
        prompts=len(ids),
        equal=equal,
        max_abs=worst,
        perplexity=math.exp(loss / scored),
        torch_perplexity=math.exp(torch_loss / scored),
    )


def _same(ours: list[int], theirs: list[int], prompt: Sequence[int], torch: _Torch) -> bool:
    """Whether two greedy answers agree up to where torch itself cannot tell two tokens apart."""
    if ours == theirs:
        return True
    place = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        return False
    logits = torch.logits([*prompt, *theirs[:place]])[-1]
    return float(logits[theirs[place]] - logits[ours[place]]) <= TIE


def all_logits(graph: DecoderGraph, ids: Sequence[int]) -> Array:
    """Logits [tokens, vocabulary] of a whole text."""
    return np.concatenate(
        [np.array(graph.fill(0, ids[start : start + CHUNK], start)) for start in range(0, len(ids), CHUNK)]
    )


def surprise(logits: Array, ids: Sequence[int]) -> float:
    """Sum of the negative log-probabilities of every token but the first, given logits [tokens, vocabulary].

    >>> round(surprise(np.zeros((3, 4)), [0, 1, 2]), 3)
    2.773
    """
    told = log_softmax(logits[:-1].astype(np.float64))
    return -float(told[np.arange(len(ids) - 1), list(ids[1:])].sum())


def log_softmax(logits: Array) -> Array:
    """Natural logarithms of the probabilities, along the last axis.

    >>> log_softmax(np.array([0.0, 0.0])).round(3).tolist()
    [-0.693, -0.693]
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    told: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return told


class _Torch:
    """The trained model itself."""

    def __init__(self, base: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).eval()

    def logits(self, ids: Sequence[int]) -> Array:
        import torch

        with torch.inference_mode():
            found: Array = self._model(torch.tensor([list(ids)])).logits[0].numpy()
        return found

    def greedy(self, ids: Sequence[int], tokens: int) -> list[int]:
        import torch

        given = torch.tensor([list(ids)])
        with torch.inference_mode():
            made = self._model.generate(
                given, attention_mask=torch.ones_like(given), max_new_tokens=tokens, do_sample=False
            )
        answer: list[int] = made[0, len(ids) :].tolist()
        return answer
