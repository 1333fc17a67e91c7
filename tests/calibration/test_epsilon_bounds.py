"""Lower bounds on epsilon against mechanisms whose epsilon is known: how often they exceed it, and what they show.

A bound at 95 % confidence may exceed the truth in 5 % of runs; a one-sided binomial test at 99.9 % decides. The default
suite holds a short form with pinned seeds, the nightly one the whole grid.
"""

import math

import numpy as np
import pytest
from scipy import special

from canary_audit.selftest.mechanisms import abstaining, gaussian, laplace, null, randomized_response, skewed
from canary_audit.statistics import confusion, guesses, intervals, one_run
from canary_audit.statistics.confusion import clopper_pearson_bound
from canary_audit.statistics.gaussian_dp import gaussian_dp_bound, one_run_f_dp_bound

DELTA = 1e-5
MECHANISMS = {
    mechanism.name: mechanism
    for mechanism in (
        null(),
        *(randomized_response(epsilon) for epsilon in (0.5, 1.0, 2.0, 4.0)),
        gaussian(1.0, DELTA),
        gaussian(4.0, DELTA),
        laplace(1.0),
        laplace(4.0),
        abstaining(1.0),
        skewed(2.0),
    )
}
RULES = ("grid", "fixed")


def most_violations(n_runs):
    """Largest count that a true rate of 5 % explains at 99.9 %."""
    counts = np.arange(n_runs + 1)
    return int(counts[special.bdtr(counts, n_runs, 0.05) >= 0.999][0])


def runs_of(mechanism, n_canaries, n_runs, seed=1):
    """(scores, coins), each of shape (runs, canaries)."""
    rng = np.random.default_rng(seed)
    coins = rng.random((n_runs, n_canaries)) < 0.5
    return mechanism.release(coins, rng), coins


def one_run_bounds(mechanism, n_canaries, n_runs, rule, *, delta=None):
    """At the mechanism's own delta, unless told otherwise: the least that is valid."""
    delta = mechanism.delta if delta is None else delta
    scores, coins = runs_of(mechanism, n_canaries, n_runs)
    return np.array(
        [
            one_run.one_run_bound(row, fell, delta=delta, rule=rule).epsilon
            for row, fell in zip(scores, coins, strict=True)
        ]
    )


def two_sided_bounds(bound, mechanism, n_canaries, n_runs, delta):
    """Of functions that take the two sides apart."""
    scores, coins = runs_of(mechanism, n_canaries, n_runs)
    return np.array(
        [bound(row[fell], row[~fell], delta=delta).epsilon for row, fell in zip(scores, coins, strict=True)]
    )


def n_violations(mechanism, n_canaries, n_runs, rule):
    return int((one_run_bounds(mechanism, n_canaries, n_runs, rule) > mechanism.epsilon).sum())


# --- the mechanisms themselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MECHANISMS if not name.startswith("Gaussian")])
def test_the_mechanisms_have_the_epsilon_they_state(name):
    """Of scores binned at their quantiles, none is more than e^epsilon likelier with the coin on one side than on the
    other, and one comes close."""
    mechanism, rng = MECHANISMS[name], np.random.default_rng(2)
    n = 400_000
    inside, outside = (mechanism.release(np.full(n, coin), rng) for coin in (True, False))
    edges = np.unique(np.quantile(np.concatenate([inside, outside]), np.linspace(0, 1, 41)))
    counts = [np.histogram(side, bins=np.append(edges, edges[-1] + 1))[0] + 0.5 for side in (inside, outside)]
    log_ratios = np.abs(np.log(counts[0] / counts[1]))[counts[0] + counts[1] > 200]
    assert log_ratios.max() == pytest.approx(mechanism.epsilon, abs=0.2)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_the_gaussian_mechanism_has_its_epsilon_at_its_delta(epsilon):
    """From the mean distance of its scores, by the formula of Balle and Wang written out."""
    scores, coins = runs_of(gaussian(epsilon, DELTA), 1_000, 400)
    mu = scores[coins].mean() - scores[~coins].mean()
    assert scores[coins].std() == pytest.approx(1.0, abs=0.01)
    delta = special.ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * special.ndtr(-mu / 2 - epsilon / mu)
    assert math.log(delta) == pytest.approx(math.log(DELTA), abs=0.6)


