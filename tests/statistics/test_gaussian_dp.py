"""Gaussian differential privacy: conversions against closed forms and integrals, bounds against exact error rates."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.gaussian_dp import (
    gaussian_delta,
    gaussian_dp_bound,
    gaussian_epsilon,
    gaussian_mu,
    one_run_f_dp_bound,
    one_run_mu,
)

NORMAL = NormalDist()

# --- conversions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "mu"), [(0.0, 1.0), (1.0, 0.3), (1.0, 1.0), (4.0, 2.0), (8.0, 0.9)])
def test_delta_is_the_probability_that_one_world_has_beyond_the_other(epsilon, mu):
    """Integral of max(0, density of N(mu, 1) - e^epsilon density of N(0, 1)), on a fine grid."""
    x = np.linspace(-12, 14, 400_001)
    densities = [np.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (mu, 0.0)]
    integral = np.maximum(0.0, densities[0] - math.exp(epsilon) * densities[1]).sum() * (x[1] - x[0])
    assert gaussian_delta(epsilon, mu) == pytest.approx(integral, rel=1e-6, abs=1e-15)


@given(st.floats(0.05, 8), st.sampled_from([1e-9, 1e-5, 1e-2]))
def test_epsilon_and_mu_are_inverse(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)
    if epsilon > 0:
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, abs=1e-6)
        assert gaussian_delta(epsilon, mu) == pytest.approx(delta, rel=1e-5)
    else:
        assert gaussian_delta(0.0, mu) <= delta


def test_noise_that_hides_more_than_delta_asks_has_epsilon_zero():
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-6, 1e-5) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_there_is_no_pure_epsilon(delta):
    for convert in (gaussian_epsilon, gaussian_mu):
        with pytest.raises(ResultError, match="delta"):
            convert(1.0, delta)


@pytest.mark.parametrize(("epsilon", "mu"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_negative_parameters_are_refused(epsilon, mu):
    with pytest.raises(ResultError, match="never negative"):
        gaussian_delta(epsilon, mu)


# --- guesses in one run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0.6, 0.7, 0.95])
def test_a_single_guess_has_a_closed_form(error):
    """The best attacker on one canary is right with probability Phi(mu / 2)."""
    assert one_run_mu(1, 1, 1, error=error) == pytest.approx(2 * NORMAL.inv_cdf(error), abs=1e-5)


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("n_canaries", [1, 7, 40, 300])
def test_mu_exceeds_the_truth_no_more_often_than_it_may(n_canaries, mu):
    """Exactly, for noise on each canary alone, and the best attacker: right guesses are binomial."""
    right, error = NORMAL.cdf(mu / 2), 0.05
    exceeding = [v for v in range(n_canaries + 1) if one_run_mu(n_canaries, n_canaries, v, error=error) > mu]
    chance = sum(math.comb(n_canaries, v) * right**v * (1 - right) ** (n_canaries - v) for v in exceeding)
    assert chance <= error
    assert exceeding == list(range(n_canaries + 1 - len(exceeding), n_canaries + 1))


def test_f_dp_sees_more_than_no_assumption_and_less_than_the_truth():
    rng = np.random.default_rng(1)
    inserted = rng.random(2_000) < 0.5
    scores = rng.normal(size=2_000) + 1.0 * inserted
    found = one_run_f_dp_bound(scores, inserted, delta=1e-5, rule="grid")
    assert 1.8 < found.epsilon < gaussian_epsilon(1.0, 1e-5)
    assert found.epsilon < found.ceiling


@pytest.mark.parametrize(("guesses", "correct"), [(5, 6), (0, 0), (11, 3)])
def test_f_dp_refuses_impossible_counts(guesses, correct):
    with pytest.raises(ResultError, match="impossible"):
        one_run_mu(10, guesses, correct, error=0.05)


# --- error rates ---------------------------------------------------------------------------------------------------


def test_perfect_scores_by_hand():
    """Forty on either side: no wrong accusation, and no miss, in six comparisons of two intervals each."""
    found = gaussian_dp_bound(np.arange(40) + 100.0, np.arange(40.0), delta=1e-5)
    error = 0.05 / 6 / 2
    least_tpr, most_fpr = error ** (1 / 40), 1 - error ** (1 / 40)
    assert found.epsilon == pytest.approx(
        gaussian_epsilon(NORMAL.inv_cdf(least_tpr) - NORMAL.inv_cdf(most_fpr), 1e-5), abs=1e-6
    )
    assert found.ceiling == found.epsilon
    assert found.guesses == found.correct == 40


def test_error_rates_of_chance_show_nothing():
    rng = np.random.default_rng(2)
    assert gaussian_dp_bound(rng.normal(size=300), rng.normal(size=300), delta=1e-5).epsilon == 0.0
