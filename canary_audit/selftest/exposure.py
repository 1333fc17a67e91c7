"""The self-test of exposure and extraction, on worlds whose truth is known.

Every world is a `TableModel`: the truth comes straight from its table, the measurement from the search, the ranks and
the statistics of an audit. Limits leave room for more than five standard errors of chance.
"""

import math
import random
from collections.abc import Iterable
from functools import cache

import numpy as np
from scipy import special

from canary_audit.exposure.ranks import RankEstimate, RankSettings, measure_ranks
from canary_audit.extraction import extract
from canary_audit.models.interface import FloatArray
from canary_audit.models.table import TableModel, digit_costs, digit_tree, memorizing
from canary_audit.selftest.checks import ALPHA, FALSE_RED, Check, few_alarms
from canary_audit.spaces import parse_space
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.pvalues import exact_rank_p_value, holm, sampled_p_value, uniform_ks_p_value
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

_N_ERRORS = 5.5
"""`FALSE_RED` in standard errors."""
_N_DIGITS = 5
_N_SECRETS = 10**_N_DIGITS
_COUNT_ALL = RankSettings(exact_nodes=20_000)
"""Counts every rank of a world, whose tree has 11,111 inner nodes."""
_ESTIMATE_ALL = RankSettings(exact_nodes=0)


def exact_ranks() -> Iterable[Check]:
    """Counted ranks against full enumeration, in a world without ties and in one full of them."""
    n_equal, n_canaries = 0, 100
    for model in (_tree(1), _tied()):
        costs = digit_costs(model, _N_DIGITS)
        numbers = np.random.default_rng(2).choice(_N_SECRETS, n_canaries, replace=False).tolist()
        estimates = _measured(model, numbers, _COUNT_ALL, seed=3)
        n_equal += sum(
            estimate.exact and estimate.rank == _true_rank(costs, number)
            for estimate, number in zip(estimates, numbers, strict=True)
        )
    yield Check(
        name="exact ranks equal full enumeration, ties included",
        measured=f"{n_equal} of {2 * n_canaries}",
        required="all",
        holds=n_equal == 2 * n_canaries,
    )


def estimated_ranks() -> Iterable[Check]:
    """Bias and interval coverage of estimates, repeated for a few ranks; in the world with ties, for the likeliest."""
    tree, tied, repeats = _tree(4), _tied(), 400
    order = np.argsort(digit_costs(tree, _N_DIGITS))
    likeliest = int(np.argmin(digit_costs(tied, _N_DIGITS)))
    worlds = [(tree, int(order[rank - 1])) for rank in (3, 300, 30_000)] + [(tied, likeliest)]
    excess, worst_bias, coverages = -math.inf, 0.0, []
    for model, number in worlds:
        truth = _true_rank(digit_costs(model, _N_DIGITS), number)
        estimates = _measured(model, [number] * repeats, _ESTIMATE_ALL, seed=5)
        ratios = np.array([estimate.rank for estimate in estimates]) / truth
        bias = abs(float(ratios.mean()) - 1.0)
        excess = max(excess, bias - _N_ERRORS * float(ratios.std()) / math.sqrt(repeats))
        worst_bias = max(worst_bias, bias)
        coverages.append(sum(estimate.low <= truth <= estimate.high for estimate in estimates) / repeats)
    coverage = sum(coverages) / len(worlds)
    least = 0.92 - _N_ERRORS * math.sqrt(0.92 * 0.08 / (repeats * len(worlds)))
    yield Check(
        name="estimated ranks are unbiased",
        measured=f"{worst_bias:.2%} off at worst",
        required=f"2 % + {_N_ERRORS} standard errors",
        holds=excess <= 0.02,
        numbers={"exposure.bias_max": worst_bias},
    )
    yield Check(
        name="their 95 % intervals cover the truth",
        measured=f"{coverage:.1%}",
        required=f">= {least:.1%}",
        holds=coverage >= least,
        numbers={"exposure.coverage_min": min(coverages)},
    )


def null_p_values() -> Iterable[Check]:
    """P-values of random secrets, counted and sampled: uniform, or at least never too small."""
    model = _tree(6)
    numbers = np.random.default_rng(7).choice(_N_SECRETS, 1_000, replace=False).tolist()
    ranks = [estimate.high for estimate in _measured(model, numbers, _COUNT_ALL, seed=8)]
    uniform = uniform_ks_p_value([exact_rank_p_value(rank, _N_SECRETS) for rank in ranks])
    yield Check(
        name="p-values of secrets never seen are uniform (Kolmogorov-Smirnov)",
        measured=f"p = {uniform:.2g}",
        required=f">= {FALSE_RED:g}",
        holds=uniform >= FALSE_RED,
        numbers={"null.ks_p": uniform},
    )
    n_runs, n_references = 4_000, 20
    costs = np.random.default_rng(9).choice(digit_costs(model, _N_DIGITS), (n_runs, 1 + n_references))
    n_cheaper = (costs[:, 1:] <= costs[:, :1]).sum(axis=1).tolist()
    alarms = sum(sampled_p_value(cheaper, n_references) <= ALPHA for cheaper in n_cheaper)
    yield few_alarms("p-values from a sample of references are valid", alarms, n_runs)


