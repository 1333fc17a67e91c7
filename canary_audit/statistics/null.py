"""Exposure of a secret the model never saw: not zero, but exponentially distributed.

Such a secret has a uniform rank on 1..|R|, so its exposure reaches t bits with probability 2^-t (Carlini et al. 2019,
section 4.2). This is the limit of a large space; in a finite one the tail is never heavier.
"""

import math

from canary_audit.errors import ResultError

NULL_MEAN_BITS = 1 / math.log(2)
"""Mean exposure without memorization, 1.443 bits; the standard deviation is the same."""


def null_exposure_tail(bits: float) -> float:
    """Probability that a secret the model never saw reaches an exposure of at least `bits`."""
    return math.exp2(-max(bits, 0.0))


def null_exposure_quantile(probability: float) -> float:
    """Exposure in bits that a secret the model never saw stays below with this probability: 0.95 gives 4.32.

    Raises:
        ResultError: the probability lies outside [0, 1).
    """
    if not 0 <= probability < 1:
        raise ResultError(f"there is no exposure quantile at {probability}: it lies from 0 up to, not at, 1")
    return max(0.0, -math.log2(1 - probability))
