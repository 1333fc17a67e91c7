"""Real data beside pure noise, and what the experiments on them share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


def gini(values: NDArray[np.floating]) -> float:
    """Gini coefficient along the only axis: 0 if all values are equal, (n - 1) / n if one has everything.

    Values are not negative; if all are 0, they are equal.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total > 0 else 0.0


def over_seeds(values: Sequence[float] | NDArray[np.floating], digits: int = 2) -> str:
    """Mean over the seeds, and each seed's value in brackets if there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.{digits}f}' for value in values)})"
