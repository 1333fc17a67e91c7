"""What a design can detect: the least exposure and number of references at which Holm can reject, and how large an
epsilon its coin-flipped canaries can show."""

import math
from collections.abc import Iterable

from scipy import special

from canary_audit.errors import ResultError
from canary_audit.statistics.guesses import Rule, best_ceiling, guess_counts
from canary_audit.statistics.one_run import one_run_p_value, refuted_by

_SMALL_DESIGN = 64
"""From here on the rules give all of their counts, and more canaries show more."""


def detectable_bits(n_canaries: int, alpha: float) -> float:
    """Least exposure at which one of `n_canaries` can be significant: log2(m / alpha).

    The first step of Holm's procedure (Holm 1979) rejects a p-value of at most alpha / m; a counted rank with an
    exposure of t bits has the p-value 2^-t.

    Raises:
        ResultError: there is no canary, or alpha is no error rate.
    """
    _check_design(n_canaries, alpha)
    return math.log2(n_canaries / alpha)


def least_sampled_p_value(n_references: int) -> float:
    """Smallest p-value that a uniform sample of N references can give: 1 / (N + 1)."""
    return 1 / (n_references + 1)


def min_references(n_canaries: int, alpha: float) -> int:
    """Fewest uniformly sampled references with which one of `n_canaries` can be significant: m / alpha - 1.

    With fewer, even a canary ahead of every reference has a p-value above alpha / m, so Holm (1979) can never reject.

    Raises:
        ResultError: there is no canary, or alpha is no error rate.
    """
    _check_design(n_canaries, alpha)
    n_references = max(0, math.floor(n_canaries / alpha) - 2)
    while n_canaries * least_sampled_p_value(n_references) > alpha:
        n_references += 1
    return n_references


def epsilon_ceiling(n_canaries: int, *, delta: float, rule: Rule, confidence: float = 0.95) -> float:
    """Largest epsilon that the one-run bound of this design can show: every guess is right.

    Fewer than two canaries show nothing: 0.
    """
    if n_canaries < 2:
        return 0.0
    epsilon_of_counts = refuted_by(n_canaries, delta)
    return best_ceiling(n_canaries, rule=rule, confidence=confidence, epsilon_of_counts=epsilon_of_counts)


def median_bound(epsilon: float, n_canaries: int, *, delta: float, rule: Rule, confidence: float = 0.95) -> float:
    """What the one-run bound shows in about half of the runs where epsilon is true and the attacker the best there is.

    That is randomized response, the mechanism that tells the most at its epsilon: a share e^epsilon / (1 + e^epsilon)
    of the guesses is right. A model trained with the same epsilon shows less.

    Raises:
        ResultError: there are fewer than two canaries.
    """
    epsilon_of_counts, counts = refuted_by(n_canaries, delta), guess_counts(n_canaries, rule)
    share, error = float(special.expit(epsilon)), (1 - confidence) / len(counts)
    return max(epsilon_of_counts(2 * k, math.floor(2 * k * share), error) for k in counts)


def typical_bounds(
    n_canaries: int, *, delta: float, rule: Rule, confidence: float = 0.95
) -> tuple[tuple[float, float], ...]:
    """Pairs of a true epsilon, 1, 2, 4 or 8, and its `median_bound`: the power of a design beside its ceiling."""
    return tuple(
        (epsilon, median_bound(epsilon, n_canaries, delta=delta, rule=rule, confidence=confidence))
        for epsilon in (1.0, 2.0, 4.0, 8.0)
    )


def canaries_for_epsilon(epsilon: float, *, delta: float, rule: Rule, confidence: float = 0.95) -> int | None:
    """Fewest coin-flipped canaries with which the one-run bound can exceed this epsilon; None if no number can.

    None is common: with delta above zero the ceiling stops rising, for 1e-5 below 7. Designs of up
    to a million canaries are tried.

    Raises:
        ResultError: epsilon is negative, or the confidence is none.
    """
    if not (epsilon >= 0 and 0 < confidence < 1):
        raise ResultError(f"no design shows an epsilon above {epsilon} at a confidence of {confidence}")

    def fewest(sizes: Iterable[int]) -> int | None:
        return next((size for size in sizes if _can_exceed(epsilon, size, delta, rule, confidence)), None)

    if small := fewest(range(2, _SMALL_DESIGN + 1)):
        return small
    enough = fewest(2**power for power in range(7, 21))
    if enough is None:
        return None
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if fewest([middle]) else (middle, enough)
    return fewest(range(enough - _SMALL_DESIGN, enough + 1))  # counts are rounded down, so one less may do as well


def _can_exceed(epsilon: float, n_canaries: int, delta: float, rule: Rule, confidence: float) -> bool:
    """Whether right guesses alone refute this epsilon."""
    counts = guess_counts(n_canaries, rule)
    error = (1 - confidence) / len(counts)
    return any(one_run_p_value(n_canaries, 2 * k, 2 * k, epsilon, delta) < error for k in counts)


def _check_design(n_canaries: int, alpha: float) -> None:
    if n_canaries < 1 or not 0 < alpha < 1:
        raise ResultError(f"{n_canaries} canaries tested at alpha = {alpha} are no design")
