"""Mixup's loss against a slow direct computation, and its limits."""

import math

import numpy as np
import pytest
import torch

from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, cross_entropy, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.mixup.principle import Mixture, draw_mixture, mixture_loss, mixup_loss


@pytest.fixture
def ensemble():
    return Ensemble(lambda: mlp(4, 3, (5,)), [1, 2])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 4, generator=generator)
    return x, torch.randint(3, (2, 6), generator=generator)


def _direct(ensemble, network, row, share):
    """Negative log-likelihoods of all classes for one mixed row, in plain numpy."""
    weights = {name: value[network].detach().numpy().astype(np.float64) for name, value in ensemble.weights.items()}
    names = list(weights)
    hidden = np.maximum(weights[names[0]] @ row + weights[names[1]], 0)
    logits = weights[names[2]] @ hidden + weights[names[3]]
    return math.log(np.exp(logits).sum()) - logits


def test_the_loss_is_that_of_mixed_inputs_with_both_labels(ensemble, batch):
    x, y = batch
    mixture = Mixture(share=torch.tensor([0.25, 0.9]), partner=torch.tensor([[1, 2, 3, 4, 5, 0], [5, 4, 3, 2, 1, 0]]))
    found = mixture_loss(ensemble, x, y, mixture)
    for network in range(2):
        share, expected = float(mixture.share[network]), 0.0
        for row in range(6):
            other = int(mixture.partner[network, row])
            mixed = share * x[network, row].numpy() + (1 - share) * x[network, other].numpy()
            nats = _direct(ensemble, network, mixed, share)
            expected += share * nats[y[network, row]] + (1 - share) * nats[y[network, other]]
        assert float(found[network].detach()) == pytest.approx(expected / 6, rel=1e-5)


def test_shares_near_one_leave_plain_training(ensemble, batch):
    x, y = batch
    mixture = Mixture(share=torch.ones(2), partner=torch.arange(6).flip(0).expand(2, 6))
    torch.testing.assert_close(mixture_loss(ensemble, x, y, mixture), cross_entropy(ensemble, x, y))
    assert mixup_loss(0) is cross_entropy


@pytest.mark.parametrize("alpha", [0.01, 1.0, 32.0])
def test_shares_follow_the_beta_distribution(alpha):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        share = draw_mixture(torch.zeros(20_000, 1), alpha).share
    assert torch.isfinite(share).all()
    assert 0 <= float(share.min()) <= float(share.max()) <= 1
    assert float(share.mean()) == pytest.approx(0.5, abs=0.012)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_every_network_has_its_own_permutation_and_share():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mixture = draw_mixture(torch.zeros(3, 50), 1.0)
    assert len(set(mixture.share.tolist())) == 3
    assert len({tuple(row) for row in mixture.partner.tolist()}) == 3
    assert all(sorted(row) == list(range(50)) for row in mixture.partner.tolist())


def test_training_is_repeatable_and_leaves_the_global_random_state():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    before, found = torch.get_rng_state(), []
    for _ in range(2):
        ensemble = Ensemble(lambda: mlp(4, 2, (5,)), [1, 2])
        fit(ensemble, x, y, Recipe(epochs=2, learning_rate=0.01, batch_size=16), loss=mixup_loss(1))
        found.append(ensemble.probabilities(x))
    assert np.array_equal(found[0], found[1])
    assert torch.equal(before, torch.get_rng_state())
