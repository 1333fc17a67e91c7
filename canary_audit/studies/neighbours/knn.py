"""Nearest neighbours: who they are, and what they vote (Cohen et al. 2018, section 3).

As in the paper's own code: 30 neighbours by the L1 distance, one vote each, layers reduced by principal components.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.datasets import FloatArray, IntArray

N_NEIGHBOURS: Final = 30
COMPONENTS: Final = 64


def neighbours(train: FloatArray, queries: FloatArray, k: int = N_NEIGHBOURS) -> IntArray:
    """The k training points nearest to each query by the L1 distance, nearest first: shape (n_queries, k).

    Where there are fewer training points, all of them.
    """
    found: IntArray = _search(train, min(k, len(train))).kneighbors(queries, return_distance=False)
    return found


def other_neighbours(train: FloatArray, k: int = N_NEIGHBOURS) -> IntArray:
    """The k training points nearest to each training point but itself (leave-one-out): shape (n_train, k).

    The paper's code asks for one neighbour more and takes the point's own vote away. That fails where more than k
    others lie at the very same place and the point itself is not among those found; here it is left out as such.
    """
    found: IntArray = _search(train, min(k, len(train) - 1)).kneighbors(return_distance=False)
    return found


def vote_shares(labels: IntArray, n_classes: int) -> NDArray[np.float64]:
    """Share of the votes that each class has: labels of the neighbours, (n_queries, k) -> (n_queries, n_classes)."""
    n_queries, k = labels.shape
    cells = labels + n_classes * np.arange(n_queries)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_queries * n_classes).reshape(n_queries, n_classes)
    return np.asarray(counts / k, dtype=np.float64)


def reduced(train: FloatArray, *others: FloatArray, above: int = 256) -> tuple[FloatArray, ...]:
    """Arrays of more than `above` columns by their 64 principal components, which are those of `train` alone.

    Each has shape (n_rows, width); fewer rows than 64 give as many components as there are rows. A layer that is the
    same for all training rows, as a dead one is, has no components and stays as it is.
    """
    if train.shape[1] <= above or not np.ptp(train, axis=0).any():
        return (train, *others)
    from sklearn.decomposition import PCA  # noqa: PLC0415  slow to import

    n_components = min(COMPONENTS, *train.shape)
    components = PCA(n_components, svd_solver="covariance_eigh" if train.shape[1] <= len(train) else "full").fit(train)
    return tuple(components.transform(part).astype(np.float32) for part in (train, *others))


def _search(train: FloatArray, k: int) -> Any:
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  slow to import

    return NearestNeighbors(n_neighbors=k, metric="manhattan", algorithm="brute").fit(train)
