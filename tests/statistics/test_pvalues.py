"""P-values against naive oracles, closed forms and the numbers of other tools."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics import pvalues
from canary_audit.statistics.intervals import clopper_pearson

PROBABILITIES = st.floats(0, 1)
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=5)
CASES = json.loads((Path(__file__).parent.parent / "conformance" / "statistics.json").read_text())


def cases(kind):
    chosen = [case for case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])


# --- ranks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "size", "expected"), [(1, 10**9, 1e-9), (10**9, 10**9, 1.0), (2.0, 10, 0.2)])
def test_exact_rank_is_a_share_of_the_space(rank, size, expected):
    assert pvalues.exact_rank_p_value(rank, size) == expected


def test_exact_rank_in_a_space_no_float_can_hold():
    assert pvalues.exact_rank_p_value(10**399, 10**400) == 0.1


@pytest.mark.parametrize("rank", [0, 11, 2.5, float("nan"), -1])
def test_exact_rank_refuses_what_no_rank_can_be(rank):
    with pytest.raises(ResultError, match="impossible"):
        pvalues.exact_rank_p_value(rank, 10)


def test_sampled_p_value_counts_the_canary_itself():
    """Guards the +1: a canary ahead of all 999 references has p = 1/1000, not 0."""
    assert pvalues.sampled_p_value(0, 999) == 1 / 1000
    assert pvalues.sampled_p_value(999, 999) == 1


@pytest.mark.parametrize("count", [-1, 5])
def test_sampled_p_value_refuses_impossible_counts(count):
    with pytest.raises(ResultError, match="impossible"):
        pvalues.sampled_p_value(count, 4)


@cases("exposure_interpolation")
def test_sampled_p_value_against_tensorflow_privacy(case):
    """Its exposure is log2 N - log2(1 + k); ours, -log2 p, has N + 1 in place of N."""
    references = np.array(case["given"]["reference"])
    shift = math.log2((len(references) + 1) / len(references))
    for candidate, expected in zip(case["given"]["candidates"], case["expect"], strict=True):
        p_value = pvalues.sampled_p_value(int((references <= candidate).sum()), len(references))
        assert -math.log2(p_value) - shift == pytest.approx(expected, abs=case["tol"])


def estimated(**changes):
    arguments = {"space_bits": 30.0, "nll_bits": 25.0, "rank_high": 2.0**10, "error": 1e-4}
    return pvalues.estimated_rank_p_value(**(arguments | changes))


def test_estimated_rank_takes_the_better_bound():
    assert estimated() == 2.0**-20 + 1e-4
    assert estimated(nll_bits=2.0) == 2.0**-28
    assert estimated(rank_high=2.0**31) == 2.0**-5
    assert estimated(rank_high=2.0**31, nll_bits=500.0) == 1.0


def test_estimated_rank_spends_its_error():
    """Guards the error of the interval: without it the p-value would be 2^-20."""
    assert estimated(error=0.01) - estimated(error=0.0) == pytest.approx(0.01)


def test_estimated_rank_in_huge_spaces():
    assert estimated(space_bits=133.0, nll_bits=5_000.0, rank_high=2.0**120, error=0.0) == 2.0**-13
    assert estimated(space_bits=5_000.0, nll_bits=10.0, rank_high=1.0) == 0.0


@pytest.mark.parametrize("changes", [{"rank_high": 0.5}, {"error": -0.1}, {"error": 2.0}, {"rank_high": float("nan")}])
def test_estimated_rank_refuses_impossible_bounds(changes):
    with pytest.raises(ResultError, match="impossible"):
        estimated(**changes)


# --- many canaries -------------------------------------------------------------------------------------------------


def holm_by_definition(p_values):
    """Largest of (number not yet handled) * p over the smaller ones, written out."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    for step, place in enumerate(order):
        steps = [(len(order) - before) * p_values[order[before]] for before in range(step + 1)]
        adjusted[place] = min(1.0, max(steps))
    return adjusted


@given(st.lists(PROBABILITIES, max_size=8))
def test_holm_equals_its_definition(p_values):
    assert pvalues.holm(p_values).tolist() == holm_by_definition(p_values)


