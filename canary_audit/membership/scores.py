"""Five numbers that tell how likely a text was trained on, each higher for what is more likely in.

They ask what the network makes of a text beyond what the text itself explains. The reference-calibrated ones hold it
against a network that cannot have seen the text, such as the one that training started from.
"""

import math
import zlib

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.models.token_scores import TokenScores

SCORES = ("loss", "reference", "zlib", "min-k++", "ez-mia")
"""As `[audit] membership_score` names them."""

_LOWEST_SHARE = 0.2
_LEAST_DEVIATION = 1e-3
"""Nats; far above the rounding of log-probabilities in fp32. A surer network has no scale to measure a surprise on."""
_LEAST_CHANGE = 1e-2
"""Nats, added to both sums of EZ-MIA."""


def log_likelihood_bits(target: TokenScores) -> float:
    """`loss`: log2-likelihood of the whole text (Yeom et al. 2018).

    A sum over tokens, not a mean: it does not depend on how many tokens a tokenizer makes of the same secret, and
    secrets of one format hold the same information. Documents of any length are told apart by their mean: see
    `membership.measure_membership`.
    """
    return -target.nll_nats / math.log(2)


def calibrated_bits(target: TokenScores, reference: TokenScores) -> float:
    """`reference`: NLL under the reference minus NLL, in bits (Carlini et al. 2021).

    Sums over tokens, so the two may have different tokenizers.
    """
    return (reference.nll_nats - target.nll_nats) / math.log(2)


def zlib_ratio(text: str, target: TokenScores) -> float:
    """`zlib`: minus NLL, in bits, for each byte that zlib makes of the text (Carlini et al. 2021)."""
    return log_likelihood_bits(target) / len(zlib.compress(text.encode()))


def min_k_plus_plus(target: TokenScores) -> float:
    """`min-k++`: mean of the lowest fifth of (log p - mu) / sigma, at least one (Zhang et al. 2024, Min-K%++).

    mu and sigma are mean and deviation of log p under the network's own next-token distribution. Where it is all but
    certain, or knows nothing, sigma goes to zero; it counts as 0.001 nats at least.
    """
    surprises = (target.log_probs - target.means) / np.maximum(target.deviations, _LEAST_DEVIATION)
    n_lowest = math.ceil(_LOWEST_SHARE * len(surprises))
    return float(np.sort(surprises)[:n_lowest].mean())


def error_zone_ratio(target: TokenScores, reference: TokenScores) -> float:
    """`ez-mia`: gains over losses against the reference, where the network errs (EZ-MIA, 2025).

    Over the tokens of which another was likelier to the audited network, P is the sum of positive and N of absolute
    negative changes of log p from the reference, in nats. The score is P / N, with 0.01 nats added to both: it stays
    finite without losses, and changes too small to mean anything give 1. A text of which the network errs nowhere, as
    one learned by heart, is judged by all its tokens.

    Raises:
        ModelError: the reference reads other tokens.
    """
    if not np.array_equal(target.tokens, reference.tokens):
        raise ModelError(
            "ez-mia compares token by token, and the reference model reads a text in other tokens; choose a reference "
            "with the same tokenizer, or another membership_score"
        )
    errs = ~target.is_top
    zone = errs if errs.any() else np.ones_like(errs)
    changes = (target.log_probs - reference.log_probs)[zone]
    gains, losses = changes[changes > 0].sum(), -changes[changes < 0].sum()
    return float((gains + _LEAST_CHANGE) / (losses + _LEAST_CHANGE))
