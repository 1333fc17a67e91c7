"""Comparison at equal validation loss.

Whatever slows training down lowers exposure at a given epoch, and loses as much of the language. So a defended model is
held against the undefended one of the same seed at the moment when that had the same loss.
"""

import math
import statistics
from collections.abc import Sequence

from scipy import special

from canary_audit.results import EpochResult, Maybe, NotAvailable
from canary_audit.studies.defences.results import MatchedChange, StudyRun

SAME_LOSS_BITS = 0.01
"""Losses per character closer than this are the same: rounding 8-bit weights moves the loss by less."""

CONFIDENCE = 0.95


def exposure_at_loss(epochs: Sequence[EpochResult], level: str, bits_per_char: float) -> Maybe:
    """Exposure of a level when training first came down to a loss, in bits.

    Between two epochs both are interpolated linearly. Epochs after the least loss are never reached this way.
    """
    points: list[tuple[float, float]] = []
    for epoch in epochs:
        if isinstance(epoch.validation_bits_per_char, NotAvailable) or level not in epoch.exposure_by_level:
            return NotAvailable(not_available="the undefended model was not tracked")
        points.append((epoch.validation_bits_per_char, epoch.exposure_by_level[level]))
    least_loss, exposure_there = min(points)
    if bits_per_char < least_loss:
        if least_loss - bits_per_char <= SAME_LOSS_BITS:
            return exposure_there
        return NotAvailable(not_available="ends at a lower loss than the undefended model ever had")
    first = next(place for place, (loss, _) in enumerate(points) if loss <= bits_per_char)
    if first == 0:
        if bits_per_char - points[0][0] <= SAME_LOSS_BITS:
            return points[0][1]
        return NotAvailable(not_available="ends at a loss that the undefended model was past after its first epoch")
    (loss_before, before), (loss_after, after) = points[first - 1 : first + 1]
    share = (loss_before - bits_per_char) / (loss_before - loss_after)
    return before + share * (after - before)


def matched_change(runs: Sequence[StudyRun], undefended: Sequence[StudyRun], insertions: int) -> MatchedChange:
    """Change of exposure at equal loss, paired by seed.

    A defended model that ended better than the undefended one ever was is compared on its own way down, at the least
    loss that both had.
    """
    by_seed = {run.seed: run for run in undefended}
    changes: list[float] = []
    remarks: list[str] = []
    for run in runs:
        if run.seed not in by_seed:
            remarks.append("the undefended run of its seed failed")
            continue
        change, remark = _paired_change(run, by_seed[run.seed], str(insertions))
        if not isinstance(change, NotAvailable):
            changes.append(change)
        if remark:
            remarks.append(remark)
    change, low, high = mean_interval(changes)
    return MatchedChange(
        insertions=insertions,
        change_bits=change,
        low_bits=low,
        high_bits=high,
        n_seeds=len(changes),
        remarks=tuple(f"{remarks.count(remark)} of {len(runs)}: {remark}" for remark in dict.fromkeys(remarks)),
    )


def _paired_change(run: StudyRun, undefended: StudyRun, level: str) -> tuple[Maybe, str]:
    """The change, and what is to be said of it, if anything."""
    loss, remark = run.validation_bits_per_char, ""
    bits: Maybe = run.exposure_by_level[level]
    least = min(_losses(undefended.epochs), default=loss)
    if loss < least - SAME_LOSS_BITS and run.epochs:
        loss, bits = least, exposure_at_loss(run.epochs, level, least)
        remark = "ends at a lower loss than the undefended model ever had; compared at the least loss that both had"
    reference = exposure_at_loss(undefended.epochs, level, loss)
    if isinstance(reference, NotAvailable):
        return reference, reference.not_available
    if isinstance(bits, NotAvailable):
        return bits, bits.not_available
    return bits - reference, remark


def _losses(epochs: Sequence[EpochResult]) -> list[float]:
    losses = (epoch.validation_bits_per_char for epoch in epochs)
    return [loss for loss in losses if not isinstance(loss, NotAvailable)]


def mean_interval(values: Sequence[float]) -> tuple[Maybe, Maybe, Maybe]:
    """Mean with its 95 % interval by Student's t: exact for normal values, rough for few of another kind.

    Returns:
        (mean, low, high)
    """
    if not values:
        nothing = NotAvailable(not_available="no seed could be compared")
        return nothing, nothing, nothing
    mean = statistics.fmean(values)
    if len(values) == 1:
        single = NotAvailable(not_available="one seed has no interval")
        return mean, single, single
    quantile = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    half_width = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half_width, mean + half_width
