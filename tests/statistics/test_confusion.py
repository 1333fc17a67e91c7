"""Epsilon from true and false accusations: closed forms, both directions, and thresholds that cost nothing."""

import math

import numpy as np
import pytest

from canary_audit.errors import ResultError
from canary_audit.statistics.confusion import Confusion, clopper_pearson_bound, clopper_pearson_epsilon, rate_bounds


def table(true_positives, n_positives, false_positives, n_negatives):
    return Confusion(
        true_positives=true_positives,
        n_positives=n_positives,
        false_positives=false_positives,
        n_negatives=n_negatives,
    )


def test_all_right_by_hand():
    """Both intervals end where the power of n is half of the error."""
    least_tpr, most_fpr = rate_bounds(table(500, 500, 0, 500), 0.01)
    assert least_tpr == pytest.approx(0.005 ** (1 / 500))
    assert most_fpr == pytest.approx(1 - 0.005 ** (1 / 500))
    assert clopper_pearson_epsilon(table(500, 500, 0, 500), delta=0.1, error=0.01) == pytest.approx(
        math.log((least_tpr - 0.1) / most_fpr)
    )


@pytest.mark.parametrize("counts", [(0, 10, 0, 10), (5, 10, 5, 10), (3, 10, 10, 10), (10, 10, 10, 10)])
def test_chance_or_worse_shows_nothing(counts):
    assert clopper_pearson_epsilon(table(*counts), delta=0.0, error=0.05) == 0.0


def test_what_delta_explains_shows_nothing():
    assert clopper_pearson_epsilon(table(50, 100, 0, 100), delta=0.6, error=0.05) == 0.0


@pytest.mark.parametrize("counts", [(11, 10, 0, 10), (-1, 10, 0, 10), (1, 10, 11, 10), (0, 0, 0, 10), (0, 10, 0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ResultError, match="impossible"):
        rate_bounds(table(*counts), 0.05)


def best_by_hand(in_scores, out_scores, delta):
    """All six comparisons, each with counts of its own."""
    bounds = []
    for guilty, innocent in ((in_scores, out_scores), ([-s for s in out_scores], [-s for s in in_scores])):
        for spared in {0, len(innocent) // 16, len(innocent) // 4}:
            threshold = sorted(innocent, reverse=True)[spared]
            hits = sum(score > threshold for score in guilty)
            counts = table(hits, len(guilty), spared, len(innocent))
            bounds.append(clopper_pearson_epsilon(counts, delta=delta, error=0.05 / 6))
    return max(bounds)


@pytest.mark.parametrize("decimals", [3, 0])
def test_the_bound_is_the_best_of_six_comparisons(decimals):
    rng = np.random.default_rng(1)
    for shift in (0.5, 1.5, 4.0):
        in_scores = rng.normal(shift, 1, 120).round(decimals).tolist()
        out_scores = rng.normal(0, 1, 90).round(decimals).tolist()
        found = clopper_pearson_bound(in_scores, out_scores, delta=1e-3)
        assert found.epsilon == pytest.approx(best_by_hand(in_scores, out_scores, 1e-3))
        assert found.epsilon <= found.ceiling


def test_both_directions_are_tried():
    """Scores that tell only who was out: a third of those left out lie far below everything else."""
    rng = np.random.default_rng(2)
    same, low = rng.normal(size=300), rng.normal(-50, 1, 100)
    assert clopper_pearson_bound(same[:150], np.concatenate([same[150:], low]), delta=0.0).epsilon > 2
    assert clopper_pearson_bound(np.concatenate([same[150:], -low]), same[:150], delta=0.0).epsilon > 2


def test_equal_scores_accuse_nobody():
    found = clopper_pearson_bound([1.0] * 50, [1.0] * 50, delta=0.0)
    assert (found.epsilon, found.correct) == (0.0, 0)


@pytest.mark.parametrize(("in_scores", "out_scores"), [([], [1.0]), ([1.0], []), ([math.nan], [1.0])])
def test_both_sides_must_have_finite_scores(in_scores, out_scores):
    with pytest.raises(ResultError, match="finite"):
        clopper_pearson_bound(in_scores, out_scores, delta=0.0)
