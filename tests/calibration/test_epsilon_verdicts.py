"""Verdicts on epsilon where the truth is known: randomized response of a stated epsilon, against promise and limit."""

import numpy as np
import pytest
import result_factory as factory
from scipy import special

from canary_audit.gate.epsilon import epsilon_failures, weigh_epsilon
from canary_audit.results import CoinCanary

N_CANARIES = 200
AUDIT = factory.make_clean_result(canaries=())
TEMPLATE = factory.make_private_epsilon(N_CANARIES)


def audit(rng, true_epsilon, accounted):
    """Coins told by randomized response: right with probability e^epsilon / (1 + e^epsilon), in no other way."""
    coins = rng.random(N_CANARIES) < 0.5
    told = coins ^ (rng.random(N_CANARIES) > special.expit(true_epsilon))
    scores = told + rng.random(N_CANARIES) / 2
    canaries = tuple(
        CoinCanary(id=f"coin-{place:03d}", inserted=bool(coin), score=float(score))
        for place, (coin, score) in enumerate(zip(coins, scores, strict=True))
    )
    epsilon = TEMPLATE.model_copy(
        update={"canaries": canaries, "accounting": factory.make_accounting(epsilon=accounted)}
    )
    return AUDIT.model_copy(update={"epsilon": epsilon})


def share_failed(seed, n_runs, true_epsilon, accounted, **policy):
    rng, table = np.random.default_rng(seed), factory.make_policy(**policy)
    failed = 0
    for _ in range(n_runs):
        evidence = weigh_epsilon(audit(rng, true_epsilon, accounted), table, planted=())
        failed += any(epsilon_failures(evidence, table))
    return failed / n_runs


def most(n_runs, rate=0.05):
    """Largest share that this rate explains at 99.9 %."""
    counts = np.arange(n_runs + 1)
    return counts[special.bdtr(counts, n_runs, rate) >= 0.999][0] / n_runs


@pytest.mark.parametrize(("seed", "epsilon"), [(1, 0.5), (2, 2.0)])
def test_a_promise_that_is_kept_to_the_letter_is_refuted_rarely(seed, epsilon):
    assert share_failed(seed, 300, epsilon, accounted=epsilon) <= most(300)


@pytest.mark.parametrize(("seed", "epsilon"), [(3, 0.5), (4, 2.0)])
def test_a_limit_that_is_met_exactly_fails_rarely(seed, epsilon):
    assert share_failed(seed, 300, epsilon, accounted=50.0, max_epsilon=epsilon) <= most(300)


def test_a_promise_and_a_limit_together_err_no_more_often_than_one():
    """They are held against the same bound."""
    assert share_failed(7, 300, 1.0, accounted=1.0, max_epsilon=1.0) <= most(300)


def test_broken_promises_and_limits_are_found():
    """Epsilon 4 where 1 is promised, or allowed: two hundred coin flips find it nearly always."""
    assert share_failed(5, 100, 4.0, accounted=1.0) >= 0.9
    assert share_failed(6, 100, 4.0, accounted=50.0, max_epsilon=1.0) >= 0.9
