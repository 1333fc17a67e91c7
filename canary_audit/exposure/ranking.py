"""What ranking has in common, whether a model answers for every token or for the likeliest only, free or at a price.

Score the canaries, sample a few trees to see how large they are, count those that are small, estimate the others. Where
questions have a price, every step takes only what the rest can spare, and a canary that nothing is left for has the
interval that its own cost gives. The choice depends on costs and sizes alone, never on a rank that was found.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from canary_audit.errors import BudgetSpentError
from canary_audit.exposure.drawn import are_enough, drawn_costs, from_drawn
from canary_audit.exposure.estimates import RankEstimate, RankReport, RankSettings, from_certificate
from canary_audit.exposure.scores import PathScores, WholeCosts, path_scores, score_paths, whole_scores
from canary_audit.forecast import Forecast
from canary_audit.keep import KeepSample
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.search import SearchResult, search
from canary_audit.tokens.walk import SecretWalk

NodesLeft = Callable[[], int]
"""How many more prefixes may be asked about."""

MARGIN_NATS = 1e-3
"""Far more than fp32 scores move between batches of different shapes, far less than secrets differ."""
_PILOT_SIZE = 16
_PILOT_LANES = 4
_LEAST_LANE_SIZE = 8
"""Below, lanes through long secrets end before they have seen any."""
_SCORED_ALONE = 8
_LEAST_DRAWN, _MOST_DRAWN = 50, 400
_PILOT_PART, _DRAWN_PART = 3, 4
"""The pilot, and a sample that other estimates follow, take at most one part in this many of what is left."""
_LEAST_PAID_PART = 0.5
"""Lanes share prefixes, and some are paid for already: of the nodes that lanes may keep, the pilot shows which part
costs something. It is not trusted to be smaller than this."""
_COUNTED_PART = 0.6
"""A count that was predicted right takes at most this part of what is left: counts are worth more than estimates."""


class Ranking(ABC):
    """Ranks of some secrets of one space.

    Args:
        noise_floor_nats: known beforehand; the larger of it and of what is measured here counts.
        nodes_left: how many more prefixes may be asked about here; None if they cost nothing.
        whole_costs: scores whole secrets at the price of one prefix; None if the model cannot.
        own_whole: whether the secrets' own costs come from there; else they come from the tree that will be searched,
            which then pays for none of their prefixes again.

    Raises:
        SpaceError: a secret is not in the space.
        ModelError: the model gave impossible numbers.
        BudgetSpentError: not even the secrets' own costs could be paid for.
    """

    def __init__(
        self,
        walk: SecretWalk,
        model: LanguageModel,
        secrets: Sequence[bytes],
        *,
        settings: RankSettings,
        rng: np.random.Generator,
        noise_floor_nats: float,
        nodes_left: NodesLeft | None,
        whole_costs: WholeCosts | None = None,
        own_whole: bool = False,
    ) -> None:
        self._walk, self._model, self._settings, self._rng = walk, model, settings, rng
        self._nodes_left, self._whole_costs, self._own_whole = nodes_left, whole_costs, own_whole
        self._paths = walk.paths(secrets)
        self._sample: FloatArray | None = None
        self._nodes = self._calls = 0
        self._paid_part = 1.0
        scores = self._own_scores()
        self._costs, self._censored = scores.costs_nats, scores.censored
        self._noise = max(noise_floor_nats, self._measured_noise())

    def report(self) -> RankReport:
        """Rank of each secret, in the order given."""
        known: dict[int, RankEstimate] = {}
        try:
            for found in self._found():
                known |= found
        except BudgetSpentError:
            pass  # what was found holds, and the others have their certificates
        return RankReport(
            estimates=tuple(known.get(canary) or self._fallback(canary) for canary in range(len(self._paths))),
            noise_floor_nats=self._noise,
            nodes=self._nodes,
            calls=self._calls,
        )

    @abstractmethod
    def _counted(self, canaries: list[int]) -> dict[int, RankEstimate]:
        """Ranks from whole trees of at most `_countable_nodes`; empty if they outgrew `_most_nodes`."""

    @abstractmethod
    def _estimated(self, canaries: list[int], lanes: list[int], result: SearchResult) -> dict[int, RankEstimate]:
        """Ranks from sampled trees: lane `i` of `result` belongs to canary `lanes[i]`, replicates side by side."""

    def _found(self) -> Iterator[dict[int, RankEstimate]]:
        pilot = self._pilot()
        countable = self._predicted_countable(pilot)
        counted: dict[int, RankEstimate] = {}
        while countable and not counted:
            counted = self._counted_if_paid(countable)
            countable = countable[: len(countable) // 2]  # the prediction was off: keep the likelier half
        yield counted
        rest = [canary for canary in range(len(self._paths)) if canary not in counted]
        drawn = self._drawn(rest, alone=pilot is None)
        yield drawn
        if pilot is not None:
            yield from self._estimates([canary for canary in rest if canary not in drawn], pilot)

    def _own_scores(self) -> PathScores:
        if self._nodes_left is None:
            return path_scores(self._walk, self._model, self._paths)
        if self._whole_costs is not None and self._own_whole:
            scores = whole_scores(self._whole_costs, self._paths)
            path_scores(self._walk, self._model, self._paths[:1], siblings=True)  # shows what a prefix costs
            return scores
        return path_scores(self._walk, self._model, self._paths, siblings=True)

    def _drawn(self, canaries: list[int], *, alone: bool) -> dict[int, RankEstimate]:
        """Deep ranks from one sample of the space, where the trees of all canaries would cost more than is left.

        Args:
            alone: nothing comes after it, so it may take all that is left.
        """
        left = self._left()
        n_drawn = min(_MOST_DRAWN, left if alone else left // _DRAWN_PART)
        affordable = left >= len(canaries) * self._settings.nodes_per_canary
        if self._whole_costs is None or affordable or n_drawn < _LEAST_DRAWN:
            return {}
        drawn = self._sample = drawn_costs(self._walk, self._whole_costs, n_drawn, self._rng)
        deep = [canary for canary in canaries if are_enough(float(self._costs[canary]), self._noise, drawn)]
        return {canary: self._from_sample(canary, drawn) for canary in deep}

    def _from_sample(self, canary: int, drawn: FloatArray) -> RankEstimate:
        return from_drawn(self._walk.size, float(self._costs[canary]), self._noise, drawn)

    def _fallback(self, canary: int) -> RankEstimate:
        """Where nothing was left for a canary: what the shared sample says, or else its own cost."""
        if self._sample is not None:
            return self._from_sample(canary, self._sample)
        return self._certificate(canary)

    def _certificate(self, canary: int) -> RankEstimate:
        cost = float(self._costs[canary])
        return from_certificate(self._walk.size, cost, self._noise, censored=bool(self._censored[canary]))

    def _measured_noise(self) -> float:
        """Largest change of a score when secrets are scored alone instead of together.

        What had a price is remembered, and would only be repeated.
        """
        if self._nodes_left is not None:
            return 0.0
        some = range(min(_SCORED_ALONE, len(self._paths)))
        alone = [score_paths(self._walk, self._model, [self._paths[canary]])[0] for canary in some]
        return float(np.abs(self._costs[: len(alone)] - alone).max(initial=0.0))

    def _left(self) -> int:
        return sys.maxsize if self._nodes_left is None else self._nodes_left()

    @property
    def _countable_nodes(self) -> int:
        """Largest tree to count; the prefixes of a canary's own path are paid for."""
        return min(self._settings.exact_nodes, int(_COUNTED_PART * self._to_count) + max(map(len, self._paths)))

    @property
    def _most_nodes(self) -> int:
        """A tree that was predicted too small may take twice as many nodes, if there are as many left."""
        own = {path[:end] for path in self._paths for end in range(len(path))}
        return min(2 * self._countable_nodes, self._to_count + len(own))

    @property
    def _to_count(self) -> int:
        """Prefixes that counting may take: what is left but for the sample of the space that may follow."""
        left = self._left()
        return left if self._whole_costs is None else left - min(_MOST_DRAWN, left // _DRAWN_PART)

    def _pilot(self) -> SearchResult | None:
        """A small sample of the trees of a few canaries, from the cheapest to the dearest; None if too dear."""
        order = np.argsort(self._costs, kind="stable")
        self._piloted = order[np.linspace(0, len(order) - 1, min(len(order), _PILOT_LANES)).round().astype(int)]
        most_nodes = len(self._piloted) * self._n_levels(range(len(self._paths)))  # for each node that a lane may keep
        left = self._left()
        size = min(_PILOT_SIZE, left // (_PILOT_PART * most_nodes))
        if size < _LEAST_LANE_SIZE:
            return None
        result = self._search(self._piloted.tolist(), KeepSample(size, self._rng))
        self._paid_part = max(_LEAST_PAID_PART, (left - self._left()) / (size * most_nodes))
        return result

    def _predicted_countable(self, pilot: SearchResult | None) -> list[int]:
        """Canaries whose tree of cheaper prefixes is predicted to be small enough, cheapest first.

        The logarithm of a tree's size grows about linearly with the canary's cost. Without a pilot there is only what
        is certain: at most exp(cost) prefixes of one length can cost no more.
        """
        if pilot is None:
            log_most = np.minimum(self._costs + MARGIN_NATS + 2.0 * self._noise, 700.0)
            sizes = np.floor(np.exp(log_most)) * max(map(len, self._paths))
        else:
            log_sizes = np.interp(self._costs, self._costs[self._piloted], np.log(pilot.tree_size))
            sizes = np.exp(np.minimum(log_sizes, 700.0))
        fits = sizes <= self._countable_nodes
        return [int(canary) for canary in np.argsort(self._costs, kind="stable") if fits[canary]]

    def _counted_if_paid(self, canaries: list[int]) -> dict[int, RankEstimate]:
        try:
            return self._counted(canaries)
        except BudgetSpentError:
            return {}  # cheaper canaries have smaller trees

    def _estimates(self, canaries: list[int], pilot: SearchResult) -> Iterator[dict[int, RankEstimate]]:
        """Ranks by stochastic enumeration: every canary has its own lanes, one per replicate.

        All canaries share one search, unless it costs more than is left: then the cheapest go first, and what their
        shared prefixes save is spent on others.
        """
        n_replicates = self._settings.replicates
        while canaries:
            least = self._paid_part * _LEAST_LANE_SIZE * n_replicates * self._n_levels(canaries)
            n_now = min(len(canaries), int(self._left() / least))
            if not n_now:
                return
            if n_now < len(canaries):
                canaries = sorted(canaries, key=lambda canary: float(self._costs[canary]))
            now, canaries = canaries[:n_now], canaries[n_now:]
            lanes = np.repeat(now, n_replicates).tolist()
            forecast = Forecast(pilot.steps, float(self._costs[now].max()) + self._noise)
            keep = KeepSample(self._lane_size(now, pilot), self._rng, forecast)
            yield self._estimated(now, lanes, self._search(lanes, keep))

    def _lane_size(self, canaries: list[int], pilot: SearchResult) -> int:
        """Nodes a lane may keep at each level below the root, so that the budget holds with the pilot's share in it.

        Secrets of very many tokens take more than `nodes_per_canary`.
        """
        wanted = self._settings.nodes_per_canary - pilot.nodes // len(self._paths)
        most = min(wanted, self._left() // len(canaries))
        return max(_LEAST_LANE_SIZE, most // (self._settings.replicates * self._n_levels(canaries)))

    def _n_levels(self, canaries: Sequence[int]) -> int:
        """Levels below the root at which a lane of one of these canaries can keep nodes."""
        return max(1, max(len(self._paths[canary]) for canary in canaries) - 1)

    def _search(self, lanes: list[int], keep: KeepSample) -> SearchResult:
        """One lane per entry of `lanes`, each up to its canary's own cost, and the noise floor."""
        result = search(
            self._walk,
            self._model,
            thresholds_nats=self._costs[lanes] + self._noise,
            keep=keep,
            own_paths=[self._paths[canary] for canary in lanes],
        )
        self._spent(result)
        return result

    def _spent(self, result: SearchResult) -> None:
        self._nodes += result.nodes
        self._calls += result.calls
