"""What differential privacy for one unit promises for a secret that stands in several: group privacy.

Training with (epsilon, delta)-differential privacy for one unit gives a group of k units the promise
(k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1)): the definition, applied k times (Dwork and Roth 2014,
theorem 2.2, for delta = 0; Vadhan 2017, lemma 2.2, bounds the sum in delta from above). A canary inserted k times is
such a group. Any event then has at most e^(epsilon_k) times the probability it would have had without the canary, plus
delta_k; and without it, exposure reaches t bits with probability 2^-t.
"""

import math
from dataclasses import dataclass

from canary_audit.errors import ResultError

CHANCE = 0.05
"""A single canary exceeds the exposure that a promise allows no more often than this."""


@dataclass(frozen=True, kw_only=True)
class GroupPromise:
    """(epsilon, delta) for all occurrences of one secret together."""

    epsilon: float
    delta: float
    """1 promises nothing."""


def group_promise(epsilon: float, delta: float, occurrences: int) -> GroupPromise:
    """The promise for a secret that stands in `occurrences` units, from the one for a single unit.

    Raises:
        ResultError: epsilon or delta is no privacy parameter, or the secret occurs less than once.
    """
    if not (0 <= epsilon < math.inf and 0 <= delta <= 1 and occurrences >= 1):
        raise ResultError(f"epsilon {epsilon}, delta {delta} for {occurrences} occurrences are no promise")
    total = occurrences * epsilon
    return GroupPromise(epsilon=total, delta=_group_delta(epsilon, delta, occurrences))


def promised_p_value(p_value: float, promise: GroupPromise) -> float:
    """Probability, at most, of a rank this small under the promise; `p_value` is that without the canary.

    If p-values p of never-inserted canaries satisfy P(p <= u) <= u, those of inserted ones satisfy
    P(p <= u) <= e^epsilon u + delta, so e^epsilon p + delta is a valid p-value of the promise.
    """
    if p_value <= 0:
        return promise.delta
    return min(1.0, math.exp(min(0.0, promise.epsilon + math.log(p_value))) + promise.delta)


def allowed_exposure_bits(promise: GroupPromise) -> float:
    """Exposure in bits that a single canary under the promise exceeds with probability `CHANCE` at most.

    epsilon / ln 2 more than the null's quantile, and a little for delta; infinite if the promise excludes nothing.
    """
    if promise.delta >= CHANCE:
        return math.inf
    return promise.epsilon / math.log(2) - math.log2(CHANCE - promise.delta)


def _group_delta(epsilon: float, delta: float, occurrences: int) -> float:
    """delta times the sum of e^(i epsilon) over i < occurrences, at most 1; in logarithms, because it overflows."""
    if delta == 0 or occurrences == 1:
        return delta
    if epsilon == 0:
        return min(1.0, occurrences * delta)
    log_delta = math.log(delta) + _log_expm1(occurrences * epsilon) - _log_expm1(epsilon)
    return math.exp(min(0.0, log_delta))


def _log_expm1(x: float) -> float:
    """log(e^x - 1) for x > 0."""
    return x + math.log(-math.expm1(-x))
