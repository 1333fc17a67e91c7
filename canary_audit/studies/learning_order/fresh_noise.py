"""Does the common order of learning break on noise?

Hacohen, Choshen, Weinshall 2020, section 4, on where it ends. Networks of one architecture learn real examples, random
labels, random inputs, and random labels that are drawn afresh for each network. The last is the null: whatever order is
left there cannot come from the labels.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.corruption import random_inputs, random_labels
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Recipe
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.learning_order.agreement import (
    BoolArray,
    FloatArray,
    IntArray,
    accessibility,
    agreement,
    constancy,
    pearson_bimodality,
    right_answers,
    spearman,
    true_agreement,
    two_point_share,
    unrelated,
)
from canary_audit.studies.learning_order.fresh_noise_report import (
    FRESH,
    RANDOM_INPUTS,
    RANDOM_LABELS,
    REAL,
    Measured,
    report,
)
from canary_audit.studies.learning_order.trajectories import Trajectory, network_seeds, watched_training

_NETWORKS: Final = 16
_EPOCHS: Final = 15
_LONGER: Final = 40
"""Epochs of the networks with fresh labels, to see what storing more of them does."""
_NEIGHBOURS: Final = 5
_ENSEMBLE: Final = 20
"""Not among the ensembles of other experiments. All kinds have the same networks at the start."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What one ensemble learns, and what it is asked afterwards."""

    train_x: NDArray[np.float32]
    train_y: IntArray
    """Shape (n_rows,), or (n_networks, n_rows)."""
    test_x: NDArray[np.float32]
    epochs: int = _EPOCHS


def run(setting: Setting) -> Section:
    """Agreement and constancy of the order on real examples and on three kinds of noise."""
    data = load_dataset(setting.config.study)
    measured = []
    for done, seed in enumerate(setting.seeds):
        setting.progress("networks on noise", done, len(setting.seeds))
        measured.append(_measured(data, seed, setting.device))
    return report(data, measured, networks=_NETWORKS, epochs=_EPOCHS, longer=_LONGER)


def kinds_of(data: Dataset, seed: int, networks: tuple[int, ...]) -> dict[str, Examples]:
    """Real examples and the three kinds of noise. Held-out inputs are random where the training inputs are."""
    x, y, test_x = data.train_x, data.train_y, data.test_x
    everything = replace(data, train_x=np.concatenate([x, test_x]), train_y=np.concatenate([y, data.test_y]))
    drawn = random_inputs(everything, 1.0, seed).x
    fresh = np.stack([random_labels(data, 1.0, network).y for network in networks])
    return {
        REAL: Examples(train_x=x, train_y=y, test_x=test_x),
        RANDOM_LABELS: Examples(train_x=x, train_y=random_labels(data, 1.0, seed).y, test_x=test_x),
        RANDOM_INPUTS: Examples(train_x=drawn[: len(x)], train_y=y, test_x=drawn[len(x) :]),
        FRESH: Examples(train_x=x, train_y=fresh, test_x=test_x, epochs=_LONGER),
    }


def _measured(data: Dataset, seed: int, device: str) -> dict[str, Measured]:
    networks, far = network_seeds(seed, _ENSEMBLE, _NETWORKS), isolation(data.train_x)
    generator = np.random.default_rng([seed, 72])
    found = {}
    for kind, examples in kinds_of(data, seed, networks).items():
        trajectory = watched_training(
            lambda: mlp(data.n_features, data.n_classes, [64, 64]),
            networks,
            Recipe(epochs=examples.epochs, learning_rate=3e-3, batch_size=64),
            train_x=examples.train_x,
            train_y=examples.train_y,
            test_x=examples.test_x,
            device=device,
        )
        found[kind] = _measure(trajectory, right_answers(trajectory.train, examples.train_y), far, generator)
    return found


def _measure(trajectory: Trajectory, right: BoolArray, far: FloatArray, generator: np.random.Generator) -> Measured:
    held_out = trajectory.test[_EPOCHS - 1 : _EPOCHS]
    shares = true_agreement(right)
    return Measured(
        stored=right.mean(axis=(1, 2)),
        constancy=np.array([constancy(right[:end]) for end in range(1, len(right) + 1)]),
        agreement=float(agreement(held_out).mean()),
        agreement_by_chance=float(agreement(unrelated(held_out, generator)).mean()),
        two_point=np.array([two_point_share(share) for share in shares[:_EPOCHS]]),
        pearson_bimodality=np.array([pearson_bimodality(share) for share in shares[:_EPOCHS]]),
        isolation=spearman(accessibility(right), far),
    )


def isolation(x: NDArray[np.float32]) -> FloatArray:
    """How far an example is from others: mean Euclidean distance to its five nearest, shape (n_rows,)."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  slow to import

    neighbours = min(_NEIGHBOURS, len(x) - 1)
    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors()  # without the example itself
    return np.asarray(distances.mean(axis=1), dtype=np.float64)
