"""Measures of agreement, against numbers worked out by hand and distributions whose value is known."""

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from canary_audit.studies.learning_order import agreement as measures

# two epochs, four networks, three examples
PREDICTIONS = np.array(
    [
        [[0, 1, 2], [0, 2, 2], [1, 0, 2], [0, 1, 1]],
        [[0, 1, 2], [0, 1, 2], [0, 0, 2], [0, 1, 0]],
    ]
)
LABELS = np.array([0, 1, 0])


def test_true_agreement_is_the_share_of_networks_that_are_right():
    right = measures.right_answers(PREDICTIONS, LABELS)
    np.testing.assert_allclose(measures.true_agreement(right), [[0.75, 0.5, 0], [1, 0.75, 0.25]])


def test_agreement_needs_no_label():
    np.testing.assert_allclose(measures.agreement(PREDICTIONS), [[0.75, 0.5, 0.75], [1, 0.75, 0.75]])


def test_accessibility_is_the_share_of_networks_and_epochs_that_are_right():
    right = measures.right_answers(PREDICTIONS, LABELS)
    np.testing.assert_allclose(measures.accessibility(right), [7 / 8, 5 / 8, 1 / 8])
    first, second = measures.halves(right)
    np.testing.assert_allclose(first, [1, 3 / 4, 0])
    np.testing.assert_allclose(second, [3 / 4, 1 / 2, 1 / 4])
    assert measures.constancy(right) == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_every_network_can_have_labels_of_its_own():
    own = np.array([[0, 1, 2], [0, 0, 0], [1, 1, 1], [2, 2, 2]])
    right = measures.right_answers(PREDICTIONS, own)
    assert right.sum(axis=(0, 2)).tolist() == [6, 2, 1, 0]


def test_correlations_equal_those_of_scipy():
    from scipy.stats import pearsonr, spearmanr

    generator = np.random.default_rng(1)
    a = generator.integers(5, size=50).astype(float)
    b = a + generator.normal(size=50)
    assert measures.pearson(a, b) == pytest.approx(pearsonr(a, b)[0])
    assert measures.spearman(a, b) == pytest.approx(spearmanr(a, b)[0])


def test_what_does_not_vary_has_no_correlation_and_no_bimodality():
    same, other = np.full(5, 0.3), np.arange(5.0)
    assert np.isnan(measures.pearson(same, other))
    assert np.isnan(measures.spearman(other, same))
    assert np.isnan(measures.pearson_bimodality(same))
    assert np.isnan(measures.two_point_share(np.ones(5)))
    assert np.isnan(measures.pearson_interval(same, other, np.random.default_rng(1))[0])


def test_the_interval_is_that_of_fisher():
    generator = np.random.default_rng(2)
    a, noise = generator.normal(size=(2, 2_000))
    b = 0.8 * a + 0.6 * noise
    low, high = measures.pearson_interval(a, b, generator)
    centre, half = np.arctanh(measures.pearson(a, b)), 1.96 / np.sqrt(1_997)
    assert low == pytest.approx(np.tanh(centre - half), abs=0.006)
    assert high == pytest.approx(np.tanh(centre + half), abs=0.006)


def test_two_points_and_independent_networks_are_the_ends_of_bimodality():
    assert measures.two_point_share(np.array([0.0, 1, 1, 1])) == pytest.approx(1)
    assert measures.pearson_bimodality(np.array([0.0, 1, 1, 1])) == pytest.approx(1)
    right = np.random.default_rng(3).random((1, 10, 20_000)) < 0.7
    assert measures.two_point_share(measures.true_agreement(right)[0]) == pytest.approx(1 / 10, abs=0.005)


def test_pearson_bimodality_is_kurtosis_less_squared_skewness():
    values = np.random.default_rng(4).beta(2, 5, size=300)
    expected = kurtosis(values, fisher=False) - skew(values) ** 2
    assert measures.pearson_bimodality(values) == pytest.approx(expected)
    assert measures.pearson_bimodality(np.linspace(0, 1, 5_001)) == pytest.approx(1.8, abs=0.01)


def test_networks_that_know_nothing_of_each_other_have_no_common_order():
    right = np.random.default_rng(5).random((5, 8, 4_000)) < 0.5
    assert abs(measures.constancy(right)) < 0.06


def test_unrelated_answers_keep_how_often_each_network_says_a_class():
    dealt = measures.unrelated(PREDICTIONS, np.random.default_rng(6))
    np.testing.assert_array_equal(np.sort(dealt, axis=2), np.sort(PREDICTIONS, axis=2))


def test_class_means_are_taken_out():
    left = measures.within_classes(np.array([1.0, 3, 10, 20]), np.array([0, 0, 1, 1]))
    assert left.tolist() == [-1, 1, -5, 5]
