"""The one-run bound: its p-value against sums written out, its guesses against counting, and where it ends."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.guesses import count_correct, guess_counts, largest_refuted
from canary_audit.statistics.one_run import one_run_bound, one_run_epsilon, one_run_p_value

# --- the p-value ---------------------------------------------------------------------------------------------------


def written_out(n_canaries, n_guesses, n_correct, odds, delta):
    """The p-value in exact fractions, at e^epsilon = `odds`."""
    q = Fraction(odds, 1 + odds)
    mass = [math.comb(n_guesses, k) * q**k * (1 - q) ** (n_guesses - k) for k in range(n_guesses + 1)]
    beta = sum(mass[n_correct:])
    alpha = max((sum(mass[n_correct - i : n_correct]) / i for i in range(1, n_correct + 1)), default=Fraction(0))
    return float(min(1, beta + 2 * n_canaries * Fraction(delta) * alpha))


@given(st.integers(1, 40), st.data(), st.sampled_from([1, 2, 3, 7, 50, 1_000]), st.sampled_from([0.0, 1e-6, 1e-3, 0.1]))
def test_p_value_equals_the_formula_in_exact_fractions(n_guesses, data, odds, delta):
    n_correct, n_canaries = data.draw(st.integers(0, n_guesses)), n_guesses + data.draw(st.integers(0, 60))
    expected = written_out(n_canaries, n_guesses, n_correct, odds, delta)
    p_value = one_run_p_value(n_canaries, n_guesses, n_correct, math.log(odds), delta)
    assert p_value == pytest.approx(expected, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 9.0])
@pytest.mark.parametrize("above", [-0.2, 0.0, 0.5, 1.0])
def test_sums_that_stop_early_leave_nothing_out(epsilon, above):
    """Against sums over every number of right guesses, from the mean (0) to all of them right (1)."""
    n, q = 3_000, 1 / (1 + math.exp(-epsilon))
    n_correct = min(n, round(n * q + above * (n - n * q)))
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    mass = np.exp([log + k * math.log(q) + (n - k) * (math.log(q) - epsilon) for k, log in enumerate(logs)])
    alpha = (mass[:n_correct][::-1].cumsum() / np.arange(1, n_correct + 1)).max()
    added = one_run_p_value(n, n, n_correct, epsilon, 1e-5) - one_run_p_value(n, n, n_correct, epsilon, 0.0)
    assert added == pytest.approx(2 * n * 1e-5 * alpha, rel=1e-6, abs=1e-15)


def test_p_value_keeps_its_digits_where_right_guesses_are_nearly_certain():
    """At epsilon 30 the chance of a wrong guess is 1e-13; a thousand right ones are no surprise, and no exact 1."""
    wrong = math.exp(-30) / (1 + math.exp(-30))
    assert 1 - one_run_p_value(1_000, 1_000, 1_000, 30.0, 0.0) == pytest.approx(1_000 * wrong, rel=1e-2)
    assert one_run_p_value(1_000, 1_000, 999, 30.0, 0.0) == 1.0


def test_p_value_of_a_hundred_thousand_canaries():
    """Against the normal distribution: two deviations above the mean, and with what delta adds."""
    n, q = 100_000, math.e / (1 + math.e)
    deviation = math.sqrt(n * q * (1 - q))
    n_correct = math.ceil(n * q + 2 * deviation)
    pure = one_run_p_value(n, n, n_correct, 1.0, 0.0)
    assert pure == pytest.approx(0.02275, rel=0.02)
    added = one_run_p_value(n, n, n_correct, 1.0, 1e-6) - pure
    steepest = math.exp(-(2.0**2) / 2) / (deviation * math.sqrt(2 * math.pi))
    flattest = 1 / (deviation * math.sqrt(2 * math.pi))
    assert 0.2 * steepest < added < 0.2 * flattest


@given(st.integers(1, 200), st.data(), st.floats(0, 6), st.floats(0, 2))
def test_more_epsilon_and_fewer_right_guesses_are_less_surprising(n_guesses, data, epsilon, more):
    n_correct = data.draw(st.integers(1, n_guesses))
    p_value = one_run_p_value(n_guesses, n_guesses, n_correct, epsilon, 0.0)
    assert one_run_p_value(n_guesses, n_guesses, n_correct, epsilon + more, 0.0) >= p_value - 1e-12
    assert one_run_p_value(n_guesses, n_guesses, n_correct - 1, epsilon, 0.0) >= p_value - 1e-12


@pytest.mark.parametrize(
    "arguments",
    [
        (10, 5, 6, 1.0, 0.0),
        (10, 11, 3, 1.0, 0.0),
        (10, 0, 0, 1.0, 0.0),
        (10, 5, -1, 1.0, 0.0),
        (10, 5, 3, -0.1, 0.0),
        (10, 5, 3, math.nan, 0.0),
        (10, 5, 3, 1.0, 1.0),
        (10, 5, 3, 1.0, -1e-9),
    ],
)
def test_p_value_refuses_what_cannot_be(arguments):
    with pytest.raises(ResultError, match="impossible"):
        one_run_p_value(*arguments)


# --- from p-value to epsilon ---------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.data(), st.sampled_from([0.0, 1e-5, 1e-3]), st.sampled_from([0.05, 0.01]))
def test_epsilon_is_where_the_p_value_reaches_the_error(n_guesses, data, delta, error):
    n_correct = data.draw(st.integers(0, n_guesses))
    epsilon = one_run_epsilon(n_guesses, n_guesses, n_correct, delta=delta, error=error)
    if epsilon > 0:
        assert one_run_p_value(n_guesses, n_guesses, n_correct, epsilon, delta) < error
        assert one_run_p_value(n_guesses, n_guesses, n_correct, epsilon + 1e-6, delta) >= error
    else:
        assert one_run_p_value(n_guesses, n_guesses, n_correct, 1e-6, delta) >= error


def test_published_ceilings():
    """With r of r guesses right, (e^eps / (1 + e^eps))^r = 0.05."""
    for guesses, epsilon in ((10, 1.05), (100, 3.49), (1_000, 5.81), (10_000, 8.11)):
        found = one_run_epsilon(guesses, guesses, guesses, delta=0.0, error=0.05)
        assert found == pytest.approx(epsilon, abs=0.005)
        share = 0.05 ** (1 / guesses)
        assert found == pytest.approx(math.log(share / (1 - share)), abs=1e-8)


def test_no_evidence_is_epsilon_zero():
    assert one_run_epsilon(100, 100, 50, delta=0.0, error=0.05) == 0.0
    assert one_run_epsilon(100, 100, 0, delta=0.0, error=0.05) == 0.0


def test_what_is_returned_is_refuted_also_if_refutation_comes_and_goes():
    def refuted(value):
        return value < 0.3 or 0.6 < value < 1.7

    assert refuted(largest_refuted(refuted))
    assert largest_refuted(lambda value: False) == 0.0


# --- guesses -------------------------------------------------------------------------------------------------------


def test_numbers_of_guesses():
    assert guess_counts(1_000, "grid") == (31, 62, 125, 250, 500)
    assert guess_counts(1_000, "fixed") == (125,)
    assert guess_counts(50, "grid") == (1, 3, 6, 12, 25)
    assert guess_counts(7, "grid") == (1, 3)
    assert guess_counts(2, "grid") == guess_counts(2, "fixed") == (1,)


@given(st.integers(2, 10_000), st.sampled_from(["grid", "fixed"]))
def test_no_canary_is_guessed_on_twice(n_canaries, rule):
    counts = guess_counts(n_canaries, rule)
    assert list(counts) == sorted(set(counts))
    assert counts[0] >= 1
    assert 2 * counts[-1] <= n_canaries


@pytest.mark.parametrize("n_canaries", [0, 1])
def test_too_few_canaries_to_guess(n_canaries):
    with pytest.raises(ResultError, match="at least two"):
        guess_counts(n_canaries, "grid")


def counted(scores, inserted, per_side):
    """Right guesses by hand: rank by (score, place), take the ends."""
    ranked = sorted(range(len(scores)), key=lambda place: (scores[place], place))
    lowest, highest = ranked[:per_side], ranked[len(ranked) - per_side :]
    return sum(not inserted[place] for place in lowest) + sum(inserted[place] for place in highest)


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=2, max_size=30), st.data())
def test_right_guesses_are_counted_at_both_ends(canaries, data):
    """Ties, odd numbers of canaries, and coins that all fell on one side among them."""
    scores, inserted = [float(score) for score, _ in canaries], [coin for _, coin in canaries]
    per_side = data.draw(st.integers(1, len(canaries) // 2))
    assert count_correct(scores, inserted, (per_side,)) == (counted(scores, inserted, per_side),)


def test_the_middle_canary_of_an_odd_number_is_not_guessed_on():
    scores = [1.0, 2.0, 3.0, 4.0, 5.0]
    for middle in (True, False):
        assert count_correct(scores, [False, False, middle, True, True], (2,)) == (4,)


def test_ties_never_look_at_the_coin():
    """Over all coins of four canaries with equal scores, two guesses are right half of the time: a fair guess."""
    right = [count_correct([0.0] * 4, coins, (1,))[0] for coins in itertools.product([False, True], repeat=4)]
    assert sum(right) == 16
    assert sorted(set(right)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("scores", "inserted"), [([1.0, math.nan], [True, False]), ([1.0, math.inf], [True, False]), ([1.0, 2.0], [True])]
)
def test_only_finite_scores_with_a_coin_are_guessed_on(scores, inserted):
    with pytest.raises(ResultError, match="finite score"):
        count_correct(scores, inserted, (1,))


def test_more_guesses_than_canaries_are_refused():
    with pytest.raises(ResultError, match="twice as many"):
        count_correct([1.0, 2.0, 3.0], [True, False, True], (2,))


# --- the bound -----------------------------------------------------------------------------------------------------


def separated(n_canaries, n_wrong=0):
    """Half in and scored higher, with the outermost `n_wrong` coins turned over."""
    inserted = np.arange(n_canaries) >= n_canaries // 2
    inserted[:n_wrong] ^= True
    return np.arange(n_canaries, dtype=float), inserted


def test_the_bound_is_the_best_of_the_grid_at_a_fifth_of_the_error():
    rng = np.random.default_rng(1)
    inserted = rng.random(400) < 0.5
    scores = rng.normal(size=400) + 1.5 * inserted
    by_hand = {
        per_side: one_run_epsilon(400, 2 * per_side, counted(scores, inserted, per_side), delta=1e-5, error=0.05 / 5)
        for per_side in (12, 25, 50, 100, 200)
    }
    found = one_run_bound(scores, inserted, delta=1e-5, rule="grid")
    assert found.epsilon == pytest.approx(max(by_hand.values()), abs=1e-6)
    assert by_hand[found.guesses // 2] == pytest.approx(found.epsilon, abs=1e-6)
    assert found.correct == counted(scores, inserted, found.guesses // 2)


def test_a_single_number_of_guesses_needs_no_correction():
    scores, inserted = separated(80)
    found = one_run_bound(scores, inserted, delta=0.0, rule="fixed")
    assert found.guesses == found.correct == 20
    assert found.epsilon == found.ceiling == pytest.approx(math.log(1 / (0.05 ** (-1 / 20) - 1)), abs=1e-6)


@pytest.mark.parametrize("rule", ["grid", "fixed"])
def test_no_outcome_beats_the_ceiling(rule):
    best = one_run_bound(*separated(200), delta=1e-6, rule=rule)
    assert best.epsilon == best.ceiling
    worse = one_run_bound(*separated(200, n_wrong=3), delta=1e-6, rule=rule)
    assert worse.ceiling == best.ceiling
    assert worse.epsilon < best.epsilon


def test_scores_that_point_the_wrong_way_show_nothing():
    scores, inserted = separated(200)
    assert one_run_bound(-scores, inserted, delta=0.0, rule="grid").epsilon == 0.0


def test_coins_that_all_fell_on_one_side_can_be_bounded():
    found = one_run_bound([0.0, 1.0, 2.0, 3.0], [True] * 4, delta=0.0, rule="fixed")
    assert (found.epsilon, found.guesses, found.correct) == (0.0, 2, 1)


def test_lower_confidence_shows_more():
    scores, inserted = separated(200, n_wrong=2)
    bounds = [one_run_bound(scores, inserted, delta=0.0, rule="grid", confidence=c).epsilon for c in (0.99, 0.95, 0.8)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[2]
