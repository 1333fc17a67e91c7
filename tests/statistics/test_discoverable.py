"""How many samples until a secret comes out, against exact rational arithmetic."""

import math
from fractions import Fraction

import pytest

from canary_audit.errors import ResultError
from canary_audit.statistics.discoverable import chance_within, samples_needed


@pytest.mark.parametrize("odds", [2, 3, 10, 97, 1_000])
@pytest.mark.parametrize("p", [Fraction(1, 100), Fraction(1, 2), Fraction(9, 10)])
def test_rounded_up_it_is_the_first_number_of_samples_that_suffices(odds, p):
    n = math.ceil(samples_needed(math.log(odds), float(p)) - 1e-9)
    missed = 1 - Fraction(1, odds)
    assert 1 - missed**n >= p
    assert n == 1 or 1 - missed ** (n - 1) < p


@pytest.mark.parametrize("odds", [2, 7, 1_000])
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_the_chance_within_some_samples_is_exact(odds, n):
    exact = 1 - (1 - Fraction(1, odds)) ** n
    assert chance_within(math.log(odds), n) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("nll", [1e-12, 1e-6, 0.1, math.log(2), 1.0, 30.0, 300.0, 700.0])
@pytest.mark.parametrize("p", [0.01, 0.5, 0.99])
def test_from_costs_near_none_to_700_nats_the_two_agree(nll, p):
    n = samples_needed(nll, p)
    assert n >= 1
    assert math.isfinite(n)
    if n > 1:
        assert chance_within(nll, n) == pytest.approx(p, rel=1e-12)
    else:
        assert chance_within(nll, n) >= p * (1 - 1e-12)


@pytest.mark.parametrize("nll", [40.0, 200.0, 690.0])
def test_unlikely_secrets_need_the_logarithm_of_two_over_their_probability(nll):
    """log(1 - q) is -q beyond what a float can tell from it."""
    assert samples_needed(nll) == pytest.approx(math.log(2) * math.exp(nll), rel=1e-12)
    assert chance_within(nll, 1) == pytest.approx(math.exp(-nll), rel=1e-12)


def test_a_secret_that_is_nearly_certain_is_found_by_one_sample():
    assert samples_needed(0.0) == samples_needed(1e-12) == 1.0
    assert chance_within(1e-12, 1) == 1.0 - 1e-12
    assert (chance_within(0.0, 0), chance_within(0.0, 1)) == (0.0, 1.0)


def test_it_grows_with_the_cost_and_with_the_probability_asked_for():
    costs = [0.0, 0.2, 0.5, 0.7, 1.0, 5.0, 50.0, 699.0]
    needed = [samples_needed(cost) for cost in costs]
    assert needed == sorted(needed)
    assert samples_needed(5.0, 0.1) < samples_needed(5.0, 0.5) < samples_needed(5.0, 0.9)


def test_beyond_what_a_float_holds_there_is_no_number():
    assert samples_needed(700.1) == math.inf
    assert chance_within(800.0, 10**9) == 0.0


@pytest.mark.parametrize(("nll", "p"), [(-0.1, 0.5), (math.nan, 0.5), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)])
def test_impossible_numbers_are_an_error(nll, p):
    with pytest.raises(ResultError):
        samples_needed(nll, p)


@pytest.mark.parametrize(("nll", "n"), [(-0.1, 1), (math.nan, 1), (1.0, -1)])
def test_an_impossible_number_of_samples_is_an_error(nll, n):
    with pytest.raises(ResultError):
        chance_within(nll, n)
