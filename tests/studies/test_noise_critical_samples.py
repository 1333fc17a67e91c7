"""Critical samples: the search against networks whose boundaries are known, and what is made of the curves."""

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Ensemble
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.noise import critical_samples
from canary_audit.studies.noise.critical_findings import section
from canary_audit.studies.noise.critical_samples import train_and_count
from canary_audit.studies.noise.curves import RANDOM_LABELS, WORLDS, Curves, stopping
from canary_audit.studies.noise.lass import Budget, critical_ratio, radius_for_ratio
from canary_audit.studies.noise.lass import critical_samples as search

SEARCHED = Budget(most=60, least=60)


def linear_networks(n_features=6, n_classes=3, seeds=(1, 2)):
    return Ensemble(lambda: mlp(n_features, n_classes, ()), seeds)


def points(n=200, n_features=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_features)).astype(np.float32)


def distances(ensemble, x):
    """Least radius at which a point is critical for a linear network: logit gap over the 1-norm of the difference."""
    found = []
    for weight, bias in zip(
        ensemble.weights["stages.logits.weight"], ensemble.weights["stages.logits.bias"], strict=True
    ):
        w, b = weight.detach().numpy(), bias.detach().numpy()
        logits = x @ w.T + b
        given = logits.argmax(axis=1)
        gap = logits.max(axis=1, keepdims=True) - logits
        norm = np.abs(w[given][:, None, :] - w[None]).sum(axis=2)
        norm[np.arange(len(x)), given], gap[np.arange(len(x)), given] = 1, np.inf
        found.append((gap / norm).min(axis=1))
    return np.array(found)


def test_no_point_outside_a_linear_networks_reach_is_critical_and_the_near_ones_are():
    ensemble, x, radius = linear_networks(n_classes=2), points(), 0.3
    true = distances(ensemble, x)
    found = search(ensemble, x, radius, SEARCHED)
    assert found.shape == (2, 200)
    assert not found[true > radius * 1.0001].any()
    assert found[true < radius * 0.95].all()
    assert 0.1 < found.mean() < 0.9


def test_with_three_classes_nothing_false_is_found_and_most_is():
    ensemble, x, radius = linear_networks(), points(), 0.2
    true = distances(ensemble, x)
    found = search(ensemble, x, radius, SEARCHED)
    assert not found[true > radius * 1.0001].any()
    assert found[true < radius * 0.9].mean() > 0.95


def test_what_is_found_of_a_network_does_not_depend_on_the_others():
    x = points()
    both, alone = linear_networks(), linear_networks(seeds=(2,))
    assert (search(both, x, 0.2)[1] == search(alone, x, 0.2)[0]).all()


def test_the_search_repeats_itself_and_leaves_the_random_state_alone():
    ensemble, x = linear_networks(), points()
    before = torch.get_rng_state()
    assert (search(ensemble, x, 0.2) == search(ensemble, x, 0.2)).all()
    assert (torch.get_rng_state() == before).all()


def test_a_longer_search_finds_no_less():
    ensemble, x = linear_networks(), points()
    short, long = (search(ensemble, x, 0.2, Budget(most=most, least=most)) for most in (3, 60))
    assert (long >= short).all()
    assert long.sum() > 0


def test_the_radius_is_that_of_the_ratio_asked_for():
    ensemble, x = linear_networks(n_classes=2), points(500)
    radius = radius_for_ratio(ensemble, x, 0.1, budget=SEARCHED)
    assert critical_ratio(ensemble, x, radius, SEARCHED).mean() == pytest.approx(0.1, abs=0.006)
    exact = np.quantile(distances(ensemble, x), 0.1)
    assert radius == pytest.approx(exact, rel=0.1)


def test_a_copy_of_some_networks_is_not_moved_by_training():
    ensemble, x = linear_networks(seeds=(1, 2, 3)), points(5)
    copy = ensemble.part(range(1, 3))
    before = copy.probabilities(x)
    assert np.allclose(before, ensemble.probabilities(x)[1:], atol=1e-6)
    with torch.no_grad():
        for weight in ensemble.weights.values():
            weight.add_(1)
    assert (copy.probabilities(x) == before).all()
    assert copy.seeds == (2, 3)


def made_up(*, train_end=1.0, held_out=(0.5, 0.9, 0.7), critical=(0.1, 0.2)):
    """Curves of three epochs, the same for both seeds."""
    shape = (len(WORLDS), 2, 1)
    scale = np.array([0.3, 0.5, 0.9, 0.95, 0.4])[:, None, None]
    return Curves(
        radius=0.02,
        deviation=0.4,
        calibrated=0.1,
        looks=(1, 3),
        critical=np.tile(critical, shape) * scale,
        train=np.tile([0.4, 0.8, train_end], shape),
        held_out=np.tile(held_out, shape),
    )


def test_trends_of_made_up_curves():
    a3, a4 = section("d", made_up()).trends
    assert (a3.id, a3.holds) == ("A3", True)
    assert (a4.id, a4.holds) == ("A4", True)
    a3, a4 = section("d", made_up(held_out=(0.5, 0.7, 0.9), critical=(0.2, 0.2))).trends
    assert not a3.holds
    assert not a4.holds


def test_noise_that_was_never_fitted_counts_as_fitted_after_the_end():
    found = stopping(made_up(train_end=0.9), RANDOM_LABELS[0])
    assert found.fitted_epoch is None
    assert found.peaks_before_fitting(3)
    assert found.drop == pytest.approx(0.2)
    assert "not reached" in section("d", made_up(train_end=0.9)).grids[0].rows[0]


def test_two_classes_and_five_numbers_are_enough():
    x = points(60, 5)
    y = (x[:, 0] > 0).astype(np.int64)
    data = Dataset(name="small", train_x=x[:40], train_y=y[:40], test_x=x[40:], test_y=y[40:])
    curves = train_and_count(data, (1, 2), "cpu", lambda *_: None, epochs=4)
    assert curves.looks == (3, 4)
    assert curves.critical.shape == (len(WORLDS), 2, 2)
    assert curves.train.shape == curves.held_out.shape == (len(WORLDS), 2, 4)
    assert len(section("small", curves).charts) == 3


@pytest.mark.slow
def test_noise_makes_points_critical_and_is_learned_last(tmp_path):
    found = critical_samples.run(setting(tmp_path))
    assert found.experiment == "critical-samples"
    for trend in found.trends:
        assert trend.holds, trend.ours
