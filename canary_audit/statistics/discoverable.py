"""How often a model must be asked before a secret comes out: (n, p)-discoverable extraction.

A continuation drawn at temperature 1 is the secret with probability q = exp(-nll). At least one of n independent ones
is, with probability 1 - (1 - q)^n; a secret is (n, p)-discoverable if that reaches p (Hayes et al. 2025, "Measuring
memorization in language models via probabilistic extraction").
"""

import math

from canary_audit.errors import ResultError

MOST_NATS = 700.0
"""Above this cost the number of samples is near the largest float, or beyond it."""


def samples_needed(nll_nats: float, p: float = 0.5) -> float:
    """Samples after which a secret of this cost has come out with probability `p`: log(1 - p) / log(1 - q), at least 1.

    A real number; round it up for a count. Exact to rounding for costs up to `MOST_NATS`; infinite beyond it.

    Raises:
        ResultError: the cost is negative or not a number, or `p` is no probability between 0 and 1.
    """
    if not (nll_nats >= 0 and 0 < p < 1):
        raise ResultError(f"a cost of {nll_nats} nats to be found with probability {p} is impossible")
    if nll_nats == 0:
        return 1.0
    if nll_nats > MOST_NATS:
        return math.inf
    return max(1.0, math.log1p(-p) / _log_chance_of_another(nll_nats))


def chance_within(nll_nats: float, n_samples: float) -> float:
    """Probability that a secret of this cost is among `n_samples` independent samples.

    Raises:
        ResultError: the cost or the number of samples is negative or not a number.
    """
    if not (nll_nats >= 0 and n_samples >= 0):
        raise ResultError(f"{n_samples} samples of a secret of {nll_nats} nats are impossible")
    if nll_nats == 0:
        return 1.0 if n_samples else 0.0
    return -math.expm1(n_samples * _log_chance_of_another(nll_nats))


def _log_chance_of_another(nll_nats: float) -> float:
    """log(1 - exp(-nll)), by whichever way loses no digits."""
    if nll_nats < math.log(2.0):
        return math.log(-math.expm1(-nll_nats))
    return math.log1p(-math.exp(-nll_nats))
