"""Numbers of several seeds, in sentences and in charts."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from canary_audit.studies.findings import Series


def mean_of(values: ArrayLike, digits: int = 1) -> str:
    """The mean over the seeds."""
    return f"{np.asarray(values, dtype=np.float64).mean():.{digits}f}"


def percents(values: ArrayLike) -> str:
    """`over_seeds` of values in percent: `4.5 % (4.0, 5.0)`."""
    return over_seeds(values, 1, unit=" %")


def over_seeds(values: ArrayLike, digits: int = 2, *, unit: str = "") -> str:
    """The mean over the seeds, and each seed's value in brackets if there are several: `0.45 (0.40, 0.50)`."""
    each = np.asarray(values, dtype=np.float64).ravel().tolist()
    mean = f"{mean_of(each, digits)}{unit}"
    return mean if len(each) == 1 else f"{mean} ({', '.join(f'{value:.{digits}f}' for value in each)})"


def listed(values: Iterable[object]) -> str:
    """What was found with each seed, in their order, such as `9 and 10`; once if it is the same with all of them.

    What did not happen (None) is `never`.
    """
    texts = ["never" if value is None else str(value) for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def band(name: str, by_seed: Sequence[ArrayLike], x: Sequence[float] | None = None) -> Series:
    """Mean over the seeds at each point, with their range; points that are not-a-number for a seed are left out.

    Args:
        by_seed: shape (n_seeds, n_points).
        x: shape (n_points,); 1, 2, ... if not given.
    """
    values = np.asarray(by_seed, dtype=np.float64)
    places = np.flatnonzero(~np.isnan(values).any(axis=0))
    known = values[:, places]
    return Series(
        name=name,
        x=tuple((places + 1.0).tolist() if x is None else (float(x[place]) for place in places.tolist())),
        y=tuple(known.mean(axis=0).tolist()),
        low=tuple(known.min(axis=0).tolist()),
        high=tuple(known.max(axis=0).tolist()),
    )
