"""Nearest neighbours of classifiers: each statistic against a direct computation, and what the study must show."""

import math

import numpy as np
import pytest
from study_setting import setting

from canary_audit.errors import DataError
from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.networks import conv_net, mlp
from canary_audit.studies.neighbours import layers
from canary_audit.studies.neighbours.comparison import likeness, mean_divergence
from canary_audit.studies.neighbours.knn import neighbours, other_neighbours, reduced, vote_shares
from canary_audit.studies.neighbours.linear import logistic_regression, support_vectors
from canary_audit.studies.neighbours.worlds import WORLDS, look_at_worlds


@pytest.fixture
def points():
    generator = np.random.default_rng(0)
    return generator.normal(size=(40, 3)).astype(np.float32), generator.integers(4, size=40)


def small(n: int = 60, n_features: int = 5, n_classes: int = 2, image_shape=None) -> Dataset:
    generator = np.random.default_rng(1)
    y = generator.integers(n_classes, size=2 * n)
    x = (generator.normal(size=(2 * n, n_features)) + y[:, None]).astype(np.float32)
    return Dataset(name="small", train_x=x[:n], train_y=y[:n], test_x=x[n:], test_y=y[n:], image_shape=image_shape)


def distances(queries, train):
    return np.abs(queries[:, None].astype(float) - train[None]).sum(axis=2)


def test_neighbours_are_the_nearest_by_the_l1_distance(points):
    x, _ = points
    found = neighbours(x[:30], x[30:], k=5)
    assert np.array_equal(found, distances(x[30:], x[:30]).argsort(axis=1)[:, :5])


def test_leaving_one_out_is_a_search_among_all_others(points):
    x, _ = points
    away = distances(x, x)
    np.fill_diagonal(away, np.inf)
    assert np.array_equal(other_neighbours(x, k=5), away.argsort(axis=1)[:, :5])


def test_a_point_never_votes_for_itself_however_many_copies_it_has():
    x = np.concatenate([np.zeros((9, 2)), np.ones((3, 2))]).astype(np.float32)
    found = other_neighbours(x, k=4)
    assert found.shape == (12, 4)
    assert not (found == np.arange(12)[:, None]).any()
    assert (found[:9] < 9).all(), "nine equal points have only each other as the four nearest"


def test_leaving_one_out_takes_away_one_vote_of_one_more(points):
    """The paper's own way, where no two points are equal."""
    x, y = points
    with_own = vote_shares(y[neighbours(x, x, k=6)], 4) * 6
    with_own[np.arange(len(y)), y] -= 1
    assert np.allclose(vote_shares(y[other_neighbours(x, k=5)], 4), with_own / 5)


def test_there_are_no_more_neighbours_than_points(points):
    x, _ = points
    assert neighbours(x[:7], x, k=30).shape == (40, 7)
    assert other_neighbours(x[:7], k=30).shape == (7, 6)


def test_vote_shares():
    assert vote_shares(np.array([[0, 2, 2, 2], [1, 1, 0, 0]]), 3).tolist() == [[0.25, 0, 0.75], [0.5, 0.5, 0]]


def test_narrow_layers_stay_and_wide_ones_keep_their_distances():
    generator = np.random.default_rng(2)
    train = (generator.normal(size=(50, 3)) @ generator.normal(size=(3, 300))).astype(np.float32)
    assert reduced(train[:, :256])[0].shape == (50, 256)
    narrow, other = reduced(train, train[:5])
    assert (narrow.shape, other.shape) == ((50, 50), (5, 50))
    apart, before = (((rows[:, None] - rows[None]) ** 2).sum(axis=2) for rows in (narrow, train))
    assert np.allclose(apart, before, rtol=1e-3, atol=1e-1)


def test_a_dead_layer_stays_as_it_is():
    dead = np.zeros((50, 300), dtype=np.float32)
    assert reduced(dead, dead[:5])[1].shape == (5, 300)


