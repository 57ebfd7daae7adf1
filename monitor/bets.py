"""What a start believes: tilts of the urn, and what they win, in closed form (see monitor/pager.py)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from monitor.ranks import Bet, Floats, Ints

EXPONENTS = (0.3, 1.5)  # a shift of the whole distribution
SHARES = (0.07, 0.2, 0.6)  # of the rows, which have moved into one tail …
STEEPNESS = (10.0, 40.0)  # … where they lie by exp(-steepness * place)
ODDS = (1.5, 3.0, 10.0, 50.0)  # "rate": how much likelier the first bin has become
CONCENTRATIONS = (8.0, 64.0)  # rows that the "any" learner's belief weighs


def log_ratios(bet: Bet, m: tuple[tuple[int, ...], ...], bases: Floats, urn: Floats, strata: Ints) -> Floats:
    """[..., L, J]: log W_s of each tilt over these strata, in closed form from the urns then and now."""
    then, now = bases[..., strata, :], urn[..., strata, :]
    since = now[..., None, :, :] - then
    ratios: Floats
    if bet == "rate":
        ratios = (since[..., None, :, :] * _known(m)[:, strata]).sum(axis=(-2, -1))
    else:
        believed = log_marginal(_believed(bet, m, then, strata), since[..., None, :, :])
        ratios = (believed - log_marginal(then, since)[..., None, :]).sum(axis=-1)
    return ratios


def tilt_count(bet: Bet, m: tuple[tuple[int, ...], ...]) -> int:
    """J: how many beliefs a start holds at once."""
    counted = {"any": len(CONCENTRATIONS), "rate": len(ODDS)}
    return counted.get(bet) or tilts(m, bet).shape[0]


@lru_cache(maxsize=64)
def tilts(m: tuple[tuple[int, ...], ...], bet: Bet) -> Floats:
    """[J, H, K]: what each bin's share is multiplied by, before it is normalised.

    Rows that a model has never seen are few at first and lie far out, so most beliefs are mixtures: a share
    of the rows has moved into a tail, the others are as before. A shift of the whole is believed too.
    """
    gap_ends = np.cumsum(m, axis=-1)
    ends = gap_ends / gap_ends[:, -1:]
    begins = ends - np.asarray(m) / gap_ends[:, -1:]
    down, up = _one_sided(begins, ends), _one_sided(1 - ends, 1 - begins)
    return np.stack({"down": down, "up": up, "both": down + up}[bet])


def _known(m: tuple[tuple[int, ...], ...]) -> Floats:
    """[J, H, 2]: log of what a row in each bin wins where the null states its share, m / sum(m), itself.

    No urn: 1 + lambda (x - p) with x = 1 in the first bin, whose mean is at most 1 for every share up to p
    (Waudby-Smith & Ramdas, JRSS B 2024, section 4).
    """
    shares = np.asarray(m) / np.sum(m, axis=-1, keepdims=True)
    odds = np.array([[[factor, 1.0]] for factor in ODDS]) * shares
    won: Floats = np.log(odds / odds.sum(axis=-1, keepdims=True) / shares)
    return won


def _one_sided(begins: Floats, ends: Floats) -> list[Floats]:
    """Tilts towards place 0, for bins between these places in [0, 1]: [H, K] each."""
    shifts = [np.exp(-theta * (begins + ends - 1)) for theta in EXPONENTS]
    tails = [_tail(begins, ends, steepness) for steepness in STEEPNESS]
    return shifts + [1 - share + share * tail for tail in tails for share in SHARES]


def _tail(begins: Floats, ends: Floats, steepness: float) -> Floats:
    """Mean density of a bin under the density ∝ exp(-steepness * place) on [0, 1]."""
    mass = (np.exp(-steepness * begins) - np.exp(-steepness * ends)) / -math.expm1(-steepness)
    width = ends - begins
    return np.divide(mass, width, out=np.ones_like(mass), where=width > 0)


def _believed(bet: Bet, m: tuple[tuple[int, ...], ...], bases: Floats, strata: Ints) -> Floats:
    """[..., L, J, H, K]: the Dirichlet weights that each tilt of each start believes in."""
    total = bases.sum(axis=-1)[..., None, :, None]
    if bet == "any":
        flat: Floats = np.array(CONCENTRATIONS)[:, None, None] * bases[..., None, :, :] / total
        return flat
    tilted = bases[..., None, :, :] * tilts(m, bet)[:, strata]
    believed: Floats = total * tilted / tilted.sum(axis=-1, keepdims=True)
    return believed


def log_marginal(weights: Floats, counts: Floats) -> Floats:
    """Log probability of a sequence with these counts [..., K] under Dirichlet(weights [..., K]).

    A bin of weight 0 is none: nothing is ever counted in it.
    """
    from scipy.special import gammaln  # noqa: PLC0415 - scipy is slow to import, and a check has the time

    total, rows = weights.sum(axis=-1), counts.sum(axis=-1)
    some = np.where(weights > 0, weights, 1.0)
    bins = (gammaln(some + counts) - gammaln(some)).sum(axis=-1)
    marginal: Floats = bins + gammaln(total) - gammaln(total + rows)
    return marginal
