"""Lower bound on epsilon from one training run, whatever the mechanism (Steinke, Nasr and Jagielski 2023).

Each of m canaries went in or stayed out by a fair coin. Under (epsilon, delta)-differential privacy no attacker can be
right about many of them: with delta = 0, the number of right guesses among r is at most binomial, each right with
probability q = e^epsilon / (1 + e^epsilon). More right guesses than that refute epsilon.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from canary_audit.errors import ResultError
from canary_audit.statistics.guesses import EpsilonOfCounts, GuessBound, Rule, best_of_rule, largest_refuted


def one_run_p_value(n_canaries: int, n_guesses: int, n_correct: int, epsilon: float, delta: float) -> float:
    """Probability of so many right guesses under (epsilon, delta)-differential privacy, at most (ibid., section 5).

    With W ~ Bin(r, q) it is min(1, beta + 2 m delta alpha): beta = P[W >= v] for v right guesses of r, and alpha the
    largest P[v - i <= W < v] / i over i >= 1. The tail is an incomplete beta function of 1 - q, and alpha comes from
    logarithms of single probabilities; so nothing cancels for large epsilon or many canaries.

    Raises:
        ResultError: counts, epsilon or delta are impossible.
    """
    _check_counts(n_canaries, n_guesses, n_correct)
    if not (epsilon >= 0 and 0 <= delta < 1):
        raise ResultError(f"epsilon {epsilon} at delta {delta} is impossible")
    return _p_value(n_canaries, n_guesses, n_correct, epsilon, delta)


@lru_cache(maxsize=100_000)
def one_run_epsilon(n_canaries: int, n_guesses: int, n_correct: int, *, delta: float, error: float) -> float:
    """Epsilon that so many right guesses refute, all but with probability `error`; 0 if they refute none.

    Found by bisection, from below: whatever it returns has a p-value under `error`, also where delta keeps the p-value
    from rising steadily. A mechanism that keeps a smaller epsilon keeps every larger one, so that is valid.
    """
    _check_counts(n_canaries, n_guesses, n_correct)

    def refuted(epsilon: float) -> bool:
        return _p_value(n_canaries, n_guesses, n_correct, epsilon, delta, enough=error) < error

    return largest_refuted(refuted)


def refuted_by(n_canaries: int, delta: float) -> EpsilonOfCounts:
    """`one_run_epsilon` of one design, for the functions of `guesses`."""
    return lambda guesses, correct, error: one_run_epsilon(n_canaries, guesses, correct, delta=delta, error=error)


def one_run_bound(
    scores: Sequence[float], inserted: Sequence[bool], *, delta: float, rule: Rule, confidence: float = 0.95
) -> GuessBound:
    """Lower bound on epsilon at `delta` from the scores of coin-flipped canaries; see `best_of_rule` for arguments.

    Raises:
        ResultError: there are fewer than two canaries, or a score is not finite.
    """
    return best_of_rule(
        scores, inserted, rule=rule, confidence=confidence, epsilon_of_counts=refuted_by(len(scores), delta)
    )


def _check_counts(n_canaries: int, n_guesses: int, n_correct: int) -> None:
    if not (0 <= n_correct <= n_guesses <= n_canaries and n_guesses > 0):
        raise ResultError(f"{n_correct} right guesses of {n_guesses} on {n_canaries} canaries are impossible")


def _p_value(
    n_canaries: int, n_guesses: int, n_correct: int, epsilon: float, delta: float, *, enough: float = 1.0
) -> float:
    """The p-value, or its first term alone once that reaches `enough`."""
    if n_correct == 0:
        return 1.0
    beta = float(special.betaincc(n_guesses - n_correct + 1, n_correct, special.expit(-epsilon)))
    if delta == 0 or beta >= enough:
        return beta
    return min(1.0, beta + 2 * n_canaries * delta * _densest_below(n_guesses, n_correct, epsilon))


def _densest_below(n_guesses: int, n_correct: int, epsilon: float) -> float:
    """Largest mean of the probabilities of v - 1, v - 2, ... right guesses, over how far down it goes.

    Ten deviations and thirty guesses below their own mean they are under e^-45 (Bernstein's inequality), and cannot
    raise the mean: one that reaches down to the likeliest number is above 1 / r^2.
    """
    log_q = -math.log1p(math.exp(-epsilon))
    likeliest = n_guesses * math.exp(log_q)
    reach = 10 * math.sqrt(likeliest * math.exp(log_q - epsilon)) + 30
    least = max(0, math.floor(min(likeliest, n_correct - 1) - reach))
    correct = np.arange(n_correct - 1, least - 1, -1)
    log_probs = _log_binomials(n_guesses)[correct] + correct * log_q + (n_guesses - correct) * (log_q - epsilon)
    return float((np.exp(log_probs).cumsum() / np.arange(1, len(correct) + 1)).max())


@lru_cache(maxsize=64)
def _log_binomials(n: int) -> NDArray[np.float64]:
    """Logarithms of the binomial coefficients of n, shape (n + 1,)."""
    counts = np.arange(n + 1)
    logs: NDArray[np.float64] = special.gammaln(n + 1) - special.gammaln(counts + 1) - special.gammaln(n - counts + 1)
    return logs
