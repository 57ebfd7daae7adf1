"""How far a head's weights may go: noisy labels ask for a stronger penalty, clean ones for a weaker."""

from __future__ import annotations

import numpy as np

from trainer.head import STRENGTH, Array, fit_head, loss

CHOICES = (1.0, 3.0, STRENGTH, 30.0)
ROWS = 3000  # more would cost more than they tell
FEWEST = 200
GAIN = (
    0.01  # by which share of the loss another than STRENGTH must be better, so that rounding decides nothing
)
ASKED = 5  # every fifth row is put aside


def choose(embeddings: Array, truth: Array, *, classes: int, seed: int) -> float:
    """Of CHOICES the strength whose head has the least loss on a fifth of the rows, that it did not learn.

    embeddings: [rows, hidden]; truth: [rows] label numbers or [rows, classes] of 0 and 1. Looks at most at
    ROWS rows, drawn by `seed`; of fewer than FEWEST nothing is to be learnt: STRENGTH. Walks from STRENGTH
    as long as the loss falls, which is convex enough in practice: three or four small fits.
    """
    if len(truth) < FEWEST:
        return STRENGTH
    drawn = np.random.default_rng(seed).permutation(len(truth))[:ROWS]
    asked, learnt = drawn[::ASKED], np.delete(drawn, np.s_[::ASKED])
    if truth.ndim == 1:
        asked = asked[np.isin(truth[asked], truth[learnt])]

    def lost(strength: float) -> float:
        head = fit_head(embeddings[learnt], truth[learnt], classes=classes, strength=strength)
        return loss(head, embeddings[asked], truth[asked])

    place = CHOICES.index(STRENGTH)
    first = least = lost(STRENGTH)
    best = place
    for way in (-1, 1):
        at = place + way
        while 0 <= at < len(CHOICES) and (found := lost(CHOICES[at])) < least:
            best, least, at = at, found, at + way
        if best != place:
            break
    return CHOICES[best] if least < (1 - GAIN) * first else STRENGTH
