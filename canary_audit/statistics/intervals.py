"""Confidence intervals: of a proportion, and of a count known from independent estimates."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from canary_audit.errors import ResultError

_MAX_LOG = 700.0
"""Numbers beyond its exponential are infinite."""


def clopper_pearson(n_hits: int, n_trials: int, confidence: float) -> tuple[float, float]:
    """Interval of a binomial proportion that covers it with at least `confidence` (Clopper and Pearson 1934).

    Assumes independent trials of one probability. Each end errs with at most (1 - confidence) / 2.

    Raises:
        ResultError: the counts or the confidence are impossible.
    """
    if not (0 <= n_hits <= n_trials and n_trials > 0):
        raise ResultError(f"{n_hits} hits in {n_trials} trials are impossible")
    tail = _tail(confidence)
    low = float(special.betaincinv(n_hits, n_trials - n_hits + 1, tail)) if n_hits else 0.0
    high = float(special.betaincinv(n_hits + 1, n_trials - n_hits, 1 - tail)) if n_hits < n_trials else 1.0
    return low, high


def log_t_interval(replicates: Sequence[float], confidence: float, certain: float = 1.0) -> tuple[float, float, float]:
    """Mean of independent unbiased estimates of a positive count, with a Student interval on the logarithmic scale.

    `certain` is the part of the count that is known beforehand and part of every replicate (the canary itself: 1);
    `low` never falls below it. The interval is mean * exp(+-t * deviation / (mean * sqrt(n))) for n >= 2 replicates, by
    the delta method; it serves the estimates of stochastic enumeration (Vaisman and Kroese 2015).

    Where replicates differ by orders of magnitude, their mean is nearly always far below the count, and its deviation
    does not show it. So `high` is at least the upper end for the mean of a lognormal distribution, which joins the ends
    for the mean and for the variance of the logarithms (Zou, Huo and Taleban 2009).

    Where no replicate saw anything beyond the certain part, `high` is infinite: the data then give no upper limit.
    Equal replicates above the certain part give an interval of no width.

    Returns:
        (mean, low, high)

    Raises:
        ResultError: fewer than two replicates, one below the certain part or not finite, or an impossible confidence.
    """
    counts = np.asarray(replicates, dtype=np.float64)
    if len(counts) < 2 or not (np.isfinite(counts).all() and (counts >= certain).all() and certain >= 0):
        raise ResultError(f"an interval needs two or more finite estimates of at least {certain}; got {len(counts)}")
    quantile = float(special.stdtrit(len(counts) - 1, 1 - _tail(confidence)))
    mean = float(counts.mean())
    if counts.max() == certain:
        return mean, certain, math.inf
    log_half_width = quantile * float(counts.std(ddof=1)) / (mean * math.sqrt(len(counts)))
    low, high = mean * math.exp(-log_half_width), mean * math.exp(log_half_width)
    return mean, max(certain, low), max(high, _lognormal_high(counts, quantile, confidence))


def _lognormal_high(counts: NDArray[np.float64], quantile: float, confidence: float) -> float:
    """Upper end for the mean of lognormal counts; those below 1 count as 1."""
    logs = np.log(np.maximum(counts, 1.0))
    n, variance = len(logs), float(logs.var(ddof=1))
    most_variance = variance * (n - 1) / float(special.chdtri(n - 1, 1 - _tail(confidence)))
    above = math.hypot(quantile * math.sqrt(variance / n), (most_variance - variance) / 2)
    log_high = float(logs.mean()) + variance / 2 + above
    return math.exp(log_high) if log_high < _MAX_LOG else math.inf


def _tail(confidence: float) -> float:
    """Error of one end of a two-sided interval."""
    if not 0 < confidence < 1:
        raise ResultError(f"a confidence of {confidence} is impossible: it lies between 0 and 1")
    return (1 - confidence) / 2