# --- the bound that assumes nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_one_run_bound_in_short(name, rule):
    for n_canaries in (50, 200):
        assert n_violations(MECHANISMS[name], n_canaries, 300, rule) <= most_violations(300)


@pytest.mark.nightly
@pytest.mark.parametrize("n_canaries", [50, 200, 1_000, 5_000])
@pytest.mark.parametrize("name", MECHANISMS)
def test_one_run_bound_in_full(name, n_canaries):
    for rule in RULES:
        assert n_violations(MECHANISMS[name], n_canaries, 4_000, rule) <= most_violations(4_000)


LEAST_MEDIANS = {
    ("fixed", "Gaussian 4", 1_000): 1.3,
    ("fixed", "Gaussian 4", 200): 0.95,
    ("fixed", "randomized response 1", 1_000): 0.70,
    ("fixed", "randomized response 4", 1_000): 3.2,
    ("grid", "Gaussian 4", 1_000): 1.3,
    ("grid", "Gaussian 4", 200): 0.78,
    ("grid", "randomized response 1", 1_000): 0.77,
    ("grid", "randomized response 4", 1_000): 3.26,
}


@pytest.mark.parametrize(("rule", "name", "n_canaries"), LEAST_MEDIANS)
def test_one_run_bound_shows_what_it_should(rule, name, n_canaries):
    bounds = one_run_bounds(MECHANISMS[name], n_canaries, 300, rule, delta=DELTA)
    assert np.median(bounds) >= LEAST_MEDIANS[rule, name, n_canaries]


# --- the bounds that assume something ------------------------------------------------------------------------------


def f_dp_bounds(mechanism, n_canaries, n_runs):
    scores, coins = runs_of(mechanism, n_canaries, n_runs)
    return np.array(
        [
            one_run_f_dp_bound(row, fell, delta=DELTA, rule="grid").epsilon
            for row, fell in zip(scores, coins, strict=True)
        ]
    )


@pytest.mark.parametrize("name", ["null", "Gaussian 1", "Gaussian 4"])
def test_bounds_that_assume_gaussian_noise_hold_for_it(name):
    mechanism = MECHANISMS[name]
    assert (f_dp_bounds(mechanism, 200, 300) > mechanism.epsilon).sum() <= most_violations(300)
    bounds = two_sided_bounds(gaussian_dp_bound, mechanism, 200, 300, DELTA)
    assert (bounds > mechanism.epsilon).sum() <= most_violations(300)


def test_bounds_that_assume_gaussian_noise_show_more_of_it():
    mechanism = MECHANISMS["Gaussian 4"]
    without = np.median(one_run_bounds(mechanism, 1_000, 50, "grid", delta=DELTA))
    assert np.median(f_dp_bounds(mechanism, 1_000, 50)) > without + 0.5
    assert np.median(two_sided_bounds(gaussian_dp_bound, mechanism, 1_000, 50, DELTA)) > without + 0.5


def test_bounds_that_assume_gaussian_noise_are_wrong_without_it():
    """Why they carry their assumption: randomized response of epsilon 1."""
    mechanism = MECHANISMS["randomized response 1"]
    assert (f_dp_bounds(mechanism, 1_000, 100) > 1.0).mean() > 0.7
    scores, coins = runs_of(mechanism, 1_000, 100)
    scores = scores + np.random.default_rng(4).uniform(0, 0.1, scores.shape)  # noise that tells nothing breaks ties
    bounds = [
        gaussian_dp_bound(row[fell], row[~fell], delta=DELTA).epsilon for row, fell in zip(scores, coins, strict=True)
    ]
    assert (np.array(bounds) > 1.0).mean() > 0.7


