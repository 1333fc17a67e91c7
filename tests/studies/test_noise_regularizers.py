"""Regularizers: the loss against slow ones computed apart, and what is made of the errors."""

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, cross_entropy, row_losses
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.noise import regularizers
from canary_audit.studies.noise.lass import loss_gradient
from canary_audit.studies.noise.regularized import Strength, regularized_loss
from canary_audit.studies.noise.regularizer_findings import Outcome, section
from canary_audit.studies.noise.regularizers import REGULARIZERS, train_regularized

CPU = torch.device("cpu")


def networks(n=2):
    return Ensemble(lambda: mlp(4, 3, (16, 16)), range(1, n + 1))


def batch(n_networks=2, n_rows=8, n_features=4):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_networks, n_rows, n_features, generator=generator)
    return x, torch.randint(3, (n_networks, n_rows), generator=generator)


def test_without_a_regularizer_it_is_cross_entropy():
    ensemble, (x, y) = networks(), batch()
    loss = regularized_loss([Strength()] * 2, 1.0, CPU)
    assert torch.allclose(loss(ensemble, x, y), cross_entropy(ensemble, x, y), atol=1e-6)


def test_weight_decay_adds_the_squares_of_one_networks_weights():
    ensemble, (x, y) = networks(), batch()
    loss = regularized_loss([Strength(), Strength(weight_decay=0.1)], 1.0, CPU)
    plain, decayed = (loss(ensemble, x, y) - cross_entropy(ensemble, x, y)).tolist()
    squares = sum(float((value[1].detach() ** 2).sum()) for name, value in ensemble.weights.items() if "weight" in name)
    assert plain == pytest.approx(0, abs=1e-6)
    assert decayed == pytest.approx(0.1 * squares, rel=1e-4)


def test_adversarial_loss_is_that_one_step_away_and_larger():
    ensemble, (x, y) = networks(), batch()
    loss = regularized_loss([Strength(), Strength(adversarial=1.0)], 0.5, CPU)(ensemble, x, y).detach()
    moved = x + 0.2 * 0.5 * loss_gradient(ensemble, x, y).sign()
    expected = row_losses(ensemble.logits(moved), y).mean(dim=1).detach()
    plain = cross_entropy(ensemble, x, y).detach()
    assert float(loss[1]) == pytest.approx(float(expected[1]), rel=1e-5)
    assert float(loss[1]) > float(plain[1])
    assert float(loss[0]) == pytest.approx(float(plain[0]), rel=1e-5)


def test_gradients_of_the_loss_agree_with_finite_differences():
    ensemble, (x, y) = networks(), batch()
    gradient = loss_gradient(ensemble, x, y)
    for place in ((0, 1, 2), (1, 3, 0)):
        step = torch.zeros_like(x)
        step[place] = 1e-2
        up, down = (row_losses(ensemble.logits(x + sign * step), y).sum().detach() for sign in (1, -1))
        assert float(gradient[place]) == pytest.approx(float(up - down) / 2e-2, abs=2e-3)


@pytest.mark.parametrize("what", ["dropout", "input_dropout", "input_noise", "hidden_noise"])
def test_random_regularizers_touch_their_own_network_only(what):
    ensemble, (x, y) = networks(), batch()
    loss = regularized_loss([Strength(), Strength(**{what: 0.5})], 1.0, CPU)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = torch.stack([loss(ensemble, x, y).detach() for _ in range(3)])
    plain = float(cross_entropy(ensemble, x, y).detach()[0])
    assert draws[:, 0].numpy() == pytest.approx(np.full(3, plain), rel=1e-5)
    assert float(draws[:, 1].std()) > 0


@pytest.mark.parametrize(
    ("strength", "variance"), [(Strength(input_dropout=0.5), 1.0), (Strength(input_noise=2.0), 1.0)]
)
def test_noise_has_the_mean_and_variance_that_are_asked_for(strength, variance):
    """Of one linear output of one input of 1: mean 1; p / (1 - p) = 1 for dropout, (2 * 0.5)^2 = 1 for noise."""
    ensemble = Ensemble(lambda: mlp(1, 2, ()), (1,))
    with torch.no_grad():
        ensemble.weights["stages.logits.weight"].copy_(torch.tensor([[[1.0], [0.0]]]))
        ensemble.weights["stages.logits.bias"].zero_()
    loss = regularized_loss([strength], 0.5, CPU)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.ones(1, 1, 1)
        losses = torch.stack([loss(ensemble, x, torch.zeros(1, 1, dtype=torch.long)) for _ in range(1_000)])
    logit = -torch.log(torch.expm1(losses.detach().double()))  # loss = log(1 + exp(-logit))
    assert float(logit.mean()) == pytest.approx(1.0, abs=0.1)
    assert float(logit.var()) == pytest.approx(variance, abs=0.15)


def outcome(stored, best):
    """Errors of every regularizer, two shares, one seed: without one, everything is stored."""
    n = len(REGULARIZERS)
    wrong, test = np.full((n, 2, 1), stored), np.full((n, 2, 1), best)
    wrong[0], test[0] = 0.0, 0.1
    return Outcome(wrong_labels=wrong, right_labels=np.zeros((n, 2, 1)), best=test, last=test)


@pytest.mark.parametrize(
    ("stored", "best", "holds"), [(0.5, 0.1, True), (0.49, 0.05, False), (0.9, 0.101, False), (0.9, 0.05, True)]
)
def test_the_trend_of_made_up_errors(stored, best, holds):
    found = section("d", [one.name for one in REGULARIZERS], (0.2, 0.5), outcome(stored, best))
    assert [(trend.id, trend.holds) for trend in found.trends] == [("A5", holds)]
    assert len(found.grids) == len(found.charts) == 2


def test_two_classes_and_five_numbers_are_enough_and_it_repeats_itself():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    data = Dataset(name="small", train_x=x[:40], train_y=y[:40], test_x=x[40:], test_y=y[40:])
    recipe = Recipe(epochs=1, learning_rate=1e-3, batch_size=40)
    first, second = (train_regularized(data, (1,), "cpu", lambda *_: None, recipe=recipe) for _ in range(2))
    assert first.best.shape == (len(REGULARIZERS), 2, 1)
    for name in ("wrong_labels", "right_labels", "best", "last"):
        assert (getattr(first, name) == getattr(second, name)).all()


@pytest.mark.slow
def test_dropout_keeps_wrong_labels_from_being_stored(tmp_path):
    found = regularizers.run(setting(tmp_path))
    assert found.experiment == "regularizers"
    for trend in found.trends:
        assert trend.holds, trend.ours
