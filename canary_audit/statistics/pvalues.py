"""P-values of canaries and how they are combined.

All of them are one-sided, except the uniformity check of the controls: a small value says that the canary is more
likely to the model than a secret it never saw. They hold only for secrets drawn uniformly from their space.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from canary_audit.errors import ResultError

FloatArray = NDArray[np.float64]

EXACT_MANN_WHITNEY_MAX = 60
"""With at most this many scores the Mann-Whitney test is exact, ties included."""


def exact_rank_p_value(rank: float, space_size: int) -> float:
    """P-value of a canary whose rank among all secrets was counted: rank / |R|.

    Assumes that the secret was drawn uniformly, so that its rank is uniform on 1..|R| without memorization
    (Carlini et al. 2019, section 4.2). Ties belong in `rank`, a whole number; |R| may exceed what a float holds.

    Raises:
        ResultError: the rank is no count from 1 to |R|.
    """
    if not (1 <= rank <= space_size and rank == int(rank)):
        raise ResultError(f"rank {rank} is impossible in a space of {space_size} secrets")
    return int(rank) / space_size


def sampled_p_value(n_at_or_below: int, n_references: int) -> float:
    """P-value of a canary compared with a uniform sample: (1 + k) / (N + 1).

    `n_at_or_below` counts the references at most as costly as the canary. The canary counts itself, because under the
    null it is one more draw like the references (Phipson and Smyth 2010, section 2); so it is never zero.

    Raises:
        ResultError: the count lies outside 0..N.
    """
    if not 0 <= n_at_or_below <= n_references:
        raise ResultError(f"{n_at_or_below} of {n_references} references at or below the canary is impossible")
    return (1 + n_at_or_below) / (n_references + 1)


def estimated_rank_p_value(*, space_bits: float, nll_bits: float, rank_high: float, error: float) -> float:
    """P-value of a canary whose rank was estimated: the better of a certificate and an upper bound on the rank.

    The certificate 1 / (|R| P), P = 2^-nll_bits, is always valid: at most 1 / P secrets can be as likely as the canary.
    The bound rank_high / |R| + error is valid if `rank_high` is at least the rank with probability 1 - `error`. Taking
    the smaller of the two can raise the false-alarm rate of one canary by `error` at most. Everything is computed from
    logarithms, so |R| may exceed what a float holds.

    Raises:
        ResultError: the rank is below 1, or the error is no probability.
    """
    if not (rank_high >= 1 and 0 <= error <= 1):
        raise ResultError(f"a rank of at most {rank_high} with error {error} is impossible")
    certificate = math.exp2(min(0.0, nll_bits - space_bits))
    bound = math.exp2(min(0.0, math.log2(rank_high) - space_bits)) + error
    return min(certificate, bound, 1.0)


def holm(p_values: Sequence[float]) -> FloatArray:
    """Adjust p-values so that rejecting those <= alpha keeps the family-wise error at alpha (Holm 1979).

    Returns the adjusted values in the order given, shape (n,). Any dependence between the tests is allowed.

    Raises:
        ResultError: a value is not a probability.
    """
    values = _probabilities(p_values)
    order = np.argsort(values, kind="stable")
    n_left = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * n_left), 1.0)
    return adjusted


def fisher_combined(p_values: Sequence[float]) -> float:
    """One p-value for "no canary of this group was memorized" (Fisher 1932, section 21.1).

    Assumes independent p-values, as exact ranks of independently drawn secrets are. P-values from one shared reference
    sample are not: use the smallest of `holm` for those.

    Raises:
        ResultError: there is none, or one is not a probability.
    """
    values = _probabilities(p_values)
    if not len(values):
        raise ResultError("no p-value to combine: the group has no canary")
    with np.errstate(divide="ignore"):
        statistic = -np.log(values).sum()
    return float(special.gammaincc(len(values), statistic))


def uniform_ks_p_value(p_values: Sequence[float]) -> float:
    """Two-sided Kolmogorov-Smirnov test that `p_values` are uniform on [0, 1] (Kolmogorov 1933).

    The exact one-sided tail of n values (Birnbaum and Tingey 1951) is carried over to two sides by the relation that
    holds between the two for large n. From n = 10 on the result is within 0.005 of the exact one, and within 1 in
    10,000 of it below 0.1. Assumes independent values of a continuous distribution; ties make it conservative.

    Raises:
        ResultError: there is none, or one is not a probability.
    """
    values = np.sort(_probabilities(p_values))
    n_values = len(values)
    if not n_values:
        raise ResultError("no p-value to test: there are no controls")
    steps = np.arange(n_values + 1) / n_values
    distance = max((steps[1:] - values).max(), (values - steps[:-1]).max())
    one_sided = special.smirnov(n_values, min(distance, 1.0))
    if one_sided == 0:
        return 0.0
    return float(special.kolmogorov(math.sqrt(-math.log(one_sided) / 2)))


def mann_whitney(in_scores: Sequence[float], out_scores: Sequence[float]) -> tuple[float, float]:
    """Area under the ROC curve and its one-sided p-value (Mann and Whitney 1947): do inserted canaries score higher?

    Ties count one half. The p-value conditions on the two group sizes and assumes that under the null the scores are
    exchangeable. Up to `EXACT_MANN_WHITNEY_MAX` scores it is exact; beyond, the normal approximation with the variance
    corrected for ties and a continuity correction of one half.

    Raises:
        ResultError: a group is empty, or a score is not finite.
    """
    scores = np.concatenate([np.asarray(in_scores, float), np.asarray(out_scores, float)])
    n_in, n_out = len(in_scores), len(out_scores)
    if not (n_in and n_out and np.isfinite(scores).all()):
        raise ResultError(f"cannot compare {n_in} inserted with {n_out} left-out scores: both must be there and finite")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    doubled_ranks = (2 * counts.cumsum() - counts + 1)[place]
    doubled_sum = int(doubled_ranks[:n_in].sum())
    n_wins = (doubled_sum - n_in * (n_in + 1)) / 2
    if n_in + n_out <= EXACT_MANN_WHITNEY_MAX:
        p_value = _exact_rank_sum_tail(doubled_ranks, n_in, doubled_sum)
    else:
        p_value = _normal_rank_sum_tail(counts, n_in, n_out, n_wins)
    return n_wins / (n_in * n_out), p_value


def _exact_rank_sum_tail(doubled_ranks: NDArray[np.int64], n_in: int, at_least: int) -> float:
    """Share of the ways to choose `n_in` ranks whose sum is at least `at_least`."""
    ways = np.zeros((n_in + 1, int(doubled_ranks.sum()) + 1))
    ways[0, 0] = 1
    for rank in doubled_ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    return float(ways[n_in, at_least:].sum() / ways[n_in].sum())


def _normal_rank_sum_tail(counts: NDArray[np.int64], n_in: int, n_out: int, n_wins: float) -> float:
    n_all = n_in + n_out
    ties = float((counts.astype(float) ** 3 - counts).sum())
    variance = n_in * n_out / 12 * (n_all + 1 - ties / (n_all * (n_all - 1)))
    if variance == 0:
        return 1.0
    return float(special.ndtr(-(n_wins - n_in * n_out / 2 - 0.5) / math.sqrt(variance)))


def _probabilities(p_values: Sequence[float]) -> FloatArray:
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ResultError("a p-value lies outside [0, 1] or is not a number")
    return values
