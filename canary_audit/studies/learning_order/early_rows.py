"""Training rows that were learned early though they should be hard: duplicates, and leaks.

How hard a row should be is told by zlib, in bits a character (Carlini et al. 2021). It reads the row alone, so it knows
nothing of the model and nothing of how often the row occurs. The loss of another training, the other choice, would not
do: that one has read the same duplicates, finds them easy too, and hides what is looked for.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Row:
    """One distinct training document, without its text."""

    number: int
    """Place of its first occurrence among the training documents, from 1."""
    canary: str
    """Canary id; empty for an ordinary document."""
    occurrences: int
    n_chars: int
    hardness: float
    """zlib entropy, in bits a character."""
    accessibility: float
    """Share of its tokens that were predicted, mean over tokens, epochs and seeds."""


@dataclass(frozen=True, kw_only=True)
class EarlyRow:
    """A row with what its hardness does not explain."""

    row: Row
    excess: float
    """Accessibility above that of ordinary rows as hard and as long, in standard deviations of these."""


def zlib_bits_per_char(text: str) -> float:
    """Size of the compressed text. Short texts pay for the frame, so lengths have to be taken into account."""
    return 8 * len(zlib.compress(text.encode(), 9)) / len(text)


def early_rows(rows: Sequence[Row]) -> list[EarlyRow]:
    """All rows, the most suspicious first.

    Accessibility is explained by hardness and by the logarithm of the length, by least squares over the ordinary rows;
    known canaries are held against the same line.

    Raises:
        ValueError: there are fewer than four ordinary rows.
    """
    ordinary = np.array([not row.canary for row in rows])
    if ordinary.sum() < 4:
        raise ValueError("a line through fewer than four ordinary rows explains nothing")
    known = np.array([[1.0, row.hardness, np.log(row.n_chars)] for row in rows])
    accessibility = np.array([row.accessibility for row in rows])
    line, *_ = np.linalg.lstsq(known[ordinary], accessibility[ordinary], rcond=None)
    left: NDArray[np.float64] = accessibility - known @ line
    deviation = float(left[ordinary].std()) or 1.0
    order = sorted(range(len(rows)), key=lambda place: (-left[place], rows[place].number))
    return [EarlyRow(row=rows[place], excess=float(left[place]) / deviation) for place in order]
