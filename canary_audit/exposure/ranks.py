"""How many secrets are at least as likely as the canary: its rank, counted or estimated.

rank(c) = #{r in R : NLL(r) <= NLL(c)} (Carlini et al. 2019, definition 2); ties count. A small rank is counted
exactly by branch and bound; one too deep for that is estimated by stochastic enumeration, with an interval from
independent replicates. A cheap pilot predicts which of the two each canary gets, so the choice never depends on the
result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.forecast import Forecast
from canary_audit.keep import KeepAll, KeepSample
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.search import Leaves, SearchResult, search
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.tokens.trie import TrieWalk
from canary_audit.tokens.walk import SecretWalk, TokenWalk

_PILOT_SIZE = 16
_PILOT_LANES = 4
_LEAST_LANE_SIZE = 8
"""Below, lanes through long secrets end before they have seen any."""
_SCORED_ALONE = 8
_MARGIN_NATS = 1e-3
"""Far more than fp32 scores move between batches of different shapes, far less than secrets differ."""


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
    """Sum over the tokens that overlap the secret."""
    rank: float
    low: float
    high: float
    """Interval: of the replicates where estimated; of the model's noise floor where exact."""
    exact: bool
    replicates: tuple[float, ...]
    """Independent unbiased estimates of the rank at the upper end of the noise floor; empty where it was counted."""


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """Ranks of several canaries of one space, in the order given, and what they cost."""

    estimates: tuple[RankEstimate, ...]
    noise_floor_nats: float
    nodes: int
    calls: int


def measure_ranks(
    walk: SecretWalk,
    model: LanguageModel,
    secrets: Sequence[bytes],
    *,
    settings: RankSettings,
    rng: np.random.Generator,
) -> RankReport:
    """Rank of each secret among all secrets of the walk's space.

    Raises:
        SpaceError: a secret is not in the space.
        ModelError: the model gave impossible numbers.
    """
    if not secrets:
        return RankReport(estimates=(), noise_floor_nats=0.0, nodes=0, calls=0)
    return _Ranking(walk, model, secrets, settings, rng).report()


def score_paths(walk: TokenWalk, model: LanguageModel, paths: Sequence[tuple[int, ...]]) -> FloatArray:
    """Costs in nats, shape (n_paths,), of the leaves with these tokens; shared beginnings are read once."""
    distinct = sorted(set(paths))
    result = search(
        TrieWalk(walk.prompt, distinct, walk.secret), model, thresholds_nats=np.array([np.inf]), keep=KeepAll()
    )
    costs = {result.path(leaf): cost for leaf, cost in enumerate(result.leaves.costs_nats)}
    return np.array([costs[path] for path in paths])


