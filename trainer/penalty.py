"""How far a head's weights may go: noisy labels ask for a stronger penalty, many classes for a weaker."""

from __future__ import annotations

import numpy as np

from trainer.calibrate import temperature
from trainer.head import STRENGTH, Array, fit_head, losses
from trainer.tasks import load

CHOICES = (1.0, 3.0, STRENGTH, 30.0)
ROWS = 3000  # more would cost more than they tell
FEWEST = 200
ASKED = 5  # every fifth row is put aside


def choose(embeddings: Array, truth: Array, *, classes: int, seed: int) -> float:
    """Of CHOICES the strongest penalty whose loss on a fifth of the rows, that its head did not learn, is
    within a standard error of the least one (Breiman et al. 1984, section 3.4.3).

    embeddings: [rows, hidden]; truth: [rows] label numbers or [rows, classes] of 0 and 1. Looks at most at
    ROWS rows, drawn by `seed`; of fewer than FEWEST nothing is to be learnt: STRENGTH. The loss is that of
    calibrated scores, as versions have them: a strong penalty makes a head unsure, and a temperature mends
    that. Without it weak penalties won, and heads forgot (`trueup demo --fast` refused its retrain).
    """
    if len(truth) < FEWEST:
        return STRENGTH
    drawn = np.random.default_rng(seed).permutation(len(truth))[:ROWS]
    asked, learnt = drawn[::ASKED], np.delete(drawn, np.s_[::ASKED])
    if truth.ndim == 1:
        asked = asked[np.isin(truth[asked], truth[learnt])]
    decode = load("classification" if truth.ndim == 1 else "multi-label").decode

    def lost(strength: float) -> Array:
        head = fit_head(embeddings[learnt], truth[learnt], classes=classes, strength=strength)
        heat = temperature(head.logits(embeddings[asked]), truth[asked], decode)
        return losses(head, embeddings[asked], truth[asked], heat)

    found = {strength: lost(strength) for strength in CHOICES}
    least = min(found.values(), key=lambda own: float(own.mean()))
    error = len(asked) ** -0.5
    return next(
        one for one in CHOICES if (found[one] - least).mean() <= error * float((found[one] - least).std())
    )
