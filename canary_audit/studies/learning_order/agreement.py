"""Do networks learn the same examples at the same time? (Hacohen, Choshen, Weinshall 2020, sections 2 and 3.)

Plain functions of recorded answers. `predictions` has shape (n_epochs, n_networks, n_rows) and holds classes;
`right` has the same shape and holds whether they are right.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

UNDEFINED = float("nan")
_RESAMPLES = 500


def right_answers(predictions: IntArray, labels: IntArray) -> BoolArray:
    """Which answers are right; labels have shape (n_rows,), or (n_networks, n_rows) if every network has its own."""
    return np.asarray(predictions == labels)


def true_agreement(right: BoolArray) -> FloatArray:
    """TP-agreement: share of the networks that are right, shape (n_epochs, n_rows)."""
    return np.asarray(right.mean(axis=1))


def agreement(predictions: IntArray) -> FloatArray:
    """Share of the networks that give the most frequent answer, right or wrong, shape (n_epochs, n_rows).

    It needs no label. By chance it is above 1 / n_classes: compare it with `unrelated`.
    """
    classes = range(int(predictions.min()), int(predictions.max()) + 1)
    shares = [(predictions == one).mean(axis=1) for one in classes]
    return np.asarray(np.max(shares, axis=0))


def unrelated(predictions: IntArray, generator: np.random.Generator) -> IntArray:
    """The same answers, each network's dealt out to the rows at random: how often a network says a class stays."""
    return generator.permuted(predictions, axis=2)


def accessibility(right: BoolArray) -> FloatArray:
    """How early an example is learned: share of networks and epochs that are right on it, shape (n_rows,)."""
    return np.asarray(right.mean(axis=(0, 1)))


def halves(right: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Accessibility from the first half of the networks, and from the others."""
    middle = right.shape[1] // 2
    return accessibility(right[:, :middle]), accessibility(right[:, middle:])


def constancy(right: BoolArray) -> float:
    """Constancy of the learning order: Pearson correlation of accessibility between two halves of the networks."""
    return pearson(*halves(right))


def pearson(a: FloatArray, b: FloatArray) -> float:
    """Correlation, or not-a-number if one of the two does not vary."""
    x, y = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / scale, -1, 1)) if _varies(a) and _varies(b) else UNDEFINED


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Correlation of the ranks; equal values share their mean rank."""
    from scipy.stats import rankdata  # noqa: PLC0415  slow to import

    return pearson(rankdata(a), rankdata(b))


def pearson_interval(a: FloatArray, b: FloatArray, generator: np.random.Generator) -> tuple[float, float]:
    """95 % percentile bootstrap over the rows: what other examples would have given, with the same networks."""
    drawn = generator.integers(len(a), size=(_RESAMPLES, len(a)))
    found = [value for rows in drawn if not np.isnan(value := pearson(a[rows], b[rows]))]
    if not found:
        return UNDEFINED, UNDEFINED
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def within_classes(values: FloatArray, labels: IntArray) -> FloatArray:
    """Values less the mean of their class: what is left of an order once easy and hard classes are set aside."""
    centred = values.copy()
    for one in np.unique(labels):
        centred[labels == one] -= values[labels == one].mean()
    return centred


def two_point_share(shares: FloatArray) -> float:
    """Bimodality of shares p_x with mean p: var(p_x) / (p (1 - p)), between 0 and 1.

    1 if every example is right in all networks or in none. Where all examples are alike and networks are independent,
    1 / n_networks. Not-a-number if all shares are 0, or all are 1.
    """
    mean = float(shares.mean())
    return float(shares.var()) / (mean * (1 - mean)) if 0 < mean < 1 else UNDEFINED


def pearson_bimodality(shares: FloatArray) -> float:
    """Kurtosis less squared skewness (Pearson 1929): 1 for a distribution on two points, 1.8 for a uniform, 3 for a
    normal one. Not-a-number if the shares do not vary.
    """
    if not _varies(shares):
        return UNDEFINED
    z = (shares - shares.mean()) / shares.std()
    return float((z**4).mean() - (z**3).mean() ** 2)


def _varies(values: FloatArray) -> bool:
    return bool(np.ptp(values) > 1e-9)
