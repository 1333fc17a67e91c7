"""Points of the plane for generators to imitate, and how well they do."""

from collections.abc import Callable
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import FloatArray

Draw = Callable[[int, np.random.Generator], FloatArray]
"""(number of points, source of randomness) -> points of shape (n, 2)."""

SPOTS: Final = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=np.float32)
_SPOT_DEVIATION: Final = 0.1
_TURNS: Final = 1.5
_SPIRAL_RADIUS: Final = 1.5
_SPIRAL_DEVIATION: Final = 0.03


def four_spots(n: int, random: np.random.Generator) -> FloatArray:
    """Gaussian spots of deviation 0.1 around the corners of a square."""
    centres = SPOTS[random.integers(len(SPOTS), size=n)]
    return np.asarray(centres + random.normal(scale=_SPOT_DEVIATION, size=(n, 2)), dtype=np.float32)


def spiral(n: int, random: np.random.Generator) -> FloatArray:
    """A spiral of one and a half turns, about equally dense along its length."""
    along = np.sqrt(random.uniform(size=n))
    angle = 2 * np.pi * _TURNS * along
    line = _SPIRAL_RADIUS * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(line + random.normal(scale=_SPIRAL_DEVIATION, size=(n, 2)), dtype=np.float32)


POINTS: Final[dict[str, Draw]] = {"four spots": four_spots, "spiral": spiral}


def energy_distance(one: FloatArray, other: FloatArray) -> float:
    """Energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples (Szekely, Rizzo 2013): 0 if they are the same.

    Args:
        one, other: points, shape (n, 2) each. Pairs of a point with itself count, as in the V-statistic, so that the
            value is never below 0 and for two samples of one distribution about 2 E|X - X'| / n.
    """
    return 2 * _mean_distance(one, other) - _mean_distance(one, one) - _mean_distance(other, other)


def spots_hit(points: FloatArray) -> int:
    """Of the four spots, those within whose three deviations at least one generated point of twenty lies."""
    distances = np.linalg.norm(points[:, None] - SPOTS, axis=2)
    return int(((distances <= 3 * _SPOT_DEVIATION).mean(axis=0) >= 0.05).sum())


def _mean_distance(one: FloatArray, other: FloatArray) -> float:
    from scipy.spatial.distance import cdist  # noqa: PLC0415  slow to import

    return float(cdist(one, other).mean())