class _Ranking:
    """One call of `measure_ranks`: score, predict, count what can be counted, estimate the rest."""

    def __init__(
        self,
        walk: SecretWalk,
        model: LanguageModel,
        secrets: Sequence[bytes],
        settings: RankSettings,
        rng: np.random.Generator,
    ) -> None:
        self._walk, self._model, self._settings, self._rng = walk, model, settings, rng
        self._paths = walk.paths(secrets)
        self._nodes = self._calls = 0

    def report(self) -> RankReport:
        self._costs = score_paths(self._walk, self._model, self._paths)
        self._noise = self._measured_noise()
        estimates: dict[int, RankEstimate] = {}
        pilot = self._pilot()
        countable = self._predicted_countable(pilot)
        while countable and not estimates:
            estimates = self._count_exactly(countable)
            countable = countable[: len(countable) // 2]  # the prediction was off: keep the likelier half
        rest = [canary for canary in range(len(self._paths)) if canary not in estimates]
        if rest:
            estimates |= self._estimate(rest, pilot)
        return RankReport(
            estimates=tuple(estimates[canary] for canary in range(len(self._paths))),
            noise_floor_nats=self._noise,
            nodes=self._nodes,
            calls=self._calls,
        )

    def _measured_noise(self) -> float:
        """Largest change of a score when secrets are scored alone instead of together."""
        some = range(min(_SCORED_ALONE, len(self._paths)))
        alone = [score_paths(self._walk, self._model, [self._paths[canary]])[0] for canary in some]
        return float(np.abs(self._costs[: len(alone)] - alone).max(initial=0.0))

    def _pilot(self) -> SearchResult:
        """A small sample of the trees of a few canaries, from the cheapest to the dearest."""
        order = np.argsort(self._costs, kind="stable")
        self._piloted = order[np.linspace(0, len(order) - 1, min(len(order), _PILOT_LANES)).round().astype(int)]
        return self._search(self._piloted.tolist(), KeepSample(_PILOT_SIZE, self._rng))

    def _predicted_countable(self, pilot: SearchResult) -> list[int]:
        """Canaries whose tree of cheaper prefixes is predicted to be small enough, cheapest first.

        The logarithm of a tree's size grows about linearly with the canary's cost.
        """
        log_sizes = np.interp(self._costs, self._costs[self._piloted], np.log(pilot.tree_size))
        fits = np.exp(np.minimum(log_sizes, 700.0)) <= self._settings.exact_nodes
        return [int(canary) for canary in np.argsort(self._costs, kind="stable") if fits[canary]]

    def _count_exactly(self, canaries: list[int]) -> dict[int, RankEstimate]:
        """Ranks by one branch and bound up to the dearest canary; empty if the tree outgrew its budget.

        Cheaper canaries' trees are parts of the dearest one's, so one search serves all.
        """
        dearest = self._costs[canaries].max() + _MARGIN_NATS + 2.0 * self._noise
        result = search(
            self._walk,
            self._model,
            thresholds_nats=np.array([dearest]),
            keep=KeepAll(),
            max_nodes=2 * self._settings.exact_nodes,
        )
        self._spent(result)
        if not result.complete:
            return {}
        costs = self._costs_in_search(canaries, result)
        self._noise = max(self._noise, *(abs(costs[canary] - self._costs[canary]) for canary in canaries))
        ordered = np.sort(result.leaves.costs_nats)
        return {canary: self._counted(costs[canary], ordered) for canary in canaries}

    def _costs_in_search(self, canaries: list[int], result: SearchResult) -> dict[int, float]:
        """Each canary's cost as the search itself saw it, so that it is compared with its like."""
        leaves = {canary: result.leaf(self._paths[canary]) for canary in canaries}
        costs = {canary: float(result.leaves.costs_nats[leaf]) for canary, leaf in leaves.items() if leaf is not None}
        if len(costs) < len(canaries):
            raise ModelError(
                f"scores move by more than {_MARGIN_NATS + 2.0 * self._noise:.2g} nats with the shape of the batch: "
                "ranks would be noise; score in float32"
            )
        return costs

    def _counted(self, cost: float, ordered: FloatArray) -> RankEstimate:
        """Rank among all leaves at this cost, and at this cost shifted by the noise floor either way."""
        low, rank, high = np.searchsorted(ordered, [cost - self._noise, cost, cost + self._noise], side="right")
        if self._noise > 0.0:
            low += 1  # the canary itself, which the lowered threshold left out
        return RankEstimate(
            nll_nats=cost, rank=float(rank), low=float(min(low, rank)), high=float(high), exact=True, replicates=()
        )

    def _estimate(self, canaries: list[int], pilot: SearchResult) -> dict[int, RankEstimate]:
        """Ranks by stochastic enumeration: every canary has its own lanes, one per replicate."""
        n_replicates = self._settings.replicates
        lanes = np.repeat(canaries, n_replicates)
        result = self._search(
            lanes.tolist(),
            KeepSample(
                self._lane_size(canaries, pilot),
                self._rng,
                Forecast(pilot.steps, float(self._costs[canaries].max()) + self._noise),
            ),
        )
        low, middle, high = (
            1.0 + _others(result.leaves, self._costs[lanes] + shift).reshape(len(canaries), n_replicates)
            for shift in (-self._noise, 0.0, self._noise)
        )
        return {
            canary: self._estimated(canary, low[place], middle[place], high[place])
            for place, canary in enumerate(canaries)
        }

    def _lane_size(self, canaries: list[int], pilot: SearchResult) -> int:
        """Nodes a lane may keep at each level below the root, so that the budget holds with the pilot's share in it.

        Secrets of very many tokens take more than the budget.
        """
        left = self._settings.nodes_per_canary - pilot.nodes // len(self._paths)
        n_levels = max(len(self._paths[canary]) for canary in canaries) - 1
        return max(_LEAST_LANE_SIZE, left // (self._settings.replicates * max(n_levels, 1)))

    def _estimated(self, canary: int, low: FloatArray, middle: FloatArray, high: FloatArray) -> RankEstimate:
        """Mean and interval of the replicates, cut at what is certain: 1 <= rank <= min(|R|, 1/P).

        The three arguments count up to the canary's cost minus the noise floor, at it, and plus the noise floor. The
        ends are rounded outwards to whole ranks: where a small rank is nearly certain, replicates differ by less
        than one, and the interval would miss it by a fraction.
        """
        cost = float(self._costs[canary])
        confidence = self._settings.confidence
        most = min(float(self._walk.size), math.exp(min(cost + self._noise, 700.0)))
        lowest = log_t_interval(low.tolist(), confidence)[1]
        highest = log_t_interval(high.tolist(), confidence)[2]
        return RankEstimate(
            nll_nats=cost,
            rank=min(float(middle.mean()), most),
            low=min(max(float(np.floor(lowest)), 1.0), most),
            high=min(float(np.ceil(highest)), most),
            exact=False,
            replicates=tuple(map(float, high)),
        )

    def _search(self, lanes: Sequence[int], keep: KeepSample) -> SearchResult:
        """One lane per entry of `lanes`, each up to its canary's own cost, and the noise floor."""
        result = search(
            self._walk,
            self._model,
            thresholds_nats=self._costs[list(lanes)] + self._noise,
            keep=keep,
            own_paths=[self._paths[canary] for canary in lanes],
        )
        self._spent(result)
        return result

    def _spent(self, result: SearchResult) -> None:
        self._nodes += result.nodes
        self._calls += result.calls


def _others(leaves: Leaves, thresholds_nats: FloatArray) -> FloatArray:
    """Weighted number of leaves of each lane that cost at most its threshold and are not its own secret."""
    counted = ~leaves.own & (leaves.costs_nats <= thresholds_nats[leaves.lanes])
    weights = np.where(counted, leaves.weights, 0.0)
    return np.bincount(leaves.lanes, weights=weights, minlength=len(thresholds_nats)).astype(np.float64)
