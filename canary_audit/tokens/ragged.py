"""Ranges of unequal length, one after the other."""

import numpy as np

from canary_audit.models.interface import IntArray


def ranges(first: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Owner and value of each element of `range(first[i], first[i] + lengths[i])`, for all i.

    Both results have shape (sum of lengths,).
    """
    owners = np.repeat(np.arange(len(first)), lengths)
    starts = np.cumsum(lengths) - lengths
    return owners, np.arange(len(owners)) + np.repeat(first - starts, lengths)
