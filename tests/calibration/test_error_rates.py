"""Worlds with known truth: the error rates and coverages that a verdict relies on, simulated with pinned seeds.

"At most 5 %" is tested by a one-sided binomial test at 99.9 %: a correct procedure fails it once in a thousand seeds.
"""

import math

import numpy as np
import pytest
import result_factory as factory
from scipy import special

from canary_audit.gate import judge
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.statistics.null import null_exposure_tail
from canary_audit.statistics.pvalues import (
    estimated_rank_p_value,
    exact_rank_p_value,
    fisher_combined,
    holm,
    mann_whitney,
    sampled_p_value,
    uniform_ks_p_value,
)

ALPHA = 0.05
SPACE_SIZE = 10**9


def most_false_alarms(n_runs, rate=ALPHA):
    """Largest count that a true rate of `rate` explains at 99.9 %."""
    counts = np.arange(n_runs + 1)
    return int(counts[special.bdtr(counts, n_runs, rate) >= 0.999][0])


def test_the_binomial_bound_itself():
    assert most_false_alarms(2_000) == 131


def null_ranks(rng, shape, size=SPACE_SIZE):
    return rng.integers(1, size + 1, shape)


# --- single p-values -----------------------------------------------------------------------------------------------


def test_exact_and_sampled_p_values_are_uniform():
    rng = np.random.default_rng(1)
    exact = [exact_rank_p_value(int(rank), SPACE_SIZE) for rank in null_ranks(rng, 4_000)]
    assert uniform_ks_p_value(exact) > 0.01
    costs = rng.normal(size=(4_000, 200))  # the canary is column 0, its references the rest
    counts = (costs[:, 1:] <= costs[:, :1]).sum(axis=1)
    sampled = np.array([sampled_p_value(int(count), 199) for count in counts])
    assert uniform_ks_p_value(sampled - rng.random(4_000) / 200) > 0.01


def test_sampled_p_values_stay_valid_with_ties():
    """Guards `<=`: with coarse costs, leaving ties out of the count would inflate the tail."""
    rng = np.random.default_rng(2)
    costs = rng.integers(0, 12, size=(8_000, 40))
    ties_count = [sampled_p_value(int(k), 39) for k in (costs[:, 1:] <= costs[:, :1]).sum(axis=1)]
    ties_left_out = [sampled_p_value(int(k), 39) for k in (costs[:, 1:] < costs[:, :1]).sum(axis=1)]
    assert (np.array(ties_count) <= ALPHA).sum() <= most_false_alarms(8_000)
    assert (np.array(ties_left_out) <= ALPHA).sum() > most_false_alarms(8_000)


def test_null_exposure_follows_its_tail():
    rng = np.random.default_rng(3)
    bits = math.log2(SPACE_SIZE) - np.log2(null_ranks(rng, 200_000))
    for threshold in range(1, 13):
        expected = null_exposure_tail(threshold) * len(bits)
        assert abs((bits >= threshold).sum() - expected) <= 3.5 * math.sqrt(expected)


def test_ks_and_fisher_are_uniform_under_the_null():
    rng = np.random.default_rng(4)
    samples = rng.random((3_000, 20))
    assert uniform_ks_p_value([uniform_ks_p_value(sample) for sample in samples]) > 0.01
    assert uniform_ks_p_value([fisher_combined(sample[:4]) for sample in samples]) > 0.01


def test_ks_matches_a_simulated_table():
    """Critical distances of n = 20 from 40,000 simulated samples."""
    rng = np.random.default_rng(5)
    samples = np.sort(rng.random((40_000, 20)), axis=1)
    steps = np.arange(21) / 20
    distances = np.maximum(steps[1:] - samples, samples - steps[:-1]).max(axis=1)
    for tail in (0.5, 0.2, 0.1, 0.05, 0.01):
        at_critical = samples[np.argsort(distances)[int((1 - tail) * 40_000)]]
        assert uniform_ks_p_value(at_critical) == pytest.approx(tail, abs=3.5 * math.sqrt(tail / 40_000) + 0.002)


@pytest.mark.parametrize(("n_in", "n_out", "decimals"), [(12, 14, 2), (12, 14, 0), (60, 50, 2), (60, 50, 0)])
def test_mann_whitney_false_alarms(n_in, n_out, decimals):
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(1_000, n_in + n_out)).round(decimals)
    p_values = np.array([mann_whitney(row[:n_in], row[n_in:])[1] for row in scores])
    assert (p_values <= ALPHA).sum() <= most_false_alarms(1_000)
    assert (p_values <= ALPHA).mean() > 0.03, "a test this conservative has lost its power"


# --- many canaries -------------------------------------------------------------------------------------------------


def n_family_errors(p_values):
    """Families, one a row, in which a true null is rejected."""
    return sum(holm(row).min() <= ALPHA for row in p_values)


def test_holm_with_exact_ranks():
    """Guards alpha / m: uncorrected, seven families in ten would hold a false alarm."""
    rng = np.random.default_rng(7)
    p_values = null_ranks(rng, (4_000, 24)) / SPACE_SIZE
    assert n_family_errors(p_values) <= most_false_alarms(4_000)
    assert (p_values.min(axis=1) <= ALPHA).mean() > 0.6


def test_holm_among_real_leaks():
    rng = np.random.default_rng(8)
    p_values = null_ranks(rng, (4_000, 24)) / SPACE_SIZE
    p_values[:, :12] = 1e-8
    adjusted = np.array([holm(row) for row in p_values])
    assert (adjusted[:, :12] <= ALPHA).all()
    assert (adjusted[:, 12:].min(axis=1) <= ALPHA).sum() <= most_false_alarms(4_000)


