"""Keep rules: which nodes of a level a search expands.

KeepAll        every node: full enumeration; with a threshold, exact counts by branch and bound
KeepSample     a weighted sample: unbiased counts by stochastic enumeration
KeepCheapest   the w cheapest: beam search with a certificate
KeepOwn        the lane's own secret, and nothing else: its cost, and the tokens beside it at each step
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from canary_audit.forecast import Forecast
from canary_audit.models.interface import BoolArray, FloatArray, IntArray

_LEAST_SHARE = 0.02
"""A forecast may be wrong: no node counts for less than this share of what it may hold at most."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Inner nodes that a keep rule chooses from, all within their lane's threshold.

    Arrays have shape (n_entries,) and are ordered by lane.
    """

    depth: int
    """Tokens of each node, the prompt left out."""
    lanes: IntArray
    costs_nats: FloatArray
    weights: FloatArray
    """How many nodes each stands for (1 unless sampled)."""
    completions: FloatArray
    """Secrets below each node."""
    slack_nats: FloatArray
    """Threshold minus cost, never negative."""
    own: BoolArray
    """True where the lane's own secret begins with the node."""


class Keep(Protocol):
    """A rule that decides which nodes of a level are expanded."""

    def __call__(self, level: Level) -> tuple[IntArray, FloatArray]:
        """Indices of the entries kept, ascending, and their new weights."""


class KeepAll:
    """Keep every node within the threshold."""

    def __call__(self, level: Level) -> tuple[IntArray, FloatArray]:
        """All entries, weights unchanged."""
        return np.arange(len(level.lanes)), level.weights


class KeepOwn:
    """Keep the way to each lane's own secret."""

    def __call__(self, level: Level) -> tuple[IntArray, FloatArray]:
        """The entries that the lane's own secret begins with, weights unchanged."""
        kept = np.flatnonzero(level.own)
        return kept, level.weights[kept]


@dataclass(frozen=True)
class KeepCheapest:
    """Keep the `width` cheapest nodes of each lane: beam search."""

    width: int

    def __call__(self, level: Level) -> tuple[IntArray, FloatArray]:
        """The cheapest entries of each lane, weights unchanged."""
        order = np.lexsort((level.costs_nats, level.lanes))
        lanes = level.lanes[order]
        place = np.arange(len(lanes)) - np.searchsorted(lanes, lanes)
        kept = np.sort(order[place < self.width])
        return kept, level.weights[kept]


@dataclass(frozen=True)
class KeepSample:
    """Keep about `size` nodes of each lane that holds more, sampled so that weighted counts stay unbiased.

    A node is kept with probability min(1, c * weight * h), where h is how many leaves within the threshold it promises.
    It has at most as many as its completions, and at most exp(slack), since more leaves of at least the canary's
    probability would exceed the node's own; within this bound a forecast, where there is one, says more. c makes the
    probabilities of a lane sum to `size`; the weight of a kept node is divided by its probability. Sampling is
    systematic over the nodes in order of cost (stochastic enumeration; Vaisman and Kroese 2017).
    """

    size: int
    rng: np.random.Generator
    forecast: Forecast | None = None

    def __call__(self, level: Level) -> tuple[IntArray, FloatArray]:
        """A sample of each lane that overflows, the whole of each that does not."""
        n_lanes = int(level.lanes.max(initial=-1)) + 1
        chances = _inclusion_probabilities(level.weights * self._promise(level), level.lanes, n_lanes, self.size)
        order = np.lexsort((level.costs_nats, level.lanes))
        kept = np.sort(order[_systematic(chances[order], level.lanes[order], self.rng.random(n_lanes))])
        return kept, level.weights[kept] / chances[kept]

    def _promise(self, level: Level) -> FloatArray:
        most = np.minimum(level.completions, np.exp(np.minimum(level.slack_nats, 700.0)))
        if self.forecast is None:
            return most
        expected = level.completions * self.forecast.share(level.depth, level.slack_nats)
        return np.minimum(most, expected + _LEAST_SHARE * most)


def _inclusion_probabilities(promise: FloatArray, lanes: IntArray, n_lanes: int, size: int) -> FloatArray:
    """min(1, c * promise), with c such that each lane's sum is `size` (1 throughout a lane of at most `size` entries).

    Entries whose share would exceed 1 are taken for certain and the rest shared anew, until none exceeds.
    """
    certain = (np.bincount(lanes, minlength=n_lanes) <= size)[lanes]
    while True:
        left = size - np.bincount(lanes, weights=certain, minlength=n_lanes)
        total = np.bincount(lanes, weights=np.where(certain, 0.0, promise), minlength=n_lanes)
        share = np.divide(left, total, out=np.zeros(n_lanes), where=total > 0.0)
        chances = np.where(certain, 1.0, promise * share[lanes])
        exceeding = ~certain & (chances >= 1.0)
        if not exceeding.any():
            return chances
        certain |= exceeding


def _systematic(chances: FloatArray, lanes: IntArray, offsets: FloatArray) -> BoolArray:
    """Systematic sampling within each lane: entry i is chosen where the running sum of chances passes an integer.

    Entries of chance 1 are always chosen and stay out of the sum, so that rounding cannot drop them.
    """
    uncertain = np.where(chances < 1.0, chances, 0.0)
    running = np.cumsum(uncertain)
    first = np.searchsorted(lanes, lanes)
    running -= (running - uncertain)[first]
    ticks = np.floor(running + offsets[lanes])
    before = np.floor(running - uncertain + offsets[lanes])
    return (chances >= 1.0) | (ticks > before)
