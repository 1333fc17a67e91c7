"""What is known of a canary's rank: a count, an estimate, or an interval alone."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from canary_audit.models.interface import FloatArray
from canary_audit.search import Leaves

Method = Literal["branch-and-bound", "stochastic-enumeration", "uniform-sampling", "inside-top-k", "certificate"]

_ROUNDING_NATS = 1e-9
"""1/P may be a whole number: it must not lose one to the last bits of a logarithm."""
_MOST_LOG = 700.0
"""Numbers beyond its exponential are infinite."""


@dataclass(frozen=True, kw_only=True)
class RankSettings:
    """How hard to look; see `config.AuditConfig`, whose fields these are."""

    nodes_per_canary: int = 1_200
    exact_nodes: int = 100_000
    replicates: int = 8
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True)
class RankEstimate:
    """Rank of one canary among all secrets of its space, 1 = most likely."""

    nll_nats: float
    """Sum over the tokens that overlap the secret; at least this, where `censored`."""
    rank: float | None
    """None where only the interval is known."""
    low: float
    high: float
    """Interval: of the replicates where estimated; of the model's noise floor where exact; else of what is certain."""
    exact: bool
    replicates: tuple[float, ...]
    """Independent unbiased estimates of the rank, or of a bound on it, at the upper end of the noise floor; empty where
    `high` is certain."""
    method: Method
    censored: bool = False
    """True if a token lay outside the model's window."""
    drawn: tuple[int, int] | None = None
    """Of a uniform sample: secrets at most as dear as the upper end of the noise floor, and all that were drawn."""


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """Ranks of several canaries of one space, in the order given, and what they cost."""

    estimates: tuple[RankEstimate, ...]
    noise_floor_nats: float
    nodes: int
    calls: int


def from_certificate(size: int, cost_nats: float, noise_nats: float, *, censored: bool) -> RankEstimate:
    """What a canary's own cost says of its rank: at most 1/P secrets can be as likely as one of probability P.

    A censored cost is a bound from below, and says nothing.
    """
    return RankEstimate(
        nll_nats=cost_nats,
        rank=None,
        low=1.0,
        high=float(size) if censored else most_rank(size, cost_nats + noise_nats),
        exact=False,
        replicates=(),
        method="certificate",
        censored=censored,
    )


def most_rank(size: int, cost_nats: float) -> float:
    """The largest whole rank among `size` secrets that one of this cost can have."""
    return min(float(size), float(np.floor(math.exp(min(cost_nats + _ROUNDING_NATS, _MOST_LOG)))))


def others(leaves: Leaves, thresholds_nats: FloatArray) -> FloatArray:
    """Weighted number of leaves of each lane that cost at most its threshold and are not its own secret."""
    counted = ~leaves.own & (leaves.costs_nats <= thresholds_nats[leaves.lanes])
    weights = np.where(counted, leaves.weights, 0.0)
    return np.bincount(leaves.lanes, weights=weights, minlength=len(thresholds_nats)).astype(np.float64)
