"""How like two classifiers are: P_SAME, MA, MD and the Kullback-Leibler divergence (Cohen et al. 2018, section 3)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.datasets import IntArray

_IN_PLACE_OF_ZERO: Final = 1e-6
"""A vote share is 0 for most classes, and the divergence from it would be infinite."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How a second classifier decides where a network does."""

    p_same: float
    """Share of the examples on which both decide for the same class."""
    both_right: float
    """MA: share of those that the network has right on which the other is right too; NaN if there are none."""
    both_wrong: float
    """MD: share of those that the network has wrong on which the other makes the same error; NaN if there are none."""
    divergence: float
    """Mean Kullback-Leibler divergence of the other's probabilities from the network's, in nats."""
    accuracy: float
    """Of the other."""
    network_accuracy: float


def likeness(network: NDArray[np.floating], other: NDArray[np.floating], labels: IntArray) -> Likeness:
    """Compare two classifiers by the probabilities they give, each of shape (n_rows, n_classes).

    A decision is the likeliest class, the lowest of them at a tie. P_SAME = MA * accuracy + MD * (1 - accuracy).
    """
    first, second = network.argmax(axis=1), other.argmax(axis=1)
    same, right = first == second, first == labels
    return Likeness(
        p_same=float(same.mean()),
        both_right=_share(same[right]),
        both_wrong=_share(same[~right]),
        divergence=mean_divergence(network, other),
        accuracy=float((second == labels).mean()),
        network_accuracy=float(right.mean()),
    )


def mean_divergence(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Mean over rows of the Kullback-Leibler divergence of q from p, sum p log(p / q) in nats; zeros count as 1e-6."""
    from scipy.stats import entropy  # noqa: PLC0415  slow to import

    above, below = (np.where(side == 0, _IN_PLACE_OF_ZERO, side.astype(np.float64)) for side in (p, q))
    return float(entropy(above, below, axis=1).mean())


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if chosen.size else float("nan")
