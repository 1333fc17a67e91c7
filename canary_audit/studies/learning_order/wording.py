"""Numbers of several seeds, some of them undefined, in sentences."""

from collections.abc import Sequence

import numpy as np


def seed_mean(values: Sequence[float]) -> float:
    """Mean over the seeds; not-a-number as soon as one is."""
    return float(np.mean(values))


def shown(value: float) -> str:
    """A number as readers see it."""
    return "undefined" if np.isnan(value) else f"{value:.2f}"


def each(values: Sequence[float]) -> str:
    """The numbers of all seeds as readers see them."""
    return ", ".join(shown(value) for value in values)
