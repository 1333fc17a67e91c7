"""Real data beside pure noise, and what the experiments on them share."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.corruption import random_inputs, random_labels
from canary_audit.studies.classifiers.datasets import Dataset, FloatArray, IntArray

REAL: Final = "real"
RANDOM_INPUTS: Final = "random inputs"
RANDOM_LABELS: Final = "random labels"
WORLDS: Final = (REAL, RANDOM_INPUTS, RANDOM_LABELS)


@dataclass(frozen=True, kw_only=True)
class World:
    """Training examples of one kind."""

    name: str
    x: FloatArray
    y: IntArray


def world(data: Dataset, name: str, seed: int, *, share: float = 1.0) -> World:
    """The training part of the data, of which a share (all, if not told) is noise of this kind (Arpit's randX, randY).

    The seed decides the noise; real data are the same for every seed.
    """
    if name == REAL:
        return World(name=name, x=data.train_x, y=data.train_y)
    noisy = (random_inputs if name == RANDOM_INPUTS else random_labels)(data, share, seed)
    return World(name=name, x=noisy.x, y=noisy.y)


def shuffled_labels(data: Dataset, seed: int) -> World:
    """All labels dealt out anew: random, and each as frequent as before."""
    order = np.random.default_rng([seed, 4]).permutation(len(data.train_y))
    return World(name=RANDOM_LABELS, x=data.train_x, y=data.train_y[order])


def network_seeds(seed: int, n: int) -> list[int]:
    """Seeds of `n` networks, different from those of every other seed."""
    return [int(one) for one in np.random.SeedSequence([seed, n]).generate_state(n)]
