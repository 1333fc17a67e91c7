"""Loss sensitivity: the unrolled gradient against finite differences, and the trend on the digits."""

import numpy as np
import pytest
import torch
from study_setting import setting

from canary_audit.statistics.gini import gini
from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Ensemble
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.noise import loss_sensitivity, sensitivity, unrolling
from canary_audit.studies.noise.worlds import network_seeds
from canary_audit.studies.seeds import over_seeds

N_STEPS, TIMES = 9, (4, 9)


def _descent(x: torch.Tensor, y: torch.Tensor, *, smooth: bool = True) -> unrolling.Descent:
    def build():
        network = mlp(3, 2, (4,)).double()
        if smooth:  # finite differences across the kink of a ReLU are no derivatives
            network.stages["hidden1"][1] = torch.nn.Tanh()
        return network

    ensemble = Ensemble(build, (1, 2))
    places = torch.tensor(unrolling.batches((1, 2), x.shape[1], N_STEPS, 4))
    return unrolling.descend(ensemble, x, y, places, torch.tensor([0.5, 0.2], dtype=torch.float64))


def _examples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (2, 6), generator=generator)


def _terms(y: torch.Tensor):
    return lambda losses: torch.stack([losses.mean(dim=1), (losses * (y == 0)).mean(dim=1)])


def test_unrolled_gradient_is_that_of_finite_differences():
    x, y = _examples()
    descent = _descent(x, y)
    found = unrolling.unrolled(descent, TIMES, _terms(y), 2)

    def loss(moved: torch.Tensor, time: int, term: int, network: int) -> float:
        """On the examples as they were, after training on the moved ones."""
        weights = _descent(moved, y).trajectory[time]
        losses = unrolling.row_losses(descent.logits(weights, x), y)
        return float(_terms(y)(losses)[term, network])

    step = 1e-5
    for place, time in enumerate(TIMES):
        for network, row, feature, term in ((0, 0, 0, 0), (0, 5, 2, 1), (1, 3, 1, 0), (1, 1, 0, 1)):
            moved = torch.zeros_like(x)
            moved[network, row, feature] = step
            slope = (loss(x + moved, time, term, network) - loss(x - moved, time, term, network)) / (2 * step)
            assert float(found[place, term, network, row, feature]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_groups_of_times_change_nothing(monkeypatch):
    x, y = _examples()
    descent = _descent(x, y, smooth=False)
    whole = unrolling.sensitivities(descent, TIMES, _terms(y), 2)
    monkeypatch.setattr(unrolling, "_MOST_ELEMENTS", 1)
    assert np.allclose(unrolling.sensitivities(descent, TIMES, _terms(y), 2), whole, rtol=1e-12)
    assert whole.shape == (2, 2, 2, 6)


def test_self_influence_is_the_sum_of_squared_gradients():
    x, y = _examples()
    descent = _descent(x, y)
    found = unrolling.self_influence(descent, TIMES)
    expected = 0.0
    for time in TIMES:
        weights = {name: one[1].clone().requires_grad_() for name, one in descent.trajectory[time].items()}
        logits = torch.func.functional_call(descent.ensemble.network, weights, (x[1, 2][None],))
        slopes = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y[1, 2][None]), list(weights.values()))
        expected += 0.2 * sum(float((slope**2).sum()) for slope in slopes)
    assert found[1, 2] == pytest.approx(expected)


def test_gini_of_known_values():
    assert gini(np.ones(5)) == pytest.approx(0)
    assert gini(np.array([0.0, 0, 0, 4])) == pytest.approx(0.75)
    assert gini(np.array([3.0, 1, 2])) == pytest.approx(2 / 9)
    assert gini(np.zeros(3)) == 0


def test_batches_are_epochs_in_fresh_orders():
    places = unrolling.batches((5,), 6, 4, 3)
    assert places.shape == (1, 4, 3)
    assert sorted(places[0, :2].ravel()) == sorted(places[0, 2:].ravel()) == list(range(6))
    uneven = unrolling.batches((5,), 7, 5, 3)[0]
    assert all(len(set(batch)) == 3 for batch in uneven)  # no row twice, also where an epoch does not divide


def test_seeds_of_networks_differ():
    assert len({*network_seeds(1, 50), *network_seeds(2, 50)}) == 100
    assert over_seeds([0.5]) == "0.50"
    assert over_seeds([0.5, 0.25], 1) == "0.4 (0.5, 0.2)"


def test_two_classes_of_few_features():
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    data = Dataset(name="two classes", train_x=x, train_y=y, test_x=x, test_y=y)
    measured = sensitivity.measure(data, (1,), "cpu", n_steps=40)
    assert measured["real"][0].by_class.shape == (2, 2)
    assert 0 < measured["real"][0].gini < 1


@pytest.mark.slow
def test_a2_holds_on_the_digits(tmp_path):
    section = loss_sensitivity.run(setting(tmp_path))
    assert [trend.id for trend in section.trends] == ["A2"]
    assert section.trends[0].holds, section.trends[0].ours
