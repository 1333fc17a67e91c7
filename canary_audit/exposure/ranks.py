"""How many secrets are at least as likely as the canary: its rank, counted or estimated.

rank(c) = #{r in R : NLL(r) <= NLL(c)} (Carlini et al. 2019, definition 2); ties count. A small rank is counted
exactly by branch and bound; one too deep for that is estimated by stochastic enumeration, with an interval from
independent replicates. A cheap pilot predicts which of the two each canary gets, so the choice never depends on the
result. Models that answer for their likeliest tokens only are the matter of `windows.py`.
"""

import math
from collections.abc import Sequence

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.exposure.estimates import RankEstimate, RankReport, RankSettings, others
from canary_audit.exposure.ranking import MARGIN_NATS, NodesLeft, Ranking
from canary_audit.exposure.scores import WholeCosts, score_paths
from canary_audit.keep import KeepAll
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.search import SearchResult, search
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.tokens.walk import SecretWalk

__all__ = ["RankEstimate", "RankReport", "RankSettings", "measure_ranks", "score_paths"]


def measure_ranks(
    walk: SecretWalk,
    model: LanguageModel,
    secrets: Sequence[bytes],
    *,
    settings: RankSettings,
    rng: np.random.Generator,
    noise_floor_nats: float = 0.0,
    nodes_left: NodesLeft | None = None,
    whole_costs: WholeCosts | None = None,
    own_whole: bool = False,
) -> RankReport:
    """Rank of each secret among all secrets of the walk's space, under a model that answers for every token.

    Args:
        noise_floor_nats: known beforehand; the larger of it and of what is measured here counts.
        nodes_left: how many more prefixes may be asked about here; None if they cost nothing. The model then must
            remember its answers. As less is left, fewer ranks are counted and estimates come from smaller samples;
            where nothing is left, the interval is what the canary's own cost gives.
        whole_costs: scores whole secrets at the price of one prefix; where little is left, deep ranks then come from a
            sample of the space.
        own_whole: whether the secrets' own costs are asked whole too: where a prefix takes several questions.

    Raises:
        SpaceError: a secret is not in the space.
        ModelError: the model gave impossible numbers.
        BudgetSpentError: not even the secrets' own costs could be paid for.
    """
    if not secrets:
        return RankReport(estimates=(), noise_floor_nats=0.0, nodes=0, calls=0)
    ranking = _FullRanking(
        walk,
        model,
        secrets,
        settings=settings,
        rng=rng,
        noise_floor_nats=noise_floor_nats,
        nodes_left=nodes_left,
        whole_costs=whole_costs,
        own_whole=own_whole,
    )
    return ranking.report()


class _FullRanking(Ranking):
    """Ranks under a model that answers for every token."""

    def _counted(self, canaries: list[int]) -> dict[int, RankEstimate]:
        """Ranks by one branch and bound up to the dearest canary.

        Cheaper canaries' trees are parts of the dearest one's, so one search serves all.
        """
        dearest = self._costs[canaries].max() + MARGIN_NATS + 2.0 * self._noise
        result = search(
            self._walk,
            self._model,
            thresholds_nats=np.array([dearest]),
            keep=KeepAll(),
            max_nodes=self._most_nodes,
        )
        self._spent(result)
        if not result.complete:
            return {}
        costs = self._costs_in_search(canaries, result)
        self._noise = max(self._noise, *(abs(costs[canary] - self._costs[canary]) for canary in canaries))
        ordered = np.sort(result.leaves.costs_nats)
        return {canary: self._counted_one(costs[canary], ordered) for canary in canaries}

    def _costs_in_search(self, canaries: list[int], result: SearchResult) -> dict[int, float]:
        """Each canary's cost as the search itself saw it, so that it is compared with its like."""
        leaves = {canary: result.leaf(self._paths[canary]) for canary in canaries}
        costs = {canary: float(result.leaves.costs_nats[leaf]) for canary, leaf in leaves.items() if leaf is not None}
        if len(costs) < len(canaries):
            raise ModelError(
                f"scores move by more than {MARGIN_NATS + 2.0 * self._noise:.2g} nats with the shape of the batch: "
                "ranks would be noise; score in float32"
            )
        return costs

    def _counted_one(self, cost: float, ordered: FloatArray) -> RankEstimate:
        """Rank among all leaves at this cost, and at this cost shifted by the noise floor either way."""
        low, rank, high = np.searchsorted(ordered, [cost - self._noise, cost, cost + self._noise], side="right")
        if self._noise > 0.0:
            low += 1  # the canary itself, which the lowered threshold left out
        return RankEstimate(
            nll_nats=cost,
            rank=float(rank),
            low=float(min(low, rank)),
            high=float(high),
            exact=True,
            replicates=(),
            method="branch-and-bound",
        )

    def _estimated(self, canaries: list[int], lanes: list[int], result: SearchResult) -> dict[int, RankEstimate]:
        low, middle, high = (
            1.0 + others(result.leaves, self._costs[lanes] + shift).reshape(len(canaries), -1)
            for shift in (-self._noise, 0.0, self._noise)
        )
        return {
            canary: self._estimated_one(canary, low[place], middle[place], high[place])
            for place, canary in enumerate(canaries)
        }

    def _estimated_one(self, canary: int, low: FloatArray, middle: FloatArray, high: FloatArray) -> RankEstimate:
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
            method="stochastic-enumeration",
        )