def holm_errors() -> Iterable[Check]:
    """Families of true nulls of which Holm's procedure rejects any."""
    n_families, n_members = 4_000, 10
    ranks = np.random.default_rng(10).integers(1, _N_SECRETS + 1, (n_families, n_members)).tolist()
    alarms = sum(holm([exact_rank_p_value(rank, _N_SECRETS) for rank in row]).min() <= ALPHA for row in ranks)
    yield few_alarms("Holm's family-wise error", alarms, n_families)


def binomial_coverage() -> Iterable[Check]:
    """Least coverage of Clopper-Pearson intervals over a grid of proportions, summed exactly."""
    n_trials, confidence = 40, 0.95
    hits = np.arange(n_trials + 1)
    low, high = np.array([clopper_pearson(int(n_hits), n_trials, confidence) for n_hits in hits]).T
    least = 1.0
    for share in np.linspace(0.01, 0.99, 99):
        chances = special.binom(n_trials, hits) * share**hits * (1.0 - share) ** (n_trials - hits)
        least = min(least, float(chances[(low <= share) & (share <= high)].sum()))
    yield Check(
        name="Clopper-Pearson intervals cover, at the worst proportion",
        measured=f"{least:.1%}",
        required=f">= {confidence:.0%}",
        holds=confidence <= least <= 1.0 + 1e-9,
    )


def certified_extraction() -> Iterable[Check]:
    """The likeliest secrets, from beams that hold a whole level and from narrow ones, against full enumeration."""
    n_worlds, n_secrets = 10, 5
    n_right = n_wrong = 0
    for seed in range(n_worlds):
        model = _tree(100 + seed)
        truth = [_secret(number) for number in np.argsort(digit_costs(model, _N_DIGITS))[:n_secrets].tolist()]
        wide = extract(_walk(), model, n_secrets, max_width=_N_SECRETS).secrets
        n_right += sum(item.certified and item.secret == secret for item, secret in zip(wide, truth, strict=True))
        narrow = extract(_walk(), model, 1, max_width=2).secrets[0]
        n_wrong += narrow.certified and narrow.secret != truth[0]
    yield Check(
        name="certified extractions are the likeliest secrets",
        measured=f"{n_right} of {n_worlds * n_secrets}, {n_wrong} certified wrongly",
        required="all, none",
        holds=n_right == n_worlds * n_secrets and not n_wrong,
    )


def memorized_is_found() -> Iterable[Check]:
    """Must fail: worlds that memorized one of ten canaries. It is significant, alone comes out, and is certified."""
    n_worlds, n_found = 10, 0
    for seed in range(n_worlds):
        numbers = random.Random(seed).sample(range(_N_SECRETS), 10)  # noqa: S311 - no secrets
        model = memorizing(_tree(200 + seed, spread=0.3), _secret(numbers[0]), share=0.9)
        adjusted = _adjusted_p_values(_measured(model, numbers, _COUNT_ALL, seed=seed))
        (extracted,) = extract(_walk(), model, 1, max_width=512).secrets
        n_found += adjusted[0] <= 1e-3 and extracted.certified and extracted.secret == _secret(numbers[0])
    yield Check(
        name="must fail: a memorized secret is significant and comes out",
        measured=f"{n_found} of {n_worlds}",
        required="all",
        holds=n_found == n_worlds,
    )


def null_is_not_found() -> Iterable[Check]:
    """Must pass: audits of canaries that the world never saw, each with Holm's correction."""
    n_audits, n_canaries = 300, 5
    numbers = np.random.default_rng(11).choice(_N_SECRETS, n_audits * n_canaries, replace=False).tolist()
    estimates = _measured(_tree(12), numbers, _COUNT_ALL, seed=13)
    audits = [estimates[start : start + n_canaries] for start in range(0, len(estimates), n_canaries)]
    alarms = sum(_adjusted_p_values(audit).min() <= ALPHA for audit in audits)
    yield few_alarms("must pass: audits of a world that memorized nothing", alarms, n_audits)


@cache
def _walk() -> CanonicalWalk:
    return CanonicalWalk(parse_space(f"{{digit:{_N_DIGITS}}}"), ByteVocabulary(), prefix="pin ")


def _tree(seed: int, *, spread: float = 1.0) -> TableModel:
    return digit_tree(_N_DIGITS, np.random.default_rng(seed), spread=spread)


def _tied() -> TableModel:
    """A world of independent digits of which two each are equally likely: 32 secrets or more at every cost."""
    log_probs = np.full((1, 256), -np.inf)
    log_probs[0, ord("0") : ord("9") + 1] = np.log(np.repeat([0.3, 0.1, 0.06, 0.03, 0.01], 2))
    return TableModel(log_probs, np.zeros((1, 256), dtype=np.int64))


def _secret(number: int) -> bytes:
    return str(number).zfill(_N_DIGITS).encode()


def _true_rank(costs: FloatArray, number: int) -> int:
    """Secrets at most as costly as this one, itself included."""
    return int((costs <= costs[number]).sum())


def _measured(model: TableModel, numbers: list[int], settings: RankSettings, *, seed: int) -> tuple[RankEstimate, ...]:
    secrets = [_secret(number) for number in numbers]
    return measure_ranks(_walk(), model, secrets, settings=settings, rng=np.random.default_rng(seed)).estimates


def _adjusted_p_values(estimates: Iterable[RankEstimate]) -> FloatArray:
    return holm([exact_rank_p_value(estimate.high, _N_SECRETS) for estimate in estimates])
