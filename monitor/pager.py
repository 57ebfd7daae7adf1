"""The pager's arithmetic: an e-process against a sealed reference, exact for any size of it.

Null. The rows of the reference and of the stream are exchangeable. Give every row a uniform number and order
rows by (value, uniform): no ties are left, and the place of a new row among the n reference and t stream rows
before it is uniform and independent of the places before (Vovk, Gammerman, Shafer 2005). The n
reference rows leave n + 1 gaps. Group the gaps in K bins of m_k gaps, by place only, never by value. A stream
row in a bin splits one place of it into two, so that

    P(bin k | bins before) = (m_k + c_k) / (n + 1 + t)        (a Pólya urn: Dirichlet(m)-multinomial counts)

holds exactly, whatever the distribution, for a reference of any size and a stream of any length: the error of
a small reference is inside the urn. For any rule q that sees only the past, the product of q(bin) / P(bin) is
a test martingale from 1, and by Ville's inequality P(it ever reaches 1/alpha) <= alpha.

Bet. A start s believes that the rows changed just before window s: q is the urn of that moment with its a_k =
m_k + c_k(s) tilted (a_k' ∝ a_k t_k, same total), and it learns on as the urn does. Both sides are Dirichlet-
multinomial:

    log W_s = sum_k [lgamma(a_k' + c_k) - lgamma(a_k')] - sum_k [lgamma(a_k + c_k) - lgamma(a_k)],
    c = counts since s.

The pager holds the mixture sum_s pi_s W_s over starts (pi_s = 1 / (2.1098 (s+2) ln^2(s+2)), which sums to 1
less 3e-5) plus the prior of starts to come (Shin, Ramdas, Rinaldo 2024). A start that is dropped keeps its
wealth as cash: a stopped martingale. Means of e-values of one past: Vovk & Wang 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import numpy as np

from monitor.errors import StoredWealthError, UnknownBetError, WealthMismatchError
from monitor.ranks import Bet, Floats

MAX_STARTS = 16  # more find nothing sooner (tests/benchmarks/pager.py), and cost in proportion
PRIOR_SUM = 2.1098  # of 1 / (n ln^2 n) from n = 2, rounded up
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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Wealth:
    """What one bettor holds. Arrays may carry leading axes: many streams in one step (simulation)."""

    bet: Bet
    m: tuple[int, ...]  # reference gaps in each of K bins
    urn: Floats  # [..., K] gaps and rows seen
    bases: Floats  # [..., L, K] the urn when each live start began
    priors: Floats  # [..., L] log pi_s of the live starts
    wealths: Floats  # [..., L] log W_s
    cash: Floats  # [...] log of what dropped starts left
    windows: int = 0
    unspent: float = 1.0  # prior of the starts to come

    @property
    def log_e(self) -> Any:
        """Natural logarithm of the e-value: a float, or [...] for many streams."""
        parts = np.concatenate([self.priors + self.wealths, self.cash[..., None]], axis=-1)
        total = np.logaddexp(np.logaddexp.reduce(parts, axis=-1), math.log(self.unspent))
        return float(total) if total.ndim == 0 else total

    def update(self, counts: Sequence[int] | Floats) -> Wealth:
        """Bet on one window, counted by `ranks.count`; an empty window changes nothing."""
        added = np.asarray(counts, dtype=np.float64)
        if added.shape[-1] != len(self.m):
            raise WealthMismatchError(len(self.m), added.shape[-1])
        if not added.any():
            return self
        begun = self._start()
        urn = begun.urn + added
        return replace(begun, urn=urn, wealths=_log_wealth(self.bet, self.m, begun.bases, urn))

    def _start(self) -> Wealth:
        s = self.windows + 2
        prior = 1 / (PRIOR_SUM * s * math.log(s) ** 2)
        held = self if self.priors.shape[-1] < MAX_STARTS else self._drop()
        one = (*self.cash.shape, 1)
        return replace(
            held,
            bases=np.concatenate([held.bases, self.urn[..., None, :]], axis=-2),
            priors=np.concatenate([held.priors, np.full(one, math.log(prior))], axis=-1),
            wealths=np.concatenate([held.wealths, np.zeros(one)], axis=-1),
            windows=self.windows + 1,
            unspent=self.unspent - prior,
        )

    def _drop(self) -> Wealth:
        """Cash the start that has lost the most: a choice made from the past only."""
        out = self.wealths.argmin(axis=-1)[..., None]
        left = np.take_along_axis(self.priors + self.wealths, out, axis=-1)[..., 0]
        keep = np.arange(self.priors.shape[-1]) != out
        lead = self.cash.shape
        return replace(
            self,
            bases=self.bases[keep].reshape(*lead, -1, len(self.m)),
            priors=self.priors[keep].reshape(*lead, -1),
            wealths=self.wealths[keep].reshape(*lead, -1),
            cash=np.logaddexp(self.cash, left),
        )


def new_wealth(m: Sequence[int], bet: Bet, *, streams: tuple[int, ...] = ()) -> Wealth:
    """Return e = 1 for bins of m gaps.

    >>> low, high = (new_wealth([50, 50], "down").update(counts).log_e for counts in ([45, 5], [5, 45]))
    >>> low > 5 and high < 0
    True
    """
    if bet not in get_args(Bet):
        raise UnknownBetError(bet, get_args(Bet))
    bins = len(m)
    return Wealth(
        bet=bet,
        m=tuple(int(k) for k in m),
        urn=np.broadcast_to(np.asarray(m, dtype=np.float64), (*streams, bins)).copy(),
        bases=np.empty((*streams, 0, bins)),
        priors=np.empty((*streams, 0)),
        wealths=np.empty((*streams, 0)),
        cash=np.full(streams, -np.inf),
    )


def combine(log_es: Sequence[float]) -> float:
    """Combine the detectors' log e-values into the one that pages: the largest, less log(how many).

    It never exceeds the log of their mean. The mean is an e-value at each fixed time, but detectors see
    different pasts, and a mean of e-processes of different pasts may break Ville's inequality (Choe & Ramdas
    2024); a union bound over detectors cannot. Hand in every detector at every check, also one that stood
    still.

    >>> combine([0.0, 5.0, 1.0, -2.0]) == 5.0 - math.log(4)
    True
    """
    return max(log_es) - math.log(len(log_es))


def page_line(alpha: float) -> float:
    """Return the log e-value at which a pager of this error budget pages."""
    return -math.log(alpha)


def pager_alpha(j: int, budget: float) -> float:
    """Return what the j-th pager of a year (from 1) may spend; the sum over all j is the budget.

    >>> pager_alpha(1, 0.02), round(sum(pager_alpha(j, 0.02) for j in range(1, 10_000)), 5)
    (0.01, 0.02)
    """
    return budget / (j * (j + 1))


def to_json(wealth: Wealth) -> dict[str, Any]:
    """Return the state of one stream as JSON; `from_json` gives the same wealth back, to the last bit."""
    return {
        "format": 1,
        "bet": wealth.bet,
        "m": list(wealth.m),
        "urn": wealth.urn.astype(int).tolist(),
        "bases": wealth.bases.astype(int).tolist(),
        "priors": wealth.priors.tolist(),
        "wealths": wealth.wealths.tolist(),
        "cash": float(wealth.cash) if np.isfinite(wealth.cash) else None,
        "windows": wealth.windows,
        "unspent": wealth.unspent,
    }


def from_json(state: dict[str, Any]) -> Wealth:
    """Read `to_json`'s state; raises StoredWealthError for anything else."""
    if state.get("format") != 1:
        raise StoredWealthError(f"format {state.get('format')!r} instead of 1")
    try:
        bins = len(state["m"])
        return Wealth(
            bet=state["bet"],
            m=tuple(state["m"]),
            urn=np.array(state["urn"], dtype=np.float64),
            bases=np.array(state["bases"], dtype=np.float64).reshape(-1, bins),
            priors=np.array(state["priors"], dtype=np.float64),
            wealths=np.array(state["wealths"], dtype=np.float64),
            cash=np.array(-np.inf if state["cash"] is None else state["cash"]),
            windows=int(state["windows"]),
            unspent=float(state["unspent"]),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise StoredWealthError(str(problem)) from problem


@lru_cache(maxsize=64)
def _tilts(m: tuple[int, ...], bet: Bet) -> Floats:
    """[J, K]: what each bin's share is multiplied by, before it is normalised."""
    gap_ends = np.cumsum(m)
    ends = gap_ends / gap_ends[-1]
    middle = ends - np.asarray(m) / gap_ends[-1] / 2
    down = [np.exp(-theta * (2 * middle - 1)) for theta in EXPONENTS]
    down += [
        np.where(ends <= share * 1.0001, grown, (1 - share * grown) / (1 - share)) for share, grown in STEPS
    ]
    up = [np.exp(theta * (2 * middle - 1)) for theta in EXPONENTS]
    up += [np.where(middle >= 1 - share, grown, (1 - share * grown) / (1 - share)) for share, grown in STEPS]
    return np.stack({"down": down, "up": up, "both": down + up}[bet])


def _believed(bet: Bet, m: tuple[int, ...], bases: Floats) -> Floats:
    """[..., L, J, K]: the Dirichlet weights that each tilt of each start believes in."""
    total = bases.sum(axis=-1)[..., None, None]
    if bet == "any":
        flat: Floats = np.array(CONCENTRATIONS)[:, None] * bases[..., None, :] / total
        return flat
    tilted = bases[..., None, :] * _tilts(m, bet)
    believed: Floats = total * tilted / tilted.sum(axis=-1, keepdims=True)
    return believed


def _log_wealth(bet: Bet, m: tuple[int, ...], bases: Floats, urn: Floats) -> Floats:
    """[..., L]: log of the mean over tilts of W_s, in closed form from the urn at the start and now."""
    since = urn[..., None, :] - bases
    believed = _log_marginal(_believed(bet, m, bases), since[..., None, :])
    ratio = believed - _log_marginal(bases, since)[..., None]
    mean: Floats = np.logaddexp.reduce(ratio, axis=-1) - math.log(ratio.shape[-1])
    return mean


def _log_marginal(weights: Floats, counts: Floats) -> Floats:
    """Log probability of a sequence with these counts [..., K] under Dirichlet(weights [..., K])."""
    from scipy.special import gammaln  # noqa: PLC0415 - scipy is slow to import, and a check has the time

    total, rows = weights.sum(axis=-1), counts.sum(axis=-1)
    bins = (gammaln(weights + counts) - gammaln(weights)).sum(axis=-1)
    marginal: Floats = bins + gammaln(total) - gammaln(total + rows)
    return marginal
