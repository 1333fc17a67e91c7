"""Does a number depend on the level, or on the training it was taken from?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import stats

from canary_audit.results import Maybe, NotAvailable


@dataclass(frozen=True, kw_only=True)
class VarianceShares:
    """Shares of the variance of all values; they add up to 1."""

    levels: float
    """Between levels, whichever training: what the data decide."""
    seeds: float
    """Between the trainings at one level: what this training decides for all canaries of a level alike."""
    within: float
    """Between canaries of one level in one training."""
    seeds_p: Maybe
    """Probability of a share of the seeds at least as large if trainings did not differ (F test, nested in levels)."""


def variance_shares(values: Mapping[int, Sequence[Sequence[float]]]) -> VarianceShares:
    """Nested analysis of variance: seeds within levels, canaries within both. Secrets are fresh, so nothing is crossed.

    Args:
        values: level -> for each seed, the values of its canaries.
    """
    everything = np.array([*chain.from_iterable(chain.from_iterable(values.values()))])
    means = {level: np.concatenate([np.asarray(cell) for cell in cells]).mean() for level, cells in values.items()}
    between_levels = sum(
        sum(map(len, cells)) * (means[level] - everything.mean()) ** 2 for level, cells in values.items()
    )
    cells = [(means[level], np.asarray(cell)) for level, own in values.items() for cell in own]
    between_seeds = sum(len(cell) * (cell.mean() - mean) ** 2 for mean, cell in cells)
    within = sum(((cell - cell.mean()) ** 2).sum() for _, cell in cells)
    total = between_levels + between_seeds + within
    if total == 0:
        nothing = NotAvailable(not_available="all values are equal")
        return VarianceShares(levels=0.0, seeds=0.0, within=1.0, seeds_p=nothing)
    freedom = len(cells) - len(values), len(everything) - len(cells)
    return VarianceShares(
        levels=float(between_levels / total),
        seeds=float(between_seeds / total),
        within=float(within / total),
        seeds_p=_p_value(float(between_seeds), float(within), freedom),
    )


def _p_value(between: float, within: float, freedom: tuple[int, int]) -> Maybe:
    if min(freedom) < 1 or within == 0:
        return NotAvailable(not_available="it takes two seeds, and canaries that differ")
    return float(stats.f.sf((between / freedom[0]) / (within / freedom[1]), *freedom))