@given(st.lists(PROBABILITIES, min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_holm_rejects_as_the_stepwise_procedure(p_values, alpha):
    """Walk up the sorted p-values and stop at the first above alpha / (number left)."""
    n_rejected = 0
    for step, value in enumerate(sorted(p_values)):
        if value * (len(p_values) - step) > alpha:
            break
        n_rejected += 1
    assert (pvalues.holm(p_values) <= alpha).sum() == n_rejected


def test_holm_divides_alpha_by_the_number_of_canaries():
    """Guards alpha / m: twenty canaries with p = 0.01 are no evidence at 5 %."""
    assert pvalues.holm([0.01] * 20).min() == pytest.approx(0.2)
    assert pvalues.holm([0.01]).tolist() == [0.01]


def test_fisher_of_one_is_itself_and_of_two_is_the_closed_form():
    assert pvalues.fisher_combined([0.03]) == pytest.approx(0.03)
    product = 0.03 * 0.2
    assert pvalues.fisher_combined([0.03, 0.2]) == pytest.approx(product * (1 - math.log(product)))


def test_fisher_survives_extremes():
    assert pvalues.fisher_combined([0.0, 0.5]) == 0.0
    assert pvalues.fisher_combined([1.0, 1.0]) == 1.0
    assert 0 < pvalues.fisher_combined([1e-9] * 4) < 1e-28


@pytest.mark.parametrize("combine", [pvalues.holm, pvalues.fisher_combined, pvalues.uniform_ks_p_value])
@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_only_probabilities_are_combined(combine, bad):
    with pytest.raises(ResultError, match="p-value"):
        combine([0.5, bad])


@pytest.mark.parametrize("combine", [pvalues.fisher_combined, pvalues.uniform_ks_p_value])
def test_nothing_cannot_be_combined(combine):
    with pytest.raises(ResultError, match="no p-value"):
        combine([])


# --- uniformity ----------------------------------------------------------------------------------------------------


def kolmogorov_tail(n_values, distance):
    """Exact P(D_n >= d): Durbin's matrix (Marsaglia, Tsang and Wang 2003), applied step by step."""
    width = math.ceil(n_values * distance)
    overlap = width - n_values * distance
    size = 2 * width - 1
    rows, columns = np.indices((size, size))
    powers = np.array([math.factorial(k) for k in range(size + 1)], float)
    matrix = np.where(rows - columns + 1 >= 0, 1 / powers[np.maximum(rows - columns + 1, 0)], 0.0)
    matrix[:, 0] -= overlap ** np.arange(1, size + 1) / powers[1:]
    matrix[-1, :] -= (overlap ** np.arange(1, size + 1) / powers[1:])[::-1]
    matrix[-1, 0] += max(0.0, 2 * overlap - 1) ** size / powers[size]
    vector = np.eye(size)[width - 1]
    for step in range(1, n_values + 1):
        vector = matrix @ vector * step / n_values
    return 1 - vector[width - 1]


def sample_at_distance(n_values, distance):
    """A sample whose largest deviation from uniform is exactly this, below the diagonal."""
    return np.maximum((np.arange(n_values) + 1) / n_values - distance, 0)


@pytest.mark.parametrize("n_values", [10, 20, 50])
@pytest.mark.parametrize("scaled", [0.6, 0.8, 1.0, 1.3, 1.7])
def test_ks_is_as_accurate_as_documented(n_values, scaled):
    distance = scaled / math.sqrt(n_values)
    exact = kolmogorov_tail(n_values, distance)
    ours = pvalues.uniform_ks_p_value(sample_at_distance(n_values, distance))
    assert ours == pytest.approx(exact, abs=0.005)
    if exact < 0.1:
        assert ours == pytest.approx(exact, rel=1e-4)


def test_ks_sees_both_sides():
    """Guards two sides: controls that rank too high are as suspect as controls that rank too low."""
    low = np.linspace(0, 0.4, 20)
    assert pvalues.uniform_ks_p_value(low) < 1e-4
    assert pvalues.uniform_ks_p_value(1 - low) == pytest.approx(pvalues.uniform_ks_p_value(low))


def test_ks_extremes():
    assert pvalues.uniform_ks_p_value([0.0] * 30) == 0.0
    assert pvalues.uniform_ks_p_value((np.arange(20) + 0.5) / 20) > 0.999


# --- two groups ----------------------------------------------------------------------------------------------------


def wins(in_scores, out_scores):
    return sum((i > o) + (i == o) / 2 for i in in_scores for o in out_scores)


def permutation_p_value(in_scores, out_scores):
    """Share of all ways to label the scores that give at least as many wins."""
    pooled = in_scores + out_scores
    observed, counts = wins(in_scores, out_scores), []
    for chosen in itertools.combinations(range(len(pooled)), len(in_scores)):
        rest = [score for place, score in enumerate(pooled) if place not in chosen]
        counts.append(wins([pooled[place] for place in chosen], rest) >= observed)
    return sum(counts) / len(counts)


@given(SCORES, SCORES)
def test_mann_whitney_equals_the_permutation_test(in_scores, out_scores):
    auc, p_value = pvalues.mann_whitney(in_scores, out_scores)
    assert auc == pytest.approx(wins(in_scores, out_scores) / (len(in_scores) * len(out_scores)))
    assert p_value == pytest.approx(permutation_p_value(in_scores, out_scores))


@cases("auroc")
def test_auc_against_jax_privacy(case):
    auc, _ = pvalues.mann_whitney(case["given"]["inn"], case["given"]["out"])
    assert auc == pytest.approx(case["expect"]["plain"], abs=case["tol"])


def test_auc_of_a_quarter_circle_is_its_area():
    out_scores = np.linspace(0, 1, 10_000)
    auc, p_value = pvalues.mann_whitney(np.sqrt(1 - out_scores**2), out_scores)
    assert auc == pytest.approx(math.pi / 4, abs=1e-4)
    assert p_value == 0.0


def test_mann_whitney_is_one_sided():
    """Guards one side: inserted canaries that score lower are no evidence of memorization."""
    low, high = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]
    assert pvalues.mann_whitney(high, low) == (1.0, pytest.approx(1 / 70))
    assert pvalues.mann_whitney(low, high) == (0.0, 1.0)


@pytest.mark.parametrize("decimals", [3, 0])
def test_normal_approximation_agrees_with_the_exact_test(decimals, monkeypatch):
    rng = np.random.default_rng(7)
    for shift in (0.0, 0.3, 0.6):
        in_scores, out_scores = rng.normal(shift, 1, 40).round(decimals), rng.normal(0, 1, 40).round(decimals)
        _, approximate = pvalues.mann_whitney(in_scores, out_scores)
        with monkeypatch.context() as patch:
            patch.setattr(pvalues, "EXACT_MANN_WHITNEY_MAX", 80)
            _, exact = pvalues.mann_whitney(in_scores, out_scores)
        assert approximate == pytest.approx(exact, rel=0.06, abs=0.002)


def test_normal_approximation_is_corrected_for_continuity(monkeypatch):
    """Without the correction of one half these p-values would be about 0.013 too small."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        in_scores, out_scores = rng.normal(size=10), rng.normal(size=10)
        _, exact = pvalues.mann_whitney(in_scores, out_scores)
        with monkeypatch.context() as patch:
            patch.setattr(pvalues, "EXACT_MANN_WHITNEY_MAX", 0)
            _, approximate = pvalues.mann_whitney(in_scores, out_scores)
        assert approximate == pytest.approx(exact, abs=0.006)


def test_mann_whitney_of_equal_scores_knows_nothing():
    assert pvalues.mann_whitney([1.0] * 50, [1.0] * 50) == (0.5, 1.0)
    assert pvalues.mann_whitney([1.0] * 3, [1.0] * 3) == (0.5, 1.0)


@pytest.mark.parametrize(("in_scores", "out_scores"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0])])
def test_mann_whitney_refuses_what_it_cannot_compare(in_scores, out_scores):
    with pytest.raises(ResultError, match="cannot compare"):
        pvalues.mann_whitney(in_scores, out_scores)


@cases("eps_clopper_pearson")
def test_epsilon_from_clopper_pearson_against_tensorflow_privacy(case):
    hits = case["given"]
    confidence = 1 - hits["alpha"]
    low, _ = clopper_pearson(hits["tp"], hits["tp"] + hits["fn"], confidence)
    _, high = clopper_pearson(hits["fp"], hits["fp"] + hits["tn"], confidence)
    assert math.log(low / high) == pytest.approx(case["expect"], abs=1e-9)
