"""What a number of coin-flipped canaries can show of epsilon, and how many a policy takes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.one_run import one_run_bound, one_run_p_value
from canary_audit.statistics.power import canaries_for_epsilon, epsilon_ceiling, median_bound

RULES = st.sampled_from(["grid", "fixed"])


@pytest.mark.parametrize(("epsilon", "guesses"), [(1.0, 10), (2.0, 24), (4.0, 166), (8.0, 8_932)])
def test_guesses_that_a_policy_takes_uncorrected(epsilon, guesses):
    assert one_run_p_value(guesses, guesses, guesses, epsilon, 0.0) < 0.05
    assert one_run_p_value(guesses - 1, guesses - 1, guesses - 1, epsilon, 0.0) >= 0.05


@pytest.mark.parametrize(("epsilon", "canaries"), [(1.0, 4 * 10), (2.0, 4 * 24), (4.0, 4 * 166), (8.0, 4 * 8_932)])
def test_an_eighth_on_either_side_takes_four_canaries_a_guess(epsilon, canaries):
    assert canaries_for_epsilon(epsilon, delta=0.0, rule="fixed") == canaries


@settings(max_examples=25)
@given(st.floats(0, 4), RULES, st.sampled_from([0.0, 1e-6, 1e-5]))
def test_one_canary_fewer_is_too_few(epsilon, rule, delta):
    fewest = canaries_for_epsilon(epsilon, delta=delta, rule=rule)
    assert epsilon_ceiling(fewest, delta=delta, rule=rule) > epsilon
    for fewer in range(max(2, fewest - 20), fewest):
        assert epsilon_ceiling(fewer, delta=delta, rule=rule) <= epsilon


def test_delta_limits_what_any_number_of_canaries_shows():
    """The mechanism that gives everything away with probability delta explains the rest."""
    assert canaries_for_epsilon(8.0, delta=1e-5, rule="grid") is None
    assert canaries_for_epsilon(8.0, delta=1e-5, rule="fixed") is None
    for power in range(10, 18):
        assert epsilon_ceiling(2**power, delta=1e-5, rule="grid") < 7
        assert epsilon_ceiling(2**power, delta=1e-5, rule="fixed") < 7


@given(st.integers(2, 3_000), RULES)
def test_the_ceiling_is_the_bound_of_perfect_scores(n_canaries, rule):
    inserted = np.arange(n_canaries) >= n_canaries / 2
    found = one_run_bound(inserted.astype(float), inserted, delta=1e-6, rule=rule)
    assert found.epsilon == epsilon_ceiling(n_canaries, delta=1e-6, rule=rule) == found.ceiling


@pytest.mark.parametrize("n_canaries", [0, 1])
def test_fewer_than_two_canaries_show_nothing(n_canaries):
    assert epsilon_ceiling(n_canaries, delta=0.0, rule="grid") == 0.0


def test_half_of_the_best_attackers_see_the_median_bound():
    rng, n_canaries, bounds = np.random.default_rng(2), 400, []
    for _ in range(200):
        coins = rng.random(n_canaries) < 0.5
        answers = coins ^ (rng.random(n_canaries) < 1 / (1 + math.exp(2.0)))
        bounds.append(one_run_bound(answers, coins, delta=0.0, rule="fixed").epsilon)
    assert np.median(bounds) == pytest.approx(median_bound(2.0, n_canaries, delta=0.0, rule="fixed"), abs=0.2)


@given(st.floats(0, 6), st.integers(2, 2_000), RULES)
def test_the_median_bound_lies_below_the_truth_and_the_ceiling(epsilon, n_canaries, rule):
    bound = median_bound(epsilon, n_canaries, delta=0.0, rule=rule)
    assert bound <= epsilon
    assert bound <= epsilon_ceiling(n_canaries, delta=0.0, rule=rule)


@pytest.mark.parametrize(("epsilon", "confidence"), [(-1.0, 0.95), (math.nan, 0.95), (1.0, 1.0)])
def test_what_no_policy_asks_is_refused(epsilon, confidence):
    with pytest.raises(ResultError, match="no design"):
        canaries_for_epsilon(epsilon, delta=0.0, rule="grid", confidence=confidence)
