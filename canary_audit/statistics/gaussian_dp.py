"""Lower bounds on epsilon that take the mechanism to be at most as revealing as Gaussian noise.

Gaussian differential privacy says it with one number, mu: telling a canary's two worlds apart is no easier than telling
N(0, 1) from N(mu, 1) (Dong, Roth and Su 2022). These bounds are tighter than those that assume nothing, and wrong where
the assumption is: randomized response of epsilon 1 breaks them nearly always. They speak of DP-SGD only.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

from scipy import special

from canary_audit.errors import ResultError
from canary_audit.statistics.confusion import Confusion, pre_registered, rate_bounds
from canary_audit.statistics.guesses import EpsilonOfCounts, GuessBound, Rule, best_of_rule, largest_refuted

_TOLERANCE = 1e-6
_quantile = NormalDist().inv_cdf


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Smallest delta at which mu-Gaussian differential privacy gives this epsilon (Balle and Wang 2018, theorem 8).

    Gaussian noise of standard deviation sigma on a sum of sensitivity 1 has mu = 1 / sigma.

    Raises:
        ResultError: epsilon or mu is negative.
    """
    _check_positive(epsilon, mu)
    if mu == 0:
        return 0.0
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    return max(0.0, float(special.ndtr(upper) - math.exp(epsilon + float(special.log_ndtr(lower)))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon that mu-Gaussian differential privacy gives at `delta` (Dong, Roth and Su 2022, corollary 2.13).

    Raises:
        ResultError: mu is negative, or delta lies outside (0, 1); with delta = 0 there is no such epsilon.
    """
    _check_delta(delta)
    return largest_refuted(lambda epsilon: gaussian_delta(epsilon, mu) > delta)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Largest mu whose Gaussian differential privacy gives (epsilon, delta), the inverse of `gaussian_epsilon`.

    Raises:
        ResultError: epsilon is negative, or delta lies outside (0, 1).
    """
    _check_delta(delta)
    return largest_refuted(lambda mu: gaussian_delta(epsilon, mu) <= delta)


@lru_cache(maxsize=100_000)
def one_run_mu(n_canaries: int, n_guesses: int, n_correct: int, *, error: float) -> float:
    """Mu that so many right guesses in one run refute, all but with probability `error`; 0 if they refute none."""
    if not (0 <= n_correct <= n_guesses <= n_canaries and n_guesses > 0):
        raise ResultError(f"{n_correct} right guesses of {n_guesses} on {n_canaries} canaries are impossible")
    return largest_refuted(lambda mu: _refuted(mu, n_canaries, n_guesses, n_correct, error), _TOLERANCE)


def one_run_f_dp_bound(
    scores: Sequence[float], inserted: Sequence[bool], *, delta: float, rule: Rule, confidence: float = 0.95
) -> GuessBound:
    """Epsilon at `delta` from guesses in one run (Mahloujifar, Melis and Chaudhuri 2024); arguments as `best_of_rule`.

    Raises:
        ResultError: there are fewer than two canaries, a score is not finite, or delta lies outside (0, 1).
    """
    return best_of_rule(
        scores, inserted, rule=rule, confidence=confidence, epsilon_of_counts=f_dp_refuted_by(len(scores), delta)
    )


def f_dp_refuted_by(n_canaries: int, delta: float) -> EpsilonOfCounts:
    """Epsilon at `delta` of `one_run_mu`, for the functions of `guesses`."""
    return lambda guesses, correct, error: gaussian_epsilon(
        one_run_mu(n_canaries, guesses, correct, error=error), delta
    )


def gaussian_dp_bound(
    in_scores: Sequence[float], out_scores: Sequence[float], *, delta: float, confidence: float = 0.95
) -> GuessBound:
    """Epsilon at `delta` from error rates at thresholds fixed in advance, by intervals of Clopper and Pearson.

    Of two error rates it follows that mu >= Phi^-1(1 - FNR) - Phi^-1(FPR) (Dong, Roth and Su 2022, equation 6). Beside
    Gaussian noise it assumes that canaries are scored independently. Scores as in `clopper_pearson_bound`.

    Raises:
        ResultError: a side has no score or one that is not finite, or delta lies outside (0, 1).
    """

    def epsilon(table: Confusion, error: float) -> float:
        least_tpr, most_fpr = rate_bounds(table, error)
        mu = _quantile(least_tpr) - _quantile(most_fpr) if least_tpr > 0 and most_fpr < 1 else 0.0
        return gaussian_epsilon(max(0.0, mu), delta)

    return pre_registered(in_scores, out_scores, confidence=confidence, epsilon_of_table=epsilon)


def _refuted(mu: float, n_canaries: int, n_guesses: int, n_correct: int, error: float) -> bool:
    """Whether mu makes v right guesses of r rarer than `error` (Mahloujifar et al. 2024, section 3).

    Suppose P[v or more right] were `error`. Let `right` be the probability that a random canary is guessed right and
    at least t guesses are, `wrong` that it is guessed wrong and at least t - 1 are. Turning the canary's coin makes one
    of the other, so f-differential privacy asks for wrong >= Phi(Phi^-1(right) - mu). Walking t down from v, each step
    adds the least mass that allows it; if it all adds up to more than r / m, the supposition was wrong.
    """
    right, wrong = error * n_correct / n_canaries, error * (n_guesses - n_correct) / n_canaries
    most = n_guesses / n_canaries
    for n_right in range(n_correct - 1, -1, -1):
        needed = 0.5 * math.erfc((mu - _quantile(right)) / math.sqrt(2)) if right > 0 else 0.0
        if needed <= wrong:  # it asks for nothing more, and neither will any later step
            break
        right += (needed - wrong) * n_right / (n_guesses - n_right)
        wrong = needed
        if right + wrong > most or right >= 1:
            return True
    return right + wrong > most


def _check_positive(*values: float) -> None:
    if not all(value >= 0 for value in values):
        raise ResultError(f"epsilon and mu are never negative; got {', '.join(map(str, values))}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ResultError(f"Gaussian differential privacy has no epsilon at delta = {delta}: it lies between 0 and 1")
