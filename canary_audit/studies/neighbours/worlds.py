"""Networks that generalize, store, or do both: one training set under three kinds of labels, looked at by layer."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
import torch

from canary_audit.studies.classifiers.corruption import random_labels
from canary_audit.studies.classifiers.datasets import Dataset, FloatArray, IntArray
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import Classifier
from canary_audit.studies.neighbours.comparison import Likeness, likeness
from canary_audit.studies.neighbours.knn import neighbours, other_neighbours, reduced, vote_shares
from canary_audit.studies.neighbours.linear import logistic_regression, support_vectors

WORLDS: Final = {"real labels": 0.0, "half of the labels random": 0.5, "all labels random": 1.0}
"""Name of a world -> share of its training labels that are drawn at random; test labels are always real."""
REAL, HALF, RANDOM = WORLDS
STORED: Final = 0.99
"""Training accuracy at which labels count as stored."""
_EPOCHS_PER_LOOK: Final = 5


@dataclass(frozen=True, kw_only=True)
class Look:
    """One layer of one network, and what other classifiers make of it."""

    world: str
    seed: int
    layer: str
    """`input`, or the name of a stage."""
    train: Likeness
    """Network and nearest neighbours on the training set: each example without itself, against its training label."""
    test: Likeness
    """The same on the test set, against the real labels."""
    vectors: "Linear"
    """Network and linear support vector machine."""
    logistic: "Linear"
    """Network and logistic regression."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """P_SAME of the network and a linear classifier on the layer's outputs, fitted to the whole training set."""

    train: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Looks:
    """All looks at networks of one architecture."""

    all: tuple[Look, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Their names, from the input on."""
        return tuple(dict.fromkeys(look.layer for look in self.all))

    def each(self, world: str, layer: str, number: str) -> list[float]:
        """A number of every seed, by its name in `Look`, such as `test.p_same`."""
        return [attrgetter(number)(look) for look in self.all if (look.world, look.layer) == (world, layer)]

    def mean(self, world: str, layer: str, number: str) -> float:
        """Its mean over the seeds for which it is defined, or NaN."""
        defined = [one for one in self.each(world, layer, number) if not math.isnan(one)]
        return sum(defined) / len(defined) if defined else math.nan


def look_at_worlds(
    data: Dataset, build: Callable[[], Classifier], *, epochs: int, seeds: Sequence[int], device: str
) -> Looks:
    """Train one network for each world and seed until all have stored their labels, and look at all of their layers.

    The networks of one seed begin with the same weights and read the examples in the same order. There is no weight
    decay, dropout or augmentation, so nothing keeps them from storing.
    """
    cells = [(world, seed) for seed in seeds for world in WORLDS]
    labels = [random_labels(data, WORLDS[world], seed).y for world, seed in cells]
    networks = Ensemble(build, [seed for _, seed in cells], device)
    _learn_by_heart(networks, data.train_x, np.stack(labels), epochs)
    # One network at a time: the layers of all of them together may not fit the memory.
    return Looks(
        all=tuple(
            look
            for place, (world, seed) in enumerate(cells)
            for look in _looks(networks.part([place]), data, labels[place], world, seed)
        )
    )


def _learn_by_heart(networks: Ensemble, x: FloatArray, labels: IntArray, epochs: int) -> None:
    """Train until every network has 99 % of its training labels right, or for so many epochs.

    Ten steps an epoch at least, so that a small data set is stored too. To go on after that would pull examples of one
    label together, stored or not.
    """

    def has_stored_all(epoch: int, trained: Ensemble) -> bool:
        return epoch % _EPOCHS_PER_LOOK == 0 and bool(trained.accuracy(x, labels).min() >= STORED)

    recipe = Recipe(epochs=epochs, learning_rate=5e-3, batch_size=int(np.clip(len(x) // 10, 1, 100)))
    fit(networks, x, labels, recipe, on_epoch=has_stored_all)


def _looks(network: Ensemble, data: Dataset, labels: IntArray, world: str, seed: int) -> Iterator[Look]:
    on_train, on_test = network.probabilities(data.train_x)[0], network.probabilities(data.test_x)[0]
    for layer, *outputs in _layers(network, data):
        train, test = reduced(*outputs)
        left_out = vote_shares(labels[other_neighbours(train)], data.n_classes)
        votes = vote_shares(labels[neighbours(train, test)], data.n_classes)
        decisions = on_train.argmax(axis=1), on_test.argmax(axis=1)
        yield Look(
            world=world,
            seed=seed,
            layer=layer,
            train=likeness(on_train, left_out, labels),
            test=likeness(on_test, votes, data.test_y),
            vectors=_likeness(decisions, support_vectors(train, labels, train, test)),
            logistic=_likeness(decisions, logistic_regression(train, labels, train, test)),
        )


def _likeness(network: Sequence[IntArray], other: Sequence[IntArray]) -> Linear:
    train, test = (float((first == second).mean()) for first, second in zip(network, other, strict=True))
    return Linear(train=train, test=test)


def _layers(network: Ensemble, data: Dataset) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Name and outputs of the input and every stage but the last, on the training and the test set."""
    yield "input", data.train_x, data.test_x
    with torch.inference_mode():
        train, test = (network.layers(network.tensor(x)) for x in (data.train_x, data.test_x))
    for name in train:
        yield name, train[name][0].cpu().numpy(), test[name][0].cpu().numpy()
