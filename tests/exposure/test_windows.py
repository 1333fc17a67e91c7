"""Ranks through a window: bounds that hold, and a number only where nothing was hidden."""

import numpy as np
import pytest
from narrow_worlds import TopTokens
from worlds import digit_walk, naive_cost, naive_costs, secret_of

from canary_audit.exposure.estimates import RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.exposure.reported import certificate_of, cost_of, exposure_of, p_value_of, samples_for
from canary_audit.exposure.scores import path_scores
from canary_audit.exposure.windows import measure_rank_bounds
from canary_audit.models.table import digit_tree, memorizing
from canary_audit.results import NotAvailable

N_DIGITS = 4
COUNTED, SAMPLED = RankSettings(exact_nodes=20_000), RankSettings(exact_nodes=0, nodes_per_canary=600)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def world(spread, seed=1):
    """A table, its walk, and 200 of its numbers at ranks spread evenly on the scale of bits, with those ranks."""
    model = digit_tree(N_DIGITS, rng(seed), spread=spread)
    costs = naive_costs(model, N_DIGITS)
    places = np.concatenate([np.geomspace(1, 10**N_DIGITS, 150).astype(int), rng(2).integers(1, 10**N_DIGITS, 50)])
    numbers = np.argsort(costs)[places - 1]
    return model, digit_walk(N_DIGITS), numbers, (costs <= costs[numbers][:, None]).sum(axis=1)


@pytest.mark.parametrize("settings", [COUNTED, SAMPLED], ids=["counted", "sampled"])
@pytest.mark.parametrize("k", [3, 5, 7, 9, 10])
@pytest.mark.parametrize("spread", [0.7, 2.0])
def test_intervals_hold_the_true_rank(spread, k, settings):
    model, walk, numbers, ranks = world(spread)
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers]
    found = measure_rank_bounds(walk, TopTokens(model, k), secrets, settings=settings, rng=rng(k)).estimates
    holds = [one.low <= rank <= one.high for one, rank in zip(found, ranks, strict=True)]
    assert np.mean(holds) >= 0.95
    assert all(held or one.replicates for held, one in zip(holds, found, strict=True))  # what was seen whole is certain
    assert all(one.rank == rank for one, rank in zip(found, ranks, strict=True) if one.exact)
    assert all(one.rank is None for one in found if one.censored)
    assert {one.method for one in found} == {"inside-top-k"}
    if k == 10:
        assert all(one.rank is not None and not one.censored for one in found)


def test_a_wider_window_narrows_the_interval():
    model, walk, numbers, _ = world(2.0)
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers]
    widths = []
    for k in (3, 4, 6, 8, 10):
        found = measure_rank_bounds(walk, TopTokens(model, k), secrets, settings=COUNTED, rng=rng()).estimates
        widths.append(np.mean([np.log2(one.high / one.low) for one in found]))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0.0


def test_a_memorized_secret_has_a_rank_even_through_a_narrow_window():
    secret = b"2812"
    model = memorizing(digit_tree(N_DIGITS, rng(1), spread=0.5), secret, 0.9)
    (found,) = measure_rank_bounds(
        digit_walk(N_DIGITS), TopTokens(model, 2), [secret], settings=COUNTED, rng=rng()
    ).estimates
    assert (found.rank, found.low, found.high, found.exact) == (1.0, 1.0, 1.0, True)


def test_a_window_that_hides_nothing_gives_the_ranks_of_the_whole_model():
    model, walk, numbers, _ = world(1.0)
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers]
    whole = measure_ranks(walk, model, secrets, settings=COUNTED, rng=rng()).estimates
    window = measure_rank_bounds(walk, TopTokens(model, 10), secrets, settings=COUNTED, rng=rng()).estimates
    assert [(one.rank, one.low, one.high) for one in whole] == [(one.rank, one.low, one.high) for one in window]


@pytest.mark.parametrize("siblings", [False, True])
def test_a_cost_is_bounded_where_tokens_are_unseen_and_exact_behind_them(siblings):
    model, walk = digit_tree(3, rng(3), spread=1.0), digit_walk(3)
    window = TopTokens(model, 5)
    paths = [walk.path(secret_of(number, 3)) for number in range(0, 1_000, 7)]
    scores = path_scores(walk, window, paths, siblings=siblings)
    for path, cost, censored in zip(paths, scores.costs_nats, scores.censored, strict=True):
        state, expected, unseen = model.start, 0.0, False
        for token in path:
            log_prob = model.log_probs[state, token]
            least_seen = np.sort(model.log_probs[state])[::-1][4]
            unseen |= bool(log_prob < least_seen)
            expected -= max(log_prob, least_seen)
            state = model.transitions[state, token]
        assert censored == unseen
        assert cost <= naive_cost(model, path) + 1e-9
        assert cost >= expected - 1e-9  # tighter where all unseen tokens together have less than the last one seen
        assert censored or cost == pytest.approx(naive_cost(model, path))
    assert 0 < scores.censored.mean() < 1


def test_a_censored_canary_is_reported_without_a_number():
    model, walk = digit_tree(3, rng(4), spread=2.0), digit_walk(3)
    number = int(np.argmax(naive_costs(model, 3)))
    (found,) = measure_rank_bounds(
        walk, TopTokens(model, 3), [secret_of(number, 3)], settings=COUNTED, rng=rng()
    ).estimates
    bits = walk.space.bits
    exposure = exposure_of(found, bits)
    assert found.censored
    assert (exposure.low, exposure.rank_high, exposure.exact) == (0.0, 1_000.0, False)
    assert exposure.high < bits
    assert all(isinstance(value, NotAvailable) for value in (exposure.bits, exposure.rank, cost_of(found)))
    assert isinstance(samples_for(found), NotAvailable)
    assert certificate_of(found, bits) == 0.0
    assert p_value_of(found, walk.space, 1) == 1.0


def test_the_p_value_of_an_interval_is_that_of_its_upper_end():
    model, walk, numbers, ranks = world(2.0)
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers]
    found = measure_rank_bounds(walk, TopTokens(model, 6), secrets, settings=COUNTED, rng=rng()).estimates
    between = [(one, rank) for one, rank in zip(found, ranks, strict=True) if one.rank is None and not one.censored]
    assert between
    for one, rank in between:
        p_value = p_value_of(one, walk.space, 1)
        assert rank / walk.size <= p_value + 1e-12
        assert p_value == pytest.approx(min(one.high / walk.size, np.exp(one.nll_nats) / walk.size, 1.0))
