"""Attacks against a linear network, where the worst move is known."""

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.studies.classifiers.ensemble import Ensemble, row_losses
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.mixup import adversarial
from canary_audit.studies.mixup.adversarial import Attack, loss_gradient

_X = np.random.default_rng(0).uniform(0.2, 0.8, size=(7, 4)).astype(np.float32)
_Y = np.array([0, 1, 0, 1, 1, 0, 1])


@pytest.fixture
def linear():
    return Ensemble(lambda: mlp(4, 2, ()), [1, 2])


@pytest.mark.parametrize("steps", [1, 10])
def test_against_two_classes_and_a_linear_network_the_move_is_known(linear, steps):
    moved = Attack(epsilon=0.1, steps=steps)(linear, _X, _Y)
    weight = linear.weights["stages.logits.weight"].detach().numpy()
    for network in range(2):
        away = np.sign(weight[network][1 - _Y] - weight[network][_Y])
        np.testing.assert_allclose(moved[network], _X + 0.1 * away, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    ensemble = Ensemble(lambda: mlp(4, 2, (6,)), [1])
    ensemble.weights = {name: value.detach().double() for name, value in ensemble.weights.items()}
    x, y = torch.tensor(_X).double()[None], torch.tensor(_Y)[None]
    found, step = loss_gradient(ensemble, x, y)[0], 1e-6
    for feature in range(4):
        change = torch.zeros(4, dtype=torch.float64)
        change[feature] = step
        with torch.no_grad():
            higher, lower = (row_losses(ensemble.logits(x + sign * change), y)[0] for sign in (1, -1))
        torch.testing.assert_close(found[:, feature], (higher - lower) / (2 * step), atol=1e-7, rtol=1e-5)


def test_pixels_stay_pixels_and_moves_stay_in_the_box(linear):
    moved = Attack(epsilon=0.5, steps=10, is_pixel=True)(linear, _X, _Y)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert np.abs(moved - _X).max() <= 0.5 + 1e-6


@pytest.mark.slow
def test_the_trend_is_reported_on_digits(tmp_path):
    (trend,) = adversarial.run(setting(tmp_path)).trends
    assert trend.id == "M5"
    assert "%" in trend.ours
