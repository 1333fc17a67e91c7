"""The paper's own estimators of exposure, from the costs of random references (Carlini et al. 2019, sections 4.3, 4.4).

Kept for comparison, labelled, and never behind a verdict: uniform sampling cannot see past log2 of the sample, and the
skew-normal fit carries a bias that no sample size cures, often while its goodness of fit looks fine.
"""

import math
import random

import numpy as np
from scipy import stats

from canary_audit.exposure.ranks import score_paths
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.results import Maybe, NotAvailable, PaperEstimate
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.tokens.walk import SecretWalk

_CONFIDENCE = 0.95
_N_BOOTSTRAP = 99


def paper_estimates(
    walk: SecretWalk, model: LanguageModel, costs_nats: FloatArray, *, n_references: int, rng: np.random.Generator
) -> list[tuple[PaperEstimate, ...]]:
    """Both estimates for each cost in `costs_nats`, shape (n_canaries,), from one sample of references."""
    references = reference_costs(walk, model, n_references, rng)
    sampled = [_by_sampling(cost, references, walk.space.bits) for cost in costs_nats]
    fitted = _by_skew_normal(costs_nats, references, walk.space.bits, rng)
    return [(first, *second) for first, second in zip(sampled, fitted, strict=True)]


def reference_costs(walk: SecretWalk, model: LanguageModel, n_references: int, rng: np.random.Generator) -> FloatArray:
    """Costs in nats, shape (n_references,), of distinct secrets drawn uniformly (all of them, where there are
    fewer).
    """
    exact_rng = random.Random(int(rng.integers(2**62)))  # noqa: S311 - references are no secrets
    secrets = walk.space.draw(min(n_references, walk.space.size), exact_rng)
    return score_paths(walk, model, walk.paths(secrets))


def _by_sampling(cost: float, references: FloatArray, space_bits: float) -> PaperEstimate:
    """-log2 of the share of references at most this cost, with a Clopper-Pearson interval."""
    n_references = len(references)
    n_cheaper = int((references <= cost).sum())
    low, high = clopper_pearson(n_cheaper, n_references, _CONFIDENCE)
    ceiling = min(space_bits, math.log2(n_references + 1))
    return PaperEstimate(
        method="uniform-sampling",
        bits=min(ceiling, -math.log2((1 + n_cheaper) / (n_references + 1))),
        low=max(0.0, -math.log2(high)),
        high=space_bits if low <= 0.0 else min(space_bits, -math.log2(low)),
        n_references=n_references,
        goodness_of_fit_p=NotAvailable(not_available="nothing is fitted"),
        capped=False,
    )


def _exposure_under(parameters: tuple[float, ...], costs: FloatArray) -> FloatArray:
    """-log2 of the fitted probability of a cost at most this; in log space, or the tail would underflow."""
    return np.asarray(-stats.skewnorm.logcdf(costs, *parameters) / math.log(2.0))


def _distance(parameters: tuple[float, ...], sample: FloatArray) -> float:
    """Kolmogorov-Smirnov distance between a fit and a sample."""
    return float(stats.kstest(sample, stats.skewnorm(*parameters).cdf).statistic)


def _by_skew_normal(
    costs: FloatArray, references: FloatArray, space_bits: float, rng: np.random.Generator
) -> list[tuple[PaperEstimate, ...]]:
    """Exposure under the fitted distribution, with a parametric-bootstrap interval and goodness of fit."""
    if np.ptp(references) <= 0.0:
        return [()] * len(costs)
    fitted = stats.skewnorm.fit(references)
    distance = _distance(fitted, references)
    exceeding, bits = 0, []
    for _ in range(_N_BOOTSTRAP):
        sample = stats.skewnorm.rvs(*fitted, size=len(references), random_state=rng)
        again = stats.skewnorm.fit(sample)
        exceeding += _distance(again, sample) >= distance
        bits.append(_exposure_under(again, costs))
    low, high = np.quantile(np.array(bits), [0.5 - _CONFIDENCE / 2, 0.5 + _CONFIDENCE / 2], axis=0)
    goodness: Maybe = (1 + exceeding) / (_N_BOOTSTRAP + 1)
    return [
        (
            PaperEstimate(
                method="skew-normal",
                bits=min(space_bits, max(0.0, float(value))),
                low=min(space_bits, max(0.0, float(bottom))),
                high=min(space_bits, max(0.0, float(top))),
                n_references=len(references),
                goodness_of_fit_p=goodness,
                capped=bool(value > space_bits),
            ),
        )
        for value, bottom, top in zip(_exposure_under(fitted, costs), low, high, strict=True)
    ]
