"""Inequality of values that are not negative."""

import numpy as np
from numpy.typing import ArrayLike


def gini(values: ArrayLike) -> float:
    """Gini coefficient: 0 if all values are equal, (n - 1) / n if one has everything.

    Half the mean absolute difference of two values, over the mean. If all are 0, they are equal.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total > 0 else 0.0
