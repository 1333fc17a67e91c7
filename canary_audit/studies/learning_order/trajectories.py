"""Networks watched while they learn: what each of them says on every example after every epoch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import Classifier
from canary_audit.studies.learning_order.agreement import IntArray


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Classes predicted, each of shape (n_epochs, n_networks, n_rows)."""

    train: IntArray
    test: IntArray


def watched_training(
    build: Callable[[], Classifier],
    seeds: tuple[int, ...],
    recipe: Recipe,
    *,
    train_x: NDArray[np.float32],
    train_y: IntArray,
    test_x: NDArray[np.float32],
    device: str,
) -> Trajectory:
    """Train one network for each seed; `train_y` has shape (n_rows,), or (n_networks, n_rows)."""
    train, test = [], []

    def look(epoch: int, ensemble: Ensemble) -> None:
        train.append(ensemble.predict(train_x))
        test.append(ensemble.predict(test_x))

    fit(Ensemble(build, seeds, device), train_x, train_y, recipe, on_epoch=look)
    return Trajectory(train=np.stack(train), test=np.stack(test))


def network_seeds(seed: int, ensemble: int, count: int) -> tuple[int, ...]:
    """Seeds of the networks of one ensemble; others than those of any other seed or ensemble."""
    return tuple(int(value) for value in np.random.SeedSequence([seed, ensemble]).generate_state(count))
