"""What a start believes: tilts of the urn, and what they win, in closed form (see monitor/pager.py)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from monitor.ranks import Bet, Floats, Ints

EXPONENTS = (0.3, 0.7, 1.5, 3.0)  # a shift of the whole distribution
STEPS = (
    (0.05, 2.0),
    (0.05, 4.0),
    (0.1, 2.0),
    (0.1, 3.0),
    (0.2, 1.7),
    (0.3, 1.5),
)  # (share, grown by): a new tail
CONCENTRATIONS = (8.0, 64.0)  # rows that the "any" learner's belief weighs


def log_ratios(bet: Bet, m: tuple[tuple[int, ...], ...], bases: Floats, urn: Floats, strata: Ints) -> Floats:
    """[..., L, J]: log W_s of each tilt over these strata, in closed form from the urns then and now."""
    then, now = bases[..., strata, :], urn[..., strata, :]
    since = now[..., None, :, :] - then
    believed = log_marginal(_believed(bet, m, then, strata), since[..., None, :, :])
    ratios: Floats = (believed - log_marginal(then, since)[..., None, :]).sum(axis=-1)
    return ratios


def tilt_count(bet: Bet, m: tuple[tuple[int, ...], ...]) -> int:
    """J: how many beliefs a start holds at once."""
    return len(CONCENTRATIONS) if bet == "any" else tilts(m, bet).shape[0]


@lru_cache(maxsize=64)
def tilts(m: tuple[tuple[int, ...], ...], bet: Bet) -> Floats:
    """[J, H, K]: what each bin's share is multiplied by, before it is normalised."""
    gap_ends = np.cumsum(m, axis=-1)
    ends = gap_ends / gap_ends[:, -1:]
    middle = ends - np.asarray(m) / gap_ends[:, -1:] / 2
    down = [np.exp(-theta * (2 * middle - 1)) for theta in EXPONENTS]
    down += [
        np.where(ends <= share * 1.0001, grown, (1 - share * grown) / (1 - share)) for share, grown in STEPS
    ]
    up = [np.exp(theta * (2 * middle - 1)) for theta in EXPONENTS]
    up += [np.where(middle >= 1 - share, grown, (1 - share * grown) / (1 - share)) for share, grown in STEPS]
    return np.stack({"down": down, "up": up, "both": down + up}[bet])


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
