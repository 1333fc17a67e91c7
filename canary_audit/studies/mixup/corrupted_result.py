"""What training on corrupted labels came to, for one way of training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of training."""

    name: str
    alpha: float = 0.0
    """Of mixup; 0 is without."""
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors of one method in percent, by share of wrong labels and seed."""

    method: Method
    epochs: tuple[int, ...]
    """At which the networks were tested; the last is the end of training."""
    test_error: NDArray[np.float64]
    """On clean test labels, shape (n_epochs_looked_at, n_shares, n_seeds)."""
    right_label_error: NDArray[np.float64]
    """At the end, on training examples whose label is right, shape (n_shares, n_seeds)."""
    wrong_label_error: NDArray[np.float64]
    """The same where the label is wrong: 0 means that all wrong labels are stored, 100 that none is."""

    @property
    def best(self) -> NDArray[np.float64]:
        """Least test error over the epochs, shape (n_shares, n_seeds); chosen on the test set, as in the paper."""
        return np.asarray(self.test_error.min(axis=0), dtype=np.float64)

    @property
    def last(self) -> NDArray[np.float64]:
        """Test error at the end, shape (n_shares, n_seeds)."""
        return np.asarray(self.test_error[-1], dtype=np.float64)
