"""What the weights are moved towards, and by what: loss, anchor, optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.fitting.table import FitTable
from trainer.fitting.trained import Trained

Array = np.ndarray[Any, np.dtype[Any]]

HEAD_RATE = {"adapter": 5.0, "layers": 50.0, "full": 50.0}  # of the encoder's; a head's weights are larger


def optimiser(trained: Trained, fit: FitTable) -> Any:
    """AdamW over three groups, each with its `scale` of the rate: decayed weights, undecayed ones, head."""
    import torch

    tensors = trained.tensors()
    head = {name: part for name, part in tensors.items() if name.startswith("head.")}
    rest = {name: part for name, part in tensors.items() if name not in head}
    groups = [
        _group([part for part in rest.values() if part.ndim > 1], fit.weight_decay, 1.0),
        _group([part for part in rest.values() if part.ndim <= 1], 0.0, 1.0),
        _group([tensors["head.weight"]], fit.weight_decay, HEAD_RATE[trained.rung]),
        _group([tensors["head.bias"]], 0.0, HEAD_RATE[trained.rung]),
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0)


def _group(parts: list[Any], decay: float, scale: float) -> dict[str, Any]:
    return {"params": parts, "weight_decay": decay, "scale": scale}


class Anchor:
    """L2-SP (Li et al. 2018, arXiv 1802.01483): half the squared distance from the first weights.

    Of an adapter it is the distance that its product adds to the encoder's weights. `head_rows` are the
    head's rows that the parent had, anchored too.
    """

    def __init__(self, trained: Trained, strength: float, head_rows: list[int]) -> None:
        self._trained, self._strength, self._rows = trained, strength, head_rows
        tensors = trained.tensors().items()
        self._first = {name: part.detach().clone() for name, part in tensors} if strength else {}

    def penalty(self) -> Any:
        """A scalar to add to the loss."""
        if not self._strength:
            return 0.0
        tensors = self._trained.tensors()
        total: Any = self._adapters() if self._trained.rung == "adapter" else 0.0
        for name, part in tensors.items():
            moved = part - self._first[name]
            if name.startswith("head."):
                total = total + moved[self._rows].square().sum()
            elif self._trained.rung != "adapter":
                total = total + moved.square().sum()
        return self._strength / 2 * total

    def _adapters(self) -> Any:
        """Sum of |s B A|² over the adapters, by the trace of (BᵀB)(AAᵀ): no product of full size."""
        total: Any = 0.0
        for part in self._trained.module.modules():
            for name in getattr(part, "lora_A", {}):
                down, up, scaling = part.lora_A[name].weight, part.lora_B[name].weight, part.scaling[name]
                total = total + scaling**2 * ((up.T @ up) * (down @ down.T)).sum()
        return total


def row_losses(logits: Array, truth: Array) -> Array:
    """Loss [rows] of logits [rows, labels], in nats: cross-entropy to label numbers [rows], or the mean of
    each label's to 0 and 1 [rows, labels].

    >>> row_losses(np.zeros((1, 4)), np.array([2])).round(4).tolist()
    [1.3863]
    >>> row_losses(np.zeros((1, 4)), np.array([[0, 1, 1, 0]])).round(4).tolist()
    [0.6931]
    """
    if truth.ndim == 2:
        return np.asarray((np.logaddexp(0, logits) - truth * logits).mean(axis=1))
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: Array = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]
    return losses


def batch_loss(logits: Any, truth: Any, smoothing: float) -> Any:
    """Mean of `row_losses` as a tensor, with smoothed targets (Szegedy et al. 2016, arXiv 1512.00567)."""
    import torch

    functions = torch.nn.functional
    if truth.ndim == 2:
        softer = truth * (1 - smoothing) + smoothing / 2
        return functions.binary_cross_entropy_with_logits(logits.float(), softer)
    return functions.cross_entropy(logits, truth, label_smoothing=smoothing)


def disagreement(logits: Any, *, sets: bool) -> Any:
    """Mean of KL(p, q) + KL(q, p) of two answers p and q to each text, as a tensor.

    logits: [2 rows, labels], the answers q below the answers p.

    >>> import torch
    >>> round(float(disagreement(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), sets=False)), 4)
    0.9242
    """
    logits = logits.float()
    scores = logits.sigmoid() if sets else logits.softmax(dim=1)
    ours, theirs = scores.chunk(2)
    upper, lower = (logits if sets else logits.log_softmax(dim=1)).chunk(2)
    apart = (ours - theirs) * (upper - lower)
    return apart.mean() if sets else apart.sum(dim=1).mean()


def right(logits: Array, truth: Array) -> Array:
    """[rows] whether the best label, or of sets every label above even odds, is the truth.

    >>> right(np.array([[2.0, -1.0]]), np.array([0])), right(np.array([[2.0, -1.0]]), np.array([[1, 1]]))
    (array([ True]), array([False]))
    """
    if truth.ndim == 2:
        return np.asarray(((logits > 0) == (truth > 0)).all(axis=1))
    return np.asarray(logits.argmax(axis=1) == truth)
