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

The tilts (monitor/bets.py) are mixtures of what was before and of a tail that a share of the rows has moved
into, for new texts are few at first. The reference's size bounds what any bet can win: n + t rows are told
from the r after a change as well as r (n + t) / (n + t + r) rows are told from a known distribution.

Strata. Where rows are exchangeable only within an hour of the day or of the week, every stratum has an urn of
its own, the log W_s of all strata add up (given the strata, their rows are independent under the null), and a
start tilts all of them alike.

Known share. The bet "rate" needs no reference: the null states that a request fails with probability at most
p, whatever the past, and a tilt wins 1 + lambda (x - p), of mean at most 1 (Waudby-Smith & Ramdas 2024).

The pager holds the mixture sum_s pi_s W_s over starts (pi_s = 1 / (2.1098 (s+2) ln^2(s+2)), which sums to 1
less 3e-5) plus the prior of starts to come (Shin, Ramdas, Rinaldo 2024). A start that is dropped keeps its
wealth as cash: a stopped martingale. Means of e-values of one past: Vovk & Wang 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import numpy as np

from monitor.bets import log_ratios, tilt_count
from monitor.errors import UnknownBetError, WealthMismatchError
from monitor.ranks import Bet, Floats, Ints

MAX_STARTS = 16  # more find nothing sooner (tests/benchmarks/pager.py), and cost in proportion
PRIOR_SUM = 2.1098  # of 1 / (n ln^2 n) from n = 2, rounded up


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Wealth:
    """What one bettor holds. Arrays may carry leading axes: many streams in one step (simulation).

    H strata of K bins, L live starts, J tilts; a stratum with fewer bins than K has zeros at its end.
    """

    bet: Bet
    m: tuple[tuple[int, ...], ...]  # [H][K] reference gaps in each bin
    urn: Floats  # [..., H, K] gaps and rows seen
    bases: Floats  # [..., L, H, K] the urn when each live start began
    ratios: Floats  # [..., L, J] log of what each tilt of each live start won
    priors: Floats  # [..., L] log pi_s of the live starts
    cash: Floats  # [...] log of what dropped starts left
    windows: int = 0
    unspent: float = 1.0  # prior of the starts to come

    @property
    def wealths(self) -> Floats:
        """Log W_s of the live starts: [..., L]."""
        mean: Floats = np.logaddexp.reduce(self.ratios, axis=-1) - math.log(self.ratios.shape[-1])
        return mean

    @property
    def log_e(self) -> Any:
        """Natural logarithm of the e-value: a float, or [...] for many streams."""
        parts = np.concatenate([self.priors + self.wealths, self.cash[..., None]], axis=-1)
        total = np.logaddexp(np.logaddexp.reduce(parts, axis=-1), math.log(self.unspent))
        return float(total) if total.ndim == 0 else total

    def update(self, counts: Sequence[int] | Floats) -> Wealth:
        """Bet on one window, counted by `ranks.place`: [..., K], or [..., H, K] where there are strata.

        An empty window changes nothing.
        """
        added = np.asarray(counts, dtype=np.float64)
        if added.shape[-1] != len(self.m[0]):
            raise WealthMismatchError(len(self.m[0]), added.shape[-1])
        if len(self.m) == 1 and added.ndim < self.urn.ndim:
            added = added[..., None, :]
        if not added.any():
            return self
        begun = self._start()
        urn = begun.urn + added
        hit = np.flatnonzero(added.any(axis=(*range(added.ndim - 2), added.ndim - 1)))
        won = begun._log_ratios(urn, hit)
        if len(self.m) > 1:  # strata that the window does not touch keep what they won
            won = begun.ratios + won - begun._log_ratios(begun.urn, hit)
        return replace(begun, urn=urn, ratios=won)

    def _start(self) -> Wealth:
        s = self.windows + 2
        prior = 1 / (PRIOR_SUM * s * math.log(s) ** 2)
        held = self if self.priors.shape[-1] < MAX_STARTS else self._drop()
        one = (*self.cash.shape, 1)
        return replace(
            held,
            bases=np.concatenate([held.bases, self.urn[..., None, :, :]], axis=-3),
            ratios=np.concatenate([held.ratios, np.zeros((*one, self.ratios.shape[-1]))], axis=-2),
            priors=np.concatenate([held.priors, np.full(one, math.log(prior))], axis=-1),
            windows=self.windows + 1,
            unspent=self.unspent - prior,
        )

    def _drop(self) -> Wealth:
        """Cash the start that has lost the most: a choice made from the past only."""
        wealths = self.wealths
        out = wealths.argmin(axis=-1)[..., None]
        left = np.take_along_axis(self.priors + wealths, out, axis=-1)[..., 0]
        keep = np.arange(self.priors.shape[-1]) != out
        lead = self.cash.shape
        return replace(
            self,
            bases=self.bases[keep].reshape(*lead, -1, *self.urn.shape[-2:]),
            ratios=self.ratios[keep].reshape(*lead, -1, self.ratios.shape[-1]),
            priors=self.priors[keep].reshape(*lead, -1),
            cash=np.logaddexp(self.cash, left),
        )

    def _log_ratios(self, urn: Floats, strata: Ints) -> Floats:
        return log_ratios(self.bet, self.m, self.bases, urn, strata)


