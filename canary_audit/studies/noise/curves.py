"""What was counted while networks learned real data and noise."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

FITTED: Final = 0.95
"""Training accuracy from which a network counts as having fitted its data, noise and all."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What a network is trained on."""

    name: str
    noise: Literal["labels", "inputs"] = "labels"
    share: float = 0.0
    """Of the examples, made noise."""


REAL: Final = World(name="real data")
RANDOM_LABELS: Final = tuple(World(name=f"{share:.0%} random labels", share=share) for share in (0.2, 0.5, 0.8))
RANDOM_INPUTS: Final = World(name="50% random inputs", noise="inputs", share=0.5)
WORLDS: Final = (REAL, *RANDOM_LABELS, RANDOM_INPUTS)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Shares from 0 to 1; axes are worlds (in the order of `WORLDS`), seeds, epochs."""

    radius: float
    deviation: float
    """Of all training inputs together: what the radius is small against."""
    calibrated: float
    """Critical share of the held-out points, at this radius, for the networks that chose it."""
    looks: tuple[int, ...]
    """Epochs at which critical points were counted."""
    critical: NDArray[np.float64]
    """Critical share of the held-out points, shape (n_worlds, n_seeds, n_looks)."""
    train: NDArray[np.float64]
    """Accuracy on the labels trained on, noisy ones among them, shape (n_worlds, n_seeds, n_epochs)."""
    held_out: NDArray[np.float64]
    """Accuracy on held-out points with their true labels, the same shape."""

    @property
    def n_epochs(self) -> int:
        """Epochs of training."""
        return int(self.train.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a world's networks were best, and when they had fitted the noise; of curves averaged over the seeds."""

    peak_epoch: int
    """The first with the highest held-out accuracy."""
    peak: float
    last: float
    fitted_epoch: int | None
    """The first with a training accuracy of at least `FITTED`; None if there was none."""
    train_at_peak: float
    train_at_end: float

    @property
    def drop(self) -> float:
        """Held-out accuracy lost from the best epoch to the last."""
        return self.peak - self.last

    def peaks_before_fitting(self, n_epochs: int) -> bool:
        """Whether the best epoch came before the noise was fitted; unfitted noise counts as an epoch after the last."""
        return self.peak_epoch < (n_epochs + 1 if self.fitted_epoch is None else self.fitted_epoch)


def stopping(curves: Curves, world: World) -> Stopping:
    """When to stop, in this world."""
    place = WORLDS.index(world)
    train, held_out = curves.train[place].mean(axis=0), curves.held_out[place].mean(axis=0)
    best = int(held_out.argmax())
    fitted = np.flatnonzero(train >= FITTED)
    return Stopping(
        peak_epoch=best + 1,
        peak=float(held_out[best]),
        last=float(held_out[-1]),
        fitted_epoch=int(fitted[0]) + 1 if len(fitted) else None,
        train_at_peak=float(train[best]),
        train_at_end=float(train[-1]),
    )
