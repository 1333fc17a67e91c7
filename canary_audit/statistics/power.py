"""What a design can detect: the least exposure, and the least number of references, at which Holm can reject."""

import math

from canary_audit.errors import ResultError


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


def _check_design(n_canaries: int, alpha: float) -> None:
    if n_canaries < 1 or not 0 < alpha < 1:
        raise ResultError(f"{n_canaries} canaries tested at alpha = {alpha} are no design")
