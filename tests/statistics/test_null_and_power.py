"""The null of exposure, and what a design can detect."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.null import NULL_MEAN_BITS, null_exposure_quantile, null_exposure_tail
from canary_audit.statistics.power import detectable_bits, least_sampled_p_value, min_references
from canary_audit.statistics.pvalues import exact_rank_p_value, holm, sampled_p_value


def test_the_published_numbers_of_the_null():
    assert pytest.approx(1.443, abs=5e-4) == NULL_MEAN_BITS
    assert null_exposure_quantile(0.95) == pytest.approx(4.32, abs=5e-3)
    assert null_exposure_quantile(0.99) == pytest.approx(6.64, abs=5e-3)
    assert null_exposure_quantile(0.0) == 0.0


@given(st.floats(0, 0.999999))
def test_tail_and_quantile_are_inverse(probability):
    assert null_exposure_tail(null_exposure_quantile(probability)) == pytest.approx(1 - probability)


def test_tail_is_a_probability_below_zero_bits_too():
    assert null_exposure_tail(-1.0) == 1.0


def test_no_finite_space_has_a_heavier_tail():
    size = 1_000
    exposure = math.log2(size) - np.log2(np.arange(1, size + 1))
    for bits in np.linspace(0, 9, 40):
        assert (exposure >= bits).mean() <= null_exposure_tail(bits)
    assert exposure.mean() < NULL_MEAN_BITS


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_quantile_refuses_what_is_no_probability(probability):
    with pytest.raises(ResultError, match="no exposure quantile"):
        null_exposure_quantile(probability)


@given(st.integers(1, 500), st.sampled_from([0.01, 0.05, 0.07, 0.1]))
def test_min_references_is_where_holm_starts_to_reject(n_canaries, alpha):
    """Guards alpha / m in the plan: one reference fewer, and the best possible canary is not significant."""
    least = min_references(n_canaries, alpha)
    others = [1.0] * (n_canaries - 1)
    assert holm([sampled_p_value(0, least), *others]).min() <= alpha
    assert least == 0 or holm([sampled_p_value(0, least - 1), *others]).min() > alpha
    assert least == pytest.approx(n_canaries / alpha - 1, abs=1)


def test_the_example_of_the_plan():
    """100 canaries and 1,000 references can never reject at 5 %."""
    assert min_references(100, 0.05) == 1_999
    assert least_sampled_p_value(999) == 1 / 1000


@given(st.integers(1, 500), st.sampled_from([0.01, 0.05]))
def test_detectable_bits_is_where_holm_starts_to_reject(n_canaries, alpha):
    bits = detectable_bits(n_canaries, alpha)
    others = [1.0] * (n_canaries - 1)
    above, below = exact_rank_p_value(1, math.ceil(2**bits) + 1), exact_rank_p_value(1, math.floor(2**bits) - 1)
    assert holm([above, *others]).min() <= alpha < holm([below, *others]).min()


@pytest.mark.parametrize("power", [detectable_bits, min_references])
@pytest.mark.parametrize(("n_canaries", "alpha"), [(0, 0.05), (5, 0.0), (5, 1.0)])
def test_power_refuses_what_is_no_design(power, n_canaries, alpha):
    with pytest.raises(ResultError, match="no design"):
        power(n_canaries, alpha)
