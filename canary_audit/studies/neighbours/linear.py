"""Linear classifiers on a layer's outputs (Cohen et al. 2018, section 3): support vectors and logistic regression."""

import warnings
from typing import Any, Final

import numpy as np

from canary_audit.studies.classifiers.datasets import FloatArray, IntArray

_MOST_STEPS: Final = 20_000
"""Of the support vector machine's solver: random labels on many rows would keep it busy for hours."""


def support_vectors(train: FloatArray, labels: IntArray, *queries: FloatArray) -> list[IntArray]:
    """Decisions of a linear support vector machine on each set of queries, with scikit-learn's default penalty."""
    from sklearn.svm import SVC  # noqa: PLC0415  slow to import

    return _decisions(SVC(kernel="linear", max_iter=_MOST_STEPS), train, labels, queries)


def logistic_regression(train: FloatArray, labels: IntArray, *queries: FloatArray) -> list[IntArray]:
    """The same of logistic regression."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  slow to import

    return _decisions(LogisticRegression(max_iter=500), train, labels, queries)


def _decisions(model: Any, train: FloatArray, labels: IntArray, queries: tuple[FloatArray, ...]) -> list[IntArray]:
    """A solver that has not converged decides as it stands; if all labels are the same, so are all decisions."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  slow to import

    if len(np.unique(labels)) == 1:
        return [np.full(len(part), labels[0]) for part in queries]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    return [model.predict(part) for part in queries]
