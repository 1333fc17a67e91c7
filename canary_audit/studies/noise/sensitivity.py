"""What small networks depended on while they were trained on real data and on noise: the measurement itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from canary_audit.statistics.gini import gini
from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Ensemble
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.noise.unrolling import batches, descend, self_influence, sensitivities
from canary_audit.studies.noise.worlds import WORLDS, network_seeds, world

N_STEPS = 480
N_NETWORKS = 2
"""Of each seed: the course of so small a network depends on its initialization."""
_HIDDEN = (16, 16)
_BATCH_SIZE = 50
TIMES = tuple(range(40, N_STEPS + 1, 40))
_CLASS_TIMES = (240, 480)
_MOST_CLASSES = 10
_FASTEST = 0.3
_SQUARED_LENGTH = 15.0
"""Of an example, on average, up to which the fastest learning rate is stable: that of the digits."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the training on one kind of data, with one seed, depended on."""

    accuracy: float
    """On the training examples, at the end."""
    gini: float
    gini_by_time: tuple[float, ...]
    influence_gini: float
    rank_correlation: float
    """Spearman's, between loss sensitivity and self-influence."""
    by_class: NDArray[np.float64]
    """Mean sensitivity of class i's loss to the inputs of class j, shape (n_classes, n_classes)."""

    @property
    def diagonal(self) -> float:
        """Sensitivity of classes to their own inputs, over that to the inputs of other classes."""
        n = len(self.by_class)
        own = np.trace(self.by_class) / n
        return float(own / ((self.by_class.sum() - n * own) / (n * (n - 1))))


def measure(data: Dataset, seeds: Sequence[int], device: str, n_steps: int = N_STEPS) -> dict[str, list[Measured]]:
    """By kind of data, the mean of each seed's networks. They begin alike on all kinds, with the same order of rows."""
    cases = [(name, seed, own) for seed, name in product(seeds, WORLDS) for own in network_seeds(seed, N_NETWORKS)]
    worlds = [world(data, name, seed) for name, seed, _ in cases]
    ensemble = Ensemble(lambda: mlp(data.n_features, data.n_classes, _HIDDEN), [own for *_, own in cases], device)
    x, y = ensemble.tensor(np.stack([one.x for one in worlds])), ensemble.tensor(np.stack([one.y for one in worlds]))
    places = batches(ensemble.seeds, x.shape[1], n_steps, min(_BATCH_SIZE, x.shape[1]))
    rates = ensemble.tensor(np.array([learning_rate(one.x) for one in worlds], dtype=np.float32))
    descent = descend(ensemble, x, y, ensemble.tensor(places), rates)
    times, class_times = ([one for one in moments if one <= n_steps] for moments in (TIMES, _CLASS_TIMES))
    classes = commonest_classes(data)
    found = sensitivities(descent, times, lambda losses: losses.mean(dim=1)[None], 1)[:, 0]
    of_classes = sensitivities(
        descent, class_times or times, lambda losses: _loss_of_each(losses, y, classes), len(classes)
    ).mean(axis=0)
    influence = self_influence(descent, times)
    right = (descent.logits(descent.trajectory[-1], x).argmax(dim=-1) == y).double().mean(dim=1).cpu().numpy()
    networks = [
        Measured(
            accuracy=float(right[place]),
            gini=gini(found[:, place].mean(axis=0)),
            gini_by_time=tuple(gini(one) for one in found[:, place]),
            influence_gini=gini(influence[place]),
            rank_correlation=_spearman(found[:, place].mean(axis=0), influence[place]),
            by_class=by_class(of_classes[:, place], one.y, classes),
        )
        for place, one in enumerate(worlds)
    ]
    return {
        name: [
            _mean_of([one for one, case in zip(networks, cases, strict=True) if case[:2] == (name, seed)])
            for seed in seeds
        ]
        for name in WORLDS
    }


def _mean_of(networks: Sequence[Measured]) -> Measured:
    return Measured(
        accuracy=mean_over(networks, "accuracy"),
        gini=mean_over(networks, "gini"),
        gini_by_time=tuple(map(float, np.mean([one.gini_by_time for one in networks], axis=0))),
        influence_gini=mean_over(networks, "influence_gini"),
        rank_correlation=mean_over(networks, "rank_correlation"),
        by_class=np.mean([one.by_class for one in networks], axis=0),
    )


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """0 where one of them is constant and has no ranks."""
    return float(stats.spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def learning_rate(x: NDArray[np.float32]) -> float:
    """As fast as plain gradient descent stays stable: slower in proportion where inputs are longer."""
    return _FASTEST * min(1.0, _SQUARED_LENGTH / max(float((x**2).sum(axis=1).mean()), 1e-9))


def by_class(
    sensitivity: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[int]
) -> NDArray[np.float64]:
    """Mean over the examples of each class: (n_classes, n_rows) -> (n_classes, n_classes); 0 where there are none."""
    columns = [sensitivity[:, labels == one].sum(axis=1) / max(1, (labels == one).sum()) for one in classes]
    return np.stack(columns, axis=1)


def commonest_classes(data: Dataset) -> list[int]:
    """The ten with the most training examples, or all, in their order."""
    counts = np.bincount(data.train_y, minlength=data.n_classes)
    return sorted(int(one) for one in np.argsort(-counts, kind="stable")[:_MOST_CLASSES])


def _loss_of_each(losses: Tensor, y: Tensor, classes: Sequence[int]) -> Tensor:
    """The part of each class in the mean loss."""
    return torch.stack([(losses * (y == one)).mean(dim=1) for one in classes])


def mean_over(measured: Sequence[Measured], field: str) -> float:
    """Mean of one of its numbers."""
    return float(np.mean([getattr(one, field) for one in measured]))
