"""The prediction-powered estimate of a mean over served rows, of which few are labelled.

mean = lambda * (mean of the predictions over all rows) + weighted mean of (truth - lambda * prediction) over
the labelled rows; lambda is tuned to the least variance, so useless predictions cost nothing but noise.
Sources: Robins et al. (1994), AIPW; Angelopoulos et al. (2023), PPI and PPI++; Zrnic and Candès (2024),
active inference; Särndal et al. (1992), the difference estimator of survey sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monitor.windows import Floats

_BELIEF = 10.0  # right or wrong labels, whichever are fewer, at which a sample's own variance counts half
_DOUBT = 2.0  # labels' worth of belief that predictions say nothing: few labels cannot prove much


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """n labelled rows out of `rows`: weight [n] ≈ 1 / probability, noise [n] its part in the variance."""

    rows: int
    weight: Floats
    noise: Floats  # (1 - p) / p² for a row of probability p; 0 for a row that was certain

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and how many plain uniform labels would tell as much."""

    mean: float
    variance: float
    effective: float
    power: float  # lambda: 0 the predictions are not used, 1 fully


def sample_of(probability: Floats, rows: int) -> Sample:
    """Labelled rows drawn with these probabilities [n].

    >>> sample_of(np.array([0.1, 0.5]), 20).weight.tolist()
    [10.0, 2.0]
    """
    return Sample(rows=rows, weight=1 / probability, noise=(1 - probability) / probability**2)


def estimate(truth: Floats, predicted: Floats, predicted_mean: float, sample: Sample) -> Estimate:
    """Combine truth [n] with predictions [n] of the same rows and their mean over all rows.

    Constant predictions give the estimate from labels alone. `len(sample)` is 2 or more. `effective` is NaN:
    only `proportion` knows the variance of a plain label.
    """
    share = sample.weight / sample.weight.sum()
    power = _power(truth, predicted, share, sample.noise)
    left = truth - power * predicted
    mean = power * predicted_mean + float(share @ left)
    errors = float(sample.noise @ (left - share @ left) ** 2) * len(truth) / (len(truth) - 1)
    return Estimate(mean=mean, variance=errors / _rows(sample) ** 2, effective=math.nan, power=power)


def proportion(truth: Floats, predicted: Floats | None, predicted_mean: float, sample: Sample) -> Estimate:
    """`estimate` for truth in {0, 1} and probabilities; without predictions from labels alone.

    The mean stays in [0, 1], and `effective` counts labels. Where the probabilities themselves admit more
    variance than the sample shows, they are believed until both outcomes were seen often: a lucky sample must
    not look surer than it is.
    """
    share = sample.weight / sample.weight.sum()
    smooth = (len(truth) * float(share @ truth) + 1) / (len(truth) + 2)  # all right must not look certain
    chance = np.full(len(truth), smooth) if predicted is None else predicted
    found = estimate(truth, chance, smooth if predicted is None else predicted_mean, sample)
    used = found.power * chance + (1 - found.power) * smooth
    admitted = float(sample.noise @ (used * (1 - used))) / _rows(sample) ** 2
    rarer = min(float(truth.sum()), float((1 - truth).sum()))
    variance = found.variance + max(admitted - found.variance, 0.0) * _BELIEF / (_BELIEF + rarer)
    mean = min(max(found.mean, 0.0), 1.0)
    effective = doubted(smooth, variance, sample)
    return Estimate(mean=mean, variance=variance, effective=effective, power=found.power)


def doubted(mean: float, variance: float, sample: Sample) -> float:
    """How many plain labels a variance is worth, with a few labels' doubt that predictions say anything."""
    plain = mean * (1 - mean)
    alone = plain * float(sample.noise.sum()) / _rows(sample) ** 2
    held = (len(sample) * variance + _DOUBT * alone) / (len(sample) + _DOUBT)
    return plain / held if held > 0 else math.inf


def _power(truth: Floats, predicted: Floats, share: Floats, noise: Floats) -> float:
    away = predicted - share @ predicted
    spread = float(noise @ away**2)
    if spread <= 0:
        return 0.0
    return min(max(float(noise @ (away * (truth - share @ truth))) / spread, 0.0), 1.0)


def _rows(sample: Sample) -> float:
    """How many rows the weights say there are."""
    return float(sample.weight.sum())
