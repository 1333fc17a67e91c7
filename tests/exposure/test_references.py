"""The paper's own estimators: right where they can be, capped and labelled where they cannot."""

import numpy as np
import pytest
from worlds import digit_walk, naive_costs

from canary_audit.exposure.references import paper_estimates, reference_costs
from canary_audit.models.table import digit_tree


@pytest.fixture(scope="module")
def estimates():
    model, walk = digit_tree(6, np.random.default_rng(0), spread=1.0), digit_walk(6)
    ordered = np.sort(naive_costs(model, 6))
    costs = ordered[[0, 9_999, 500_000]]
    return paper_estimates(walk, model, costs, n_references=500, rng=np.random.default_rng(1))


def test_sampling_cannot_see_past_its_sample(estimates):
    sampled = [pair[0] for pair in estimates]
    assert [estimate.method for estimate in sampled] == ["uniform-sampling"] * 3
    assert sampled[0].bits <= np.log2(501) + 1e-9
    assert sampled[0].high == pytest.approx(np.log2(10**6))
    assert all(estimate.low <= estimate.bits <= estimate.high for estimate in sampled)


def test_both_estimators_agree_with_the_truth_in_the_bulk(estimates):
    truth = np.log2(10**6) - np.log2(10_000)
    sampled, fitted = estimates[1]
    assert sampled.low <= truth <= sampled.high
    assert abs(fitted.bits - truth) < 2.0
    assert 0.0 < fitted.goodness_of_fit_p <= 1.0


def test_extrapolation_is_capped_at_the_size_of_the_space():
    model, walk = digit_tree(4, np.random.default_rng(2), spread=1.0), digit_walk(4)
    _, fitted = paper_estimates(walk, model, np.array([0.0]), n_references=300, rng=np.random.default_rng(3))[0]
    assert fitted.capped
    assert fitted.bits == fitted.high == pytest.approx(np.log2(10**4))


def test_equal_references_leave_nothing_to_fit():
    model, walk = digit_tree(3, np.random.default_rng(4), spread=0.0), digit_walk(3)
    assert len(paper_estimates(walk, model, np.array([3.0]), n_references=50, rng=np.random.default_rng(5))[0]) == 1


def test_references_are_distinct_secrets_of_the_space():
    model, walk = digit_tree(3, np.random.default_rng(6)), digit_walk(3)
    costs = reference_costs(walk, model, 5_000, np.random.default_rng(7))
    np.testing.assert_allclose(np.sort(costs), np.sort(naive_costs(model, 3)))
