"""Deep ranks from a uniform sample of the space (Carlini et al. 2019, section 4.3), where questions have a price.

A secret that a twentieth of the space is as likely as costs much to rank by its own tree and next to nothing from a
sample, which all canaries share: a server scores a whole secret in one request. A sample says little of small ranks,
so those are left to the search, as far as the budget goes.
"""

import random

import numpy as np

from canary_audit.exposure.estimates import RankEstimate, most_rank
from canary_audit.exposure.scores import WholeCosts
from canary_audit.models.interface import FloatArray
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.tokens.walk import SecretWalk

_ENOUGH = 20
"""Drawn secrets at least as likely as the canary that make an interval of about one bit."""
_CONFIDENCE = 0.998
"""Intervals from one sample err together. At this confidence each, all 200 of an audit hold at once in 96 % of 4,000
simulated audits or more, for samples of 50 to 400."""
_A_FEW = 5
"""Fewer make an interval, and no point value."""


def drawn_costs(walk: SecretWalk, whole_costs: WholeCosts, n: int, rng: np.random.Generator) -> FloatArray:
    """Costs in nats, shape (n,), of `n` distinct secrets of the space, or of all if there are fewer.

    Raises:
        BudgetSpentError: they cannot be paid for.
    """
    exact_rng = random.Random(int(rng.integers(2**62)))  # noqa: S311 - these secrets are nobody's
    secrets = walk.space.draw(min(n, walk.space.size), exact_rng)
    return whole_costs(walk.paths(secrets))


def are_enough(cost_nats: float, noise_nats: float, drawn: FloatArray) -> bool:
    """Whether as many of the drawn secrets surely cost no more as make a close estimate."""
    return int((drawn <= cost_nats - noise_nats).sum()) >= _ENOUGH


def from_drawn(size: int, cost_nats: float, noise_nats: float, drawn: FloatArray) -> RankEstimate:
    """Rank among `size` secrets, by the share of the drawn ones that cost no more.

    The interval is Clopper and Pearson's, cut at what is certain, 1 <= rank <= 1/P.
    """
    shifts = (-noise_nats, 0.0, noise_nats)
    low, middle, high = (int((drawn <= cost_nats + shift).sum()) for shift in shifts)
    n_drawn = len(drawn)
    most = most_rank(size, cost_nats + noise_nats)
    return RankEstimate(
        nll_nats=cost_nats,
        rank=None if low < _A_FEW else min(max(1.0, middle / n_drawn * size), most),
        low=min(max(1.0, float(np.floor(clopper_pearson(low, n_drawn, _CONFIDENCE)[0] * size))), most),
        high=min(float(np.ceil(clopper_pearson(high, n_drawn, _CONFIDENCE)[1] * size)), most),
        exact=False,
        replicates=(),
        method="uniform-sampling",
        drawn=(high, n_drawn),
    )
