"""A rank in the terms of a report: bits of exposure, its p-value, and what could not be known."""

import numpy as np

from canary_audit.exposure.estimates import RankEstimate
from canary_audit.results import Exposure, Maybe, NotAvailable
from canary_audit.spaces import SecretSpace
from canary_audit.statistics.discoverable import MOST_NATS, samples_needed
from canary_audit.statistics.intervals import clopper_pearson, log_t_interval
from canary_audit.statistics.pvalues import estimated_rank_p_value, exact_rank_p_value

NATS_PER_BIT = float(np.log(2.0))

_INTERVAL_ERROR = 0.005
"""Error spent, over all canaries together, on the intervals that estimated p-values rest on: a tenth of 5 %."""


def exposure_of(rank: RankEstimate, space_bits: float) -> Exposure:
    """Ranks in bits. A larger rank is a smaller exposure, so the interval's ends swap."""
    low, high = (max(0.0, space_bits - float(np.log2(value))) for value in (rank.high, rank.low))
    why = NotAvailable(not_available=_why_no_rank(rank))
    return Exposure(
        bits=why if rank.rank is None else max(0.0, space_bits - float(np.log2(rank.rank))),
        low=low,
        high=high,
        method=rank.method,
        exact=rank.exact,
        rank=why if rank.rank is None else rank.rank,
        rank_high=rank.high,
    )


def p_value_of(rank: RankEstimate, space: SecretSpace, n_judged: int) -> float:
    """Chance of so small a rank for a secret drawn uniformly and never inserted.

    A rank with certain limits is at most `high`, and its p-value at most that of this rank.
    """
    if rank.exact:
        return exact_rank_p_value(rank.high, space.size)
    upper, error = rank.high, 0.0
    if rank.replicates or rank.drawn:
        error = _INTERVAL_ERROR / max(1, n_judged)
    if rank.drawn:
        upper = clopper_pearson(*rank.drawn, 1.0 - 2.0 * error)[1] * space.size
    elif rank.replicates:
        _, _, upper = log_t_interval(rank.replicates, 1.0 - 2.0 * error)
    nll_bits = space.bits if rank.censored else rank.nll_nats / NATS_PER_BIT
    return estimated_rank_p_value(space_bits=space.bits, nll_bits=nll_bits, rank_high=upper, error=error)


def cost_of(rank: RankEstimate) -> Maybe:
    """The canary's cost in bits, where all of it is known."""
    if rank.censored:
        why = f"a token of it lies outside the model's likeliest; at least {rank.nll_nats / NATS_PER_BIT:.2f} bits"
        return NotAvailable(not_available=why)
    return rank.nll_nats / NATS_PER_BIT


def certificate_of(rank: RankEstimate, space_bits: float) -> float:
    """Bits of exposure that the canary's own probability guarantees; none where its cost is known from below only."""
    return 0.0 if rank.censored else max(0.0, space_bits - rank.nll_nats / NATS_PER_BIT)


def samples_for(rank: RankEstimate) -> Maybe:
    """Continuations after which the secret has come out with probability one half."""
    if rank.censored:
        return NotAvailable(not_available="its probability is not known: a token lies outside the model's likeliest")
    if rank.nll_nats > MOST_NATS:
        return NotAvailable(not_available="more than 10^300")
    return samples_needed(max(rank.nll_nats, 0.0))


def _why_no_rank(rank: RankEstimate) -> str:
    if rank.method == "uniform-sampling":
        return "the budget ended before this rank was measured; its interval follows from a sample of the space"
    if rank.method == "certificate":
        return "the budget ended before this rank was measured; its interval follows from the secret's own probability"
    if rank.censored:
        return "a token of the secret lies outside the model's likeliest, so its rank is known from below only"
    return "tokens outside the model's likeliest may hide secrets as likely as this one"
