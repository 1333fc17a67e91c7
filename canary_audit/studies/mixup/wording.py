"""Numbers of several seeds in words."""

import numpy as np
from numpy.typing import NDArray


def mean(values: NDArray[np.float64], digits: int = 1) -> str:
    """The mean over all values."""
    return f"{values.mean():.{digits}f}"


def each(values: NDArray[np.float64], digits: int = 1, unit: str = " %") -> str:
    """The mean, and each value in brackets: `4.5 % (4.0, 5.0)`."""
    return f"{mean(values, digits)}{unit} ({', '.join(f'{value:.{digits}f}' for value in values)})"
