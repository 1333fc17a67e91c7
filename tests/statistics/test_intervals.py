"""Intervals: closed forms, exact coverage and edge cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.intervals import clopper_pearson, log_t_interval


def test_clopper_pearson_closed_forms():
    low, high = clopper_pearson(0, 30, 0.95)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    low, high = clopper_pearson(30, 30, 0.95)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 30)), 1.0)


def binomial(n_trials, probability):
    return [math.comb(n_trials, k) * probability**k * (1 - probability) ** (n_trials - k) for k in range(n_trials + 1)]


@given(st.integers(1, 30), st.floats(0.01, 0.99), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_covers_at_least_its_confidence(n_trials, probability, confidence):
    covered = sum(
        chance
        for n_hits, chance in enumerate(binomial(n_trials, probability))
        if clopper_pearson(n_hits, n_trials, confidence)[0]
        <= probability
        <= clopper_pearson(n_hits, n_trials, confidence)[1]
    )
    assert covered >= confidence - 1e-9


def test_clopper_pearson_ends_are_binomial_tests():
    low, high = clopper_pearson(7, 20, 0.95)
    assert sum(binomial(20, low)[7:]) == pytest.approx(0.025)
    assert sum(binomial(20, high)[:8]) == pytest.approx(0.025)


@pytest.mark.parametrize(("hits", "trials", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.0)])
def test_clopper_pearson_refuses_impossible_counts(hits, trials, confidence):
    with pytest.raises(ResultError, match="impossible"):
        clopper_pearson(hits, trials, confidence)


def test_log_t_interval_by_hand():
    mean, low, high = log_t_interval([10.0, 20.0], 0.95)
    student = 12.706205  # t with one degree of freedom
    variance = math.log(2) ** 2 / 2
    assert mean == 15
    assert low == pytest.approx(max(1.0, 15 * math.exp(-student * math.sqrt(50) / (15 * math.sqrt(2)))))
    most_variance = variance / 0.000982069  # 2.5 % quantile of chi-square with one degree of freedom
    above = math.hypot(student * math.sqrt(variance / 2), (most_variance - variance) / 2)
    assert math.log(high) == pytest.approx(math.log(200) / 2 + variance / 2 + above, rel=1e-5)


def test_replicates_that_differ_by_orders_of_magnitude_leave_room_above():
    """Eight lognormal replicates of sigma 5: the t interval on their mean misses the true mean nearly always."""
    rng = np.random.default_rng(1)
    truth = math.exp(40 + 5**2 / 2)
    covered = [log_t_interval(rng.lognormal(40, 5, 8).tolist(), 0.95)[2] >= truth for _ in range(400)]
    assert np.mean(covered) > 0.95
    assert log_t_interval([1.0, 1.0, 1e30, 1e31], 0.95)[2] > 1e100


@given(st.lists(st.floats(1, 1e40), min_size=2, max_size=10), st.floats(0.5, 0.999))
def test_log_t_interval_holds_its_mean_and_the_certain_part(replicates, confidence):
    mean, low, high = log_t_interval(replicates, confidence)
    assert 1 <= low <= mean * (1 + 1e-12)
    assert mean <= high * (1 + 1e-12)


@given(st.lists(st.floats(10, 1e6), min_size=2, max_size=8), st.floats(2, 100))
def test_log_t_interval_scales_with_the_count(replicates, factor):
    once = log_t_interval(replicates, 0.9, certain=0.0)
    scaled = log_t_interval([factor * count for count in replicates], 0.9, certain=0.0)
    assert scaled == pytest.approx([factor * value for value in once])


def test_equal_replicates_have_no_width():
    assert log_t_interval([7.0] * 8, 0.95) == (7.0, 7.0, 7.0)


def test_replicates_that_saw_nothing_give_no_upper_limit():
    assert log_t_interval([1.0] * 8, 0.95) == (1.0, 1.0, math.inf)
    assert log_t_interval([0.0] * 8, 0.95, certain=0.0) == (0.0, 0.0, math.inf)


def test_some_replicates_may_have_seen_nothing():
    mean, low, high = log_t_interval([0.0, 0.0, 12.0, 4.0], 0.95, certain=0.0)
    assert mean == 4
    assert 0 < low < 4 < high < math.inf


@pytest.mark.parametrize("replicates", [[], [3.0], [3.0, math.nan], [3.0, math.inf], [3.0, 0.5]])
def test_log_t_interval_refuses_what_is_no_sample(replicates):
    with pytest.raises(ResultError, match="two or more finite estimates"):
        log_t_interval(replicates, 0.95)


def test_log_t_interval_accepts_arrays():
    assert log_t_interval(np.array([2.0, 2.0]), 0.95)[0] == 2.0