@pytest.mark.parametrize("name", MECHANISMS)
def test_clopper_pearson_bound_holds_for_independent_scores(name):
    mechanism = MECHANISMS[name]
    for n_canaries in (50, 200):
        bounds = two_sided_bounds(clopper_pearson_bound, mechanism, n_canaries, 300, mechanism.delta)
        assert (bounds > mechanism.epsilon).sum() <= most_violations(300)


def test_rates_at_chosen_thresholds_hold():
    """Each of the two ends errs with half of the error, though the threshold is one of the scores."""
    rng, wrong = np.random.default_rng(3), np.zeros(2, dtype=int)
    for _ in range(2_000):
        guilty, innocent = rng.normal(1, 1, 60), rng.normal(0, 1, 40)
        counts = confusion._accusations(guilty, innocent)[1]
        threshold = np.sort(innocent)[::-1][counts.false_positives]
        least_tpr, most_fpr = confusion.rate_bounds(counts, 0.1)
        wrong += least_tpr > special.ndtr(1 - threshold), most_fpr < special.ndtr(-threshold)
    assert (wrong <= most_violations(2_000)).all()
    assert wrong[1] > 0.03 * 2_000, "the interval of the threshold's own side is exact"


# --- mutants: each mistake must break a check that the program passes ----------------------------------------------


def without_correction(monkeypatch):
    """alpha / K to alpha: each of the five numbers of guesses at the whole error."""
    whole = one_run.one_run_epsilon
    monkeypatch.setattr(
        one_run, "one_run_epsilon", lambda m, r, v, *, delta, error: whole(m, r, v, delta=delta, error=0.05)
    )


def number_of_guesses_chosen_after(monkeypatch):
    """The best of all numbers of guesses, as if it had been the plan."""
    without_correction(monkeypatch)
    monkeypatch.setattr(guesses, "guess_counts", lambda m, rule: tuple(range(1, m // 2 + 1)))


def strictly_more_right_guesses(monkeypatch):
    """P[W >= v] to P[W > v]: the observed count itself is left out of its own tail, as if a +1 were dropped."""
    whole = one_run.one_run_epsilon
    monkeypatch.setattr(
        one_run,
        "one_run_epsilon",
        lambda m, r, v, *, delta, error: whole(m, r, min(r, v + 1), delta=delta, error=error),
    )


def ties_in_our_favour(monkeypatch):
    """Among equal scores, canaries that are in count as the higher ones."""

    def count(scores, inserted, counts):
        ordered = np.asarray(inserted)[np.lexsort((inserted, scores))]
        return tuple(int(ordered[-k:].sum() + k - ordered[:k].sum()) for k in counts)

    monkeypatch.setattr(guesses, "count_correct", count)


CHECKS = {
    without_correction: ("null", 1_000, "grid"),
    number_of_guesses_chosen_after: ("null", 60, "grid"),
    strictly_more_right_guesses: ("randomized response 0.5", 50, "fixed"),
    ties_in_our_favour: ("randomized response 1", 200, "fixed"),
}


@pytest.mark.parametrize("mutant", CHECKS, ids=lambda mutant: mutant.__name__)
def test_a_mutated_bound_exceeds_the_truth_too_often(mutant, monkeypatch):
    name, n_canaries, rule = CHECKS[mutant]
    assert n_violations(MECHANISMS[name], n_canaries, 2_000, rule) <= most_violations(2_000)
    mutant(monkeypatch)
    assert n_violations(MECHANISMS[name], n_canaries, 2_000, rule) > most_violations(2_000)


def test_a_one_sided_interval_covers_too_rarely(monkeypatch):
    """Two-sided to one-sided: the whole error at either end."""
    n_trials, share = 40, 0.3
    chances = [math.comb(n_trials, k) * share**k * (1 - share) ** (n_trials - k) for k in range(n_trials + 1)]

    def coverage():
        ends = [intervals.clopper_pearson(k, n_trials, 0.95) for k in range(n_trials + 1)]
        return sum(chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= share <= high)

    assert coverage() >= 0.95
    monkeypatch.setattr(intervals, "_tail", lambda confidence: 1 - confidence)
    assert coverage() < 0.95
