"""Numbers of several seeds, in sentences and charts."""

from collections.abc import Sequence

import numpy as np

from canary_audit.studies.findings import Series
from canary_audit.studies.learning_order.agreement import FloatArray


def seed_mean(values: Sequence[float]) -> float:
    """Mean over the seeds; not-a-number as soon as one is."""
    return float(np.mean(values))


def shown(value: float) -> str:
    """A number as readers see it."""
    return "undefined" if np.isnan(value) else f"{value:.2f}"


def each(values: Sequence[float]) -> str:
    """The numbers of all seeds as readers see them."""
    return ", ".join(shown(value) for value in values)


def band(name: str, curves: Sequence[FloatArray]) -> Series:
    """One curve for each seed -> their mean and range at steps 1, 2, ...

    Steps at which the value is undefined for a seed are left out.
    """
    stacked = np.stack(curves)
    places = np.flatnonzero(~np.isnan(stacked).any(axis=0))
    known = stacked[:, places]
    return Series(
        name=name,
        x=tuple((places + 1.0).tolist()),
        y=tuple(known.mean(axis=0).tolist()),
        low=tuple(known.min(axis=0).tolist()),
        high=tuple(known.max(axis=0).tolist()),
    )