def test_holm_with_references_shared_by_all_canaries():
    """Guards the +1 as well: without it a canary ahead of all references would always be significant."""
    rng = np.random.default_rng(9)
    n_references, n_canaries, p_values = 499, 20, []
    for _ in range(4_000):
        references = np.sort(rng.normal(size=n_references))
        counts = np.searchsorted(references, rng.normal(size=n_canaries), side="right")
        p_values.append([sampled_p_value(int(count), n_references) for count in counts])
    assert n_family_errors(p_values) <= most_false_alarms(4_000)
    without_one = (np.array(p_values) * (n_references + 1) - 1) / n_references
    assert n_family_errors(without_one.clip(0, 1)) > most_false_alarms(4_000)


@pytest.mark.parametrize("deviation", [0.1, 0.5])
def test_holm_with_estimated_ranks(deviation):
    """Ranks known from eight lognormal replicates; certificates as good as they can be, equal to the rank."""
    rng = np.random.default_rng(10)
    n_canaries, space_bits, sigma = 10, math.log2(SPACE_SIZE), math.sqrt(math.log1p(deviation**2))
    error = ALPHA / (10 * n_canaries)
    p_values = []
    for ranks in null_ranks(rng, (1_500, n_canaries)):
        noise = np.exp(rng.normal(-(sigma**2) / 2, sigma, (n_canaries, 8)))
        highs = [log_t_interval(row, 1 - 2 * error)[2] for row in np.maximum(ranks[:, None] * noise, 1)]
        p_values.append(
            [
                estimated_rank_p_value(space_bits=space_bits, nll_bits=math.log2(rank), rank_high=high, error=error)
                for rank, high in zip(ranks, highs, strict=True)
            ]
        )
    assert n_family_errors(p_values) <= most_false_alarms(1_500)


# --- intervals -----------------------------------------------------------------------------------------------------


def lognormal(rng, deviation):
    sigma = math.sqrt(math.log1p(deviation**2))
    return 1e6 * np.exp(rng.normal(-(sigma**2) / 2, sigma, (3_000, 8))), 1e6


def negative_binomial(rng, mean, clumps):
    """Replicates of 1 + an overdispersed count: the canary, and what a weighted sample found besides it."""
    return 1.0 + rng.negative_binomial(clumps, clumps / (clumps + mean), (3_000, 8)), 1.0 + mean


@pytest.mark.parametrize(
    ("world", "arguments", "least"),
    [
        (lognormal, (0.05,), 0.94),
        (lognormal, (0.3,), 0.94),
        (lognormal, (0.6,), 0.92),
        (lognormal, (1.0,), 0.89),
        (negative_binomial, (30, 2), 0.93),
        (negative_binomial, (1_000, 4), 0.94),
        (negative_binomial, (1_000, 1), 0.92),
    ],
)
def test_log_t_interval_covers_as_documented(world, arguments, least):
    replicates, truth = world(np.random.default_rng(11), *arguments)
    intervals = [log_t_interval(row, 0.95) for row in replicates]
    assert np.mean([low <= truth <= high for _, low, high in intervals]) >= least
    assert np.mean([mean for mean, _, _ in intervals]) == pytest.approx(truth, rel=0.02)


# --- the whole gate ------------------------------------------------------------------------------------------------


def never_trained_design(space_size):
    """Eight judged canaries and ten controls in a space of this size."""
    space_bits = math.log2(space_size)
    canaries = tuple(
        factory.make_canary(f"{name}-{place}", insertions=insertions, rank=500, space_bits=space_bits)
        for name, insertions, n_canaries in (("canary", 32, 8), ("control", 0, 10))
        for place in range(n_canaries)
    )
    group = factory.make_group(canaries, space_size=str(space_size), space_bits=space_bits)
    return factory.make_clean_result(canaries=canaries, groups=(group,))


def with_null_ranks(design, space_size, rng):
    """The design measured on a model that keeps nothing; the eight likeliest secrets come out of the extraction."""
    canaries = list(design.canaries)
    for place, rank in enumerate(map(int, rng.choice(space_size, 8, replace=False) + 1)):
        measured = {
            "exposure": factory.make_exposure(rank, math.log2(space_size)),
            "p_value": exact_rank_p_value(rank, space_size),
            "extraction": factory.make_extraction(rank if rank <= 8 else None),
        }
        canaries[place] = canaries[place].model_copy(update=measured)
    return design.model_copy(update={"canaries": tuple(canaries)})


@pytest.mark.parametrize("space_size", [1_000, SPACE_SIZE])
def test_a_model_that_keeps_nothing_fails_at_most_as_often_as_the_policy_says(space_size):
    """Also where chance extracts secrets: in a space of 1,000 it does so in six audits of a hundred."""
    rng = np.random.default_rng(12)
    design, policy = never_trained_design(space_size), factory.make_policy(max_exposure_bits=0.0)
    verdicts = [judge(with_null_ranks(design, space_size, rng), policy).name for _ in range(2_000)]
    assert "ERROR" not in verdicts
    assert verdicts.count("FAIL") <= most_false_alarms(2_000)
    assert verdicts.count("FAIL") >= 0.03 * 2_000, "the gate has lost its power"
    assert verdicts.count("PASS") >= 0.9 * 2_000
