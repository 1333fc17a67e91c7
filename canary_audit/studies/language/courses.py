"""The course of one training: validation loss and exposure, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canary_audit.errors import RunError
from canary_audit.results import EpochResult, NotAvailable


@dataclass(frozen=True, kw_only=True)
class Course:
    """Numbers after each epoch; epochs count from 1."""

    losses: tuple[float, ...]
    """Validation loss, in bits per character."""
    exposures: Mapping[int, tuple[float, ...]]
    """Insertions -> median exposure of the canaries inserted so often, in bits."""

    @property
    def best_epoch(self) -> int:
        """Epoch of the least validation loss; the first of several."""
        return 1 + self.losses.index(min(self.losses))

    @property
    def still_falls(self) -> bool:
        """Whether the loss was least in the last epoch, so that the true minimum may lie beyond."""
        return self.best_epoch == len(self.losses)

    def passes(self, insertions: int, limit_bits: float) -> int | None:
        """First epoch with an exposure above the limit; None if there is none."""
        return next((epoch for epoch, bits in enumerate(self.exposures[insertions], 1) if bits > limit_bits), None)

    def share_before_best(self, insertions: int) -> float:
        """Greatest exposure before the epoch of least loss, as a share of the greatest of all; 0 if that is epoch 1."""
        bits = self.exposures[insertions]
        return max(bits[: self.best_epoch - 1], default=0.0) / max(bits) if max(bits) > 0 else 0.0


def course_of(epochs: Sequence[EpochResult]) -> Course:
    """The course of a training with `[training] track_exposure`.

    Raises:
        RunError: an epoch has no validation loss.
    """
    losses = []
    for epoch in epochs:
        if isinstance(epoch.validation_bits_per_char, NotAvailable):
            raise RunError(f"no validation loss in epoch {epoch.epoch}: {epoch.validation_bits_per_char.not_available}")
        losses.append(epoch.validation_bits_per_char)
    levels = sorted(map(int, epochs[0].exposure_by_level))
    return Course(
        losses=tuple(losses),
        exposures={level: tuple(epoch.exposure_by_level[str(level)] for epoch in epochs) for level in levels},
    )
