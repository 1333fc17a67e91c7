"""How many secrets below a prefix are still within reach: a guess that makes sampling efficient, never wrong.

The guess takes the costs of the steps still to come for independent draws from what steps of the same level cost
elsewhere in the tree. Sampling by it is as unbiased as sampling by anything positive; it only varies less.
"""

import numpy as np
from scipy.signal import fftconvolve

from canary_audit.models.interface import FloatArray, IntArray

_BIN_NATS = 0.05
_N_BINS = 1_200
"""A step costs up to 60 nats; dearer ones are counted there."""


def step_histogram(costs_nats: FloatArray, weights: FloatArray) -> FloatArray:
    """Weight of the steps whose cost falls in each bin, shape (n_bins,); both arguments have shape (n_steps,)."""
    bins: IntArray = np.minimum(np.rint(costs_nats / _BIN_NATS), _N_BINS - 1).astype(np.int64)
    return np.bincount(bins, weights=weights, minlength=_N_BINS).astype(np.float64)


class Forecast:
    """Share of the secrets below a node whose remaining steps cost no more than some slack.

    Args:
        steps: one `step_histogram` a level, shape (n_levels, n_bins), in which every secret weighs the same.
        most_nats: no slack is larger.
    """

    def __init__(self, steps: FloatArray, most_nats: float) -> None:
        n_bins = int(most_nats / _BIN_NATS) + 2
        remaining = np.zeros(n_bins)
        remaining[0] = 1.0
        cumulative = [np.ones(n_bins)]
        for histogram in reversed(steps):
            # By Fourier transform; what rounding leaves below zero is nothing.
            remaining = np.maximum(fftconvolve(remaining, histogram / histogram.sum())[:n_bins], 0.0)
            cumulative.append(np.cumsum(remaining))
        self._within: FloatArray = np.array(cumulative[::-1])

    def share(self, depth: int, slack_nats: FloatArray) -> FloatArray:
        """Guess for nodes of `depth` tokens; shape of `slack_nats`, values in [0, 1]."""
        within = self._within[min(depth, len(self._within) - 1)]
        bins = np.minimum(slack_nats / _BIN_NATS, len(within) - 1).astype(np.int64)
        shares: FloatArray = within[bins]
        return shares
