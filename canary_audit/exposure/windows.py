"""Ranks through a window: what the likeliest tokens show, and bounds on what the others hide.

A model that answers for its likeliest tokens only shows a part of the tree. Secrets that it shows within the canary's
cost surely rank before it. Below an unseen token at most so many can, as fit into the probability it has at most. So a
rank lies between two counts; where nothing is unseen they are one, and the rank is known as under any other model.

Where a token of the canary itself is unseen, its cost is known from below only: secrets shown within that bound still
rank before it, and any others may.
"""

from collections.abc import Sequence

import numpy as np

from canary_audit.exposure.estimates import RankEstimate, RankReport, RankSettings, most_rank, others
from canary_audit.exposure.ranking import NodesLeft, Ranking
from canary_audit.keep import KeepAll
from canary_audit.models.interface import FloatArray, WindowedModel
from canary_audit.search import SearchResult, search
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.tokens.walk import SecretWalk

_NODES_AT_ONCE = 1_000_000
"""Nodes of all lanes of a search together, about: beyond, memory would be the limit."""


def measure_rank_bounds(
    walk: SecretWalk,
    model: WindowedModel,
    secrets: Sequence[bytes],
    *,
    settings: RankSettings,
    rng: np.random.Generator,
    noise_floor_nats: float = 0.0,
    nodes_left: NodesLeft | None = None,
) -> RankReport:
    """Interval of each secret's rank among all secrets of the walk's space; a point value only if nothing was unseen.

    Arguments and errors as for `ranks.measure_ranks`. Intervals of trees that were seen whole are certain; the others
    hold at the confidence of the settings.
    """
    if not secrets:
        return RankReport(estimates=(), noise_floor_nats=0.0, nodes=0, calls=0)
    ranking = _WindowRanking(
        walk,
        model,
        secrets,
        settings=settings,
        rng=rng,
        noise_floor_nats=noise_floor_nats,
        nodes_left=nodes_left,
    )
    return ranking.report()


class _WindowRanking(Ranking):
    """Ranks under a model that answers for its likeliest tokens only."""

    def _counted(self, canaries: list[int]) -> dict[int, RankEstimate]:
        """Every canary has a lane of its own, because what may be hidden depends on its threshold.

        The cheapest come first; if a tree outgrows the limit, those before it are counted all the same.
        """
        bounds: dict[int, RankEstimate] = {}
        most_nodes = self._countable_nodes
        n_lanes = max(1, _NODES_AT_ONCE // most_nodes)
        for start in range(0, len(canaries), n_lanes):
            lanes = canaries[start : start + n_lanes]
            result = search(
                self._walk,
                self._model,
                thresholds_nats=self._costs[lanes] + self._noise,
                keep=KeepAll(),
                own_paths=[self._paths[canary] for canary in lanes],
                max_nodes=self._most_nodes,
            )
            self._spent(result)
            if not result.complete:
                break
            bounds |= self._bounds(lanes, lanes, result)
        return bounds

    def _estimated(self, canaries: list[int], lanes: list[int], result: SearchResult) -> dict[int, RankEstimate]:
        return self._bounds(canaries, lanes, result)

    def _bounds(self, canaries: list[int], lanes: list[int], result: SearchResult) -> dict[int, RankEstimate]:
        low, middle, high = (
            1.0 + others(result.leaves, self._costs[lanes] + shift).reshape(len(canaries), -1)
            for shift in (-self._noise, 0.0, self._noise)
        )
        unseen = result.unseen_leaves.reshape(len(canaries), -1)
        whole = [bool(each.all()) for each in result.whole.reshape(len(canaries), -1)]
        return {
            canary: self._bound(
                canary,
                low[place],
                high[place] + unseen[place],
                middle=None if unseen[place].any() or self._censored[canary] else float(middle[place].mean()),
                whole=whole[place],
            )
            for place, canary in enumerate(canaries)
        }

    def _bound(
        self, canary: int, low: FloatArray, high: FloatArray, *, middle: float | None, whole: bool
    ) -> RankEstimate:
        """Interval from counts of what is surely, and of what is possibly, as likely as the canary.

        Args:
            low, high: shape (n_replicates,); all are equal where the tree was seen whole.
            middle: the rank, where nothing was unseen.
        """
        cost, censored = float(self._costs[canary]), bool(self._censored[canary])
        most = float(self._walk.size) if censored else most_rank(self._walk.size, cost + self._noise)
        confidence = self._settings.confidence
        lowest = float(low[0]) if whole else float(np.floor(log_t_interval(low.tolist(), confidence)[1]))
        if censored:
            highest = most
        else:
            highest = float(high[0]) if whole else float(np.ceil(log_t_interval(high.tolist(), confidence)[2]))
        return RankEstimate(
            nll_nats=cost,
            rank=None if middle is None else min(middle, most),
            low=min(max(lowest, 1.0), most),
            high=min(highest, most),
            exact=whole and middle is not None,
            replicates=() if whole or censored else tuple(map(float, high)),
            method="inside-top-k",
            censored=censored,
        )