def test_likeness_of_known_decisions():
    network = np.eye(3)[[0, 0, 1, 1, 2]] * 0.8 + 0.1
    other = np.eye(3)[[0, 1, 1, 1, 0]]
    found = likeness(network, other, np.array([0, 0, 1, 2, 1]))
    assert found.p_same == 3 / 5
    assert found.both_right == 2 / 3
    assert found.both_wrong == 1 / 2
    assert (found.network_accuracy, found.accuracy) == (3 / 5, 2 / 5)
    assert found.p_same == pytest.approx(found.both_right * 3 / 5 + found.both_wrong * 2 / 5)


def test_shares_of_nothing_are_undefined():
    right = np.eye(2)[[0, 1]]
    assert math.isnan(likeness(right, right, np.array([0, 1])).both_wrong)


def test_divergence_against_its_definition():
    p, q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    a, b = np.array([0.5, 0.5, 1e-6]), np.array([1.0, 1e-6, 1e-6])
    a, b = a / a.sum(), b / b.sum()
    assert mean_divergence(p, q) == pytest.approx((a * np.log(a / b)).sum() / 2)


def test_linear_classifiers_separate_what_is_separable():
    x = np.array([[0.0], [1.0], [5.0], [6.0]], dtype=np.float32)
    for classify in (support_vectors, logistic_regression):
        own, new = classify(x, np.array([0, 0, 1, 1]), x, np.array([[-3.0], [9.0]], dtype=np.float32))
        assert (own.tolist(), new.tolist()) == ([0, 0, 1, 1], [0, 1])
        assert classify(x, np.array([1, 1, 1, 1]), x)[0].tolist() == [1, 1, 1, 1]


def test_looks_of_any_data_repeat_exactly():
    data = small()
    first, second = (
        look_at_worlds(data, lambda: mlp(5, 2, (8, 8)), epochs=3, seeds=(1, 2), device="cpu") for _ in range(2)
    )
    assert first == second
    assert first.layers == ("input", "hidden1", "hidden2")
    assert len(first.all) == len(WORLDS) * 2 * 3
    alone = look_at_worlds(data, lambda: mlp(5, 2, (8, 8)), epochs=3, seeds=(1,), device="cpu")
    assert (
        alone.mean("real labels", "input", "train.accuracy") == first.each("real labels", "input", "train.accuracy")[0]
    )


def test_looks_at_convolutions():
    data = small(n=40, n_features=16, image_shape=(4, 4))
    looks = look_at_worlds(data, lambda: conv_net((4, 4), 2, channels=2, width=4), epochs=1, seeds=(1,), device="cpu")
    assert looks.layers == ("input", "conv1", "pool1", "conv2", "pool2", "embedding")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(layers, "_EPOCHS", 2)
    monkeypatch.setattr(layers, "_CONVOLUTIONAL_EPOCHS", 1)


@pytest.mark.usefixtures("quick")
def test_a_table_of_two_classes_makes_a_section(tmp_path):
    data = small()
    table = np.column_stack([np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])])
    np.savetxt(tmp_path / "own.csv", table, delimiter=",")
    section = layers.run(setting(tmp_path, config="neighbours", data=str(tmp_path / "own.csv")))
    assert [trend.id for trend in section.trends] == ["C1", "C2", "C3", "C5"]
    assert len(section.charts) == 2, "no images, no convolutional network"
    assert "left out" in section.findings[-1]


@pytest.mark.usefixtures("quick")
def test_one_example_has_no_neighbours(tmp_path):
    with pytest.raises(DataError, match="train_rows"):
        layers.run(setting(tmp_path, config="neighbours", train_rows=1))


@pytest.mark.slow
def test_networks_that_generalize_decide_like_their_neighbours(tmp_path):
    section = layers.run(setting(tmp_path, config="neighbours"))
    trends = {trend.id: trend for trend in section.trends}
    for gated in ("C1", "C2", "C3"):
        assert trends[gated].holds, trends[gated].ours
    assert "0." in trends["C5"].ours
    assert (len(section.grids), len(section.charts)) == (4, 4)