def new_wealth(
    m: Sequence[int] | Sequence[Sequence[int]], bet: Bet, *, streams: tuple[int, ...] = ()
) -> Wealth:
    """Return e = 1 for bins of m gaps, or for strata of such bins.

    >>> low, high = (new_wealth([50, 50], "down").update(counts).log_e for counts in ([45, 5], [5, 45]))
    >>> low > 5 and high < 0
    True
    """
    if bet not in get_args(Bet):
        raise UnknownBetError(bet, get_args(Bet))
    strata = _strata(m)
    shape = (len(strata), len(strata[0]))
    return Wealth(
        bet=bet,
        m=strata,
        urn=np.broadcast_to(np.asarray(strata, dtype=np.float64), (*streams, *shape)).copy(),
        bases=np.empty((*streams, 0, *shape)),
        ratios=np.empty((*streams, 0, tilt_count(bet, strata))),
        priors=np.empty((*streams, 0)),
        cash=np.full(streams, -np.inf),
    )


def combine(log_es: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Combine detectors' log e-values into the one that pages: the largest of log(weight) + log e.

    `weights` are fixed beforehand and sum to at most 1 (None: equal). This never exceeds the log of the
    weighted mean. The mean is an e-value at each fixed time, but detectors see different pasts, and a mean of
    e-processes of different pasts may break Ville's inequality (Choe & Ramdas 2024); a union bound over
    detectors, each with its weight's share of the budget, cannot. Hand in every detector at every check, also
    one that stood still.

    >>> combine([0.0, 5.0, 1.0, -2.0]) == 5.0 - math.log(4)
    True
    >>> combine([0.0, 5.0], [0.9, 0.1]) == 5.0 + math.log(0.1)
    True
    """
    shares = weights or [1 / len(log_es)] * len(log_es)
    weighted = (math.log(w) + log_e for w, log_e in zip(shares, log_es, strict=True) if w > 0)
    return max(weighted, default=-math.inf)


def page_line(alpha: float) -> float:
    """Return the log e-value at which a pager of this error budget pages."""
    return -math.log(alpha)


def pager_alpha(j: int, budget: float) -> float:
    """Return what the j-th pager of a year (from 1) may spend; the sum over all j is the budget.

    >>> pager_alpha(1, 0.02), round(sum(pager_alpha(j, 0.02) for j in range(1, 10_000)), 5)
    (0.01, 0.02)
    """
    return budget / (j * (j + 1))


def _strata(m: Sequence[int] | Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """[H][K], shorter strata filled up with empty bins."""
    given = np.asarray(m[0]).ndim
    rows = [list(row) for row in cast(Sequence[Sequence[int]], m if given else [m])]
    longest = max(map(len, rows))
    return tuple(tuple(int(k) for k in row) + (0,) * (longest - len(row)) for row in rows)
