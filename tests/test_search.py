"""The one search against a naive oracle, rule by rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow_worlds import TopTokens
from worlds import digit_walk, naive_cost, naive_costs, secret_of

from canary_audit.errors import ModelError
from canary_audit.keep import KeepAll, KeepCheapest, KeepOwn, KeepSample
from canary_audit.models.table import TableModel, digit_chain, digit_tree
from canary_audit.search import search

NO_LIMIT = np.array([np.inf])


def test_keep_all_enumerates_every_secret_once_at_its_cost():
    model, walk = digit_tree(4, np.random.default_rng(0)), digit_walk(4)
    result = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepAll())
    found = {walk.secret(result.path(leaf)): cost for leaf, cost in enumerate(result.leaves.costs_nats)}
    expected = naive_costs(model, 4)
    assert len(found) == 10_000
    assert all(abs(found[secret_of(number, 4)] - cost) < 1e-9 for number, cost in enumerate(expected))
    assert result.nodes == 1_111
    assert result.calls == 4
    assert result.complete
    assert np.isinf(result.cheapest_dropped_nats).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.3, 1.0, 3.0]), place=st.integers(0, 9_999))
def test_branch_and_bound_finds_exactly_the_secrets_within_the_threshold(seed, spread, place):
    model, walk = digit_tree(4, np.random.default_rng(seed), spread=spread), digit_walk(4)
    expected = naive_costs(model, 4)
    threshold = np.sort(expected)[place]
    result = search(walk, model, thresholds_nats=np.array([threshold + 1e-9]), keep=KeepAll())
    assert len(result.leaves.lanes) == (expected <= threshold + 1e-9).sum()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 40))
def test_a_certified_leaf_is_where_enumeration_puts_it(seed, width):
    model, walk = digit_chain(2, np.random.default_rng(seed), spread=2.0), digit_walk(4)
    expected = np.sort(naive_costs(model, 4))
    result = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepCheapest(width))
    found = np.sort(result.leaves.costs_nats)
    certified = found[found <= result.cheapest_dropped_nats[0]]
    np.testing.assert_allclose(certified, expected[: len(certified)], atol=1e-9)


def test_an_uncertified_leaf_can_be_wrong_and_says_so():
    """Greedy descent is caught: the first digit's best branch need not hold the best secret."""
    log_probs = np.full((3, 256), -np.inf)
    zero, one = ord("0"), ord("1")
    log_probs[0, [zero, one]] = np.log([0.6, 0.4])
    log_probs[1, zero : zero + 10] = np.log(0.1)
    log_probs[2, [zero, one]] = np.log([0.95, 0.05])
    log_probs[np.isneginf(log_probs) & np.isin(np.arange(256), np.arange(zero, zero + 10))] = -30.0
    log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    transitions = np.zeros((3, 256), dtype=np.int64)
    transitions[0, zero], transitions[0, one] = 1, 2
    model, walk = TableModel(log_probs, transitions), digit_walk(2)
    greedy = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepCheapest(1))
    assert greedy.leaves.costs_nats.min() > greedy.cheapest_dropped_nats[0]
    wider = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepCheapest(2))
    best = int(np.argmin(wider.leaves.costs_nats))
    assert walk.secret(wider.path(best)) == b"10"
    assert wider.leaves.costs_nats[best] <= wider.cheapest_dropped_nats[0]


@pytest.mark.parametrize("size", [2, 8, 40])
def test_sampled_counts_are_unbiased(size):
    model, walk = digit_tree(5, np.random.default_rng(3), spread=1.5), digit_walk(5)
    expected = naive_costs(model, 5)
    for rank in (3, 60, 2_000, 60_000):
        threshold = np.sort(expected)[rank - 1] + 1e-9
        counts = _lane_counts(walk, model, threshold, size, n_lanes=600)
        error = abs(counts.mean() - rank) / (counts.std() / np.sqrt(len(counts)) + 1e-9 * rank)
        assert error < 4.5, (size, rank, counts.mean())


def test_the_estimated_tree_size_is_unbiased():
    model, walk = digit_tree(5, np.random.default_rng(4), spread=1.5), digit_walk(5)
    threshold = np.sort(naive_costs(model, 5))[3_000]
    exact = search(walk, model, thresholds_nats=np.array([threshold]), keep=KeepAll())
    sampled = search(walk, model, thresholds_nats=np.full(600, threshold), keep=KeepSample(8, np.random.default_rng(0)))
    assert exact.tree_size[0] == exact.nodes
    assert abs(sampled.tree_size.mean() / exact.nodes - 1) < 0.05


def _lane_counts(walk, model, threshold, size, n_lanes):
    result = search(
        walk, model, thresholds_nats=np.full(n_lanes, threshold), keep=KeepSample(size, np.random.default_rng(size))
    )
    return np.bincount(result.leaves.lanes, weights=result.leaves.weights, minlength=n_lanes)


def test_a_lane_that_never_overflows_is_exact():
    model, walk = digit_tree(4, np.random.default_rng(5), spread=2.0), digit_walk(4)
    threshold = np.sort(naive_costs(model, 4))[4] + 1e-9
    counts = _lane_counts(walk, model, threshold, size=1_000, n_lanes=3)
    assert counts.tolist() == [5.0, 5.0, 5.0]


def test_lanes_do_not_disturb_each_other_and_share_prefixes():
    model, walk = digit_tree(4, np.random.default_rng(6)), digit_walk(4)
    thresholds = np.sort(naive_costs(model, 4))[[5, 500, 5_000]] + 1e-9
    together = search(walk, model, thresholds_nats=thresholds, keep=KeepAll())
    alone = [search(walk, model, thresholds_nats=np.array([one]), keep=KeepAll()) for one in thresholds]
    counts = np.bincount(together.leaves.lanes, minlength=3)
    assert counts.tolist() == [6, 501, 5_001] == [len(one.leaves.lanes) for one in alone]
    assert together.nodes == alone[-1].nodes < sum(one.nodes for one in alone)


def test_a_lanes_own_secret_is_told_apart():
    model, walk = digit_tree(3, np.random.default_rng(7)), digit_walk(3)
    path = walk.path(b"123")
    result = search(
        walk, model, thresholds_nats=np.array([naive_cost(model, path) + 1e-9]), keep=KeepAll(), own_paths=[path]
    )
    assert [walk.secret(result.path(int(leaf))) for leaf in np.flatnonzero(result.leaves.own)] == [b"123"]


def test_a_search_that_outgrows_its_budget_stops_and_says_so():
    model, walk = digit_tree(4, np.random.default_rng(8)), digit_walk(4)
    result = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepAll(), max_nodes=50)
    assert not result.complete
    assert result.nodes <= 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.1])
def test_impossible_log_probabilities_are_an_error(bad):
    model, walk = digit_tree(3, np.random.default_rng(9)), digit_walk(3)
    model.log_probs[5, ord("4")] = bad
    with pytest.raises(ModelError, match="NaN, infinite or positive"):
        search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepAll())


def test_a_leaf_is_found_by_its_tokens():
    model, walk = digit_tree(3, np.random.default_rng(9)), digit_walk(3)
    result = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepCheapest(20))
    for leaf in range(len(result.leaves.costs_nats)):
        assert result.leaf(result.path(leaf)) == leaf
    missing = {f"{number:03d}".encode() for number in range(1_000)} - {
        walk.secret(result.path(leaf)) for leaf in range(len(result.leaves.costs_nats))
    }
    assert {result.leaf(walk.path(secret)) for secret in missing} == {None}


# --- through a window ----------------------------------------------------------------------------------------------


def seen_costs(model, k, n_digits):
    """Costs of all secrets in order, infinite where a token is outside the window."""
    digits = np.arange(ord("0"), ord("9") + 1)
    place = np.argsort(np.argsort(-model.log_probs[:, digits], axis=1, kind="stable"), axis=1)
    inside = TableModel(model.log_probs, model.transitions)
    inside.log_probs = model.log_probs.copy()
    inside.log_probs[:, digits] = np.where(place < k, model.log_probs[:, digits], -np.inf)
    return naive_costs(inside, n_digits)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 10),
    spread=st.sampled_from([0.0, 0.7, 2.0]),
    place=st.integers(0, 999),
)
def test_what_hides_outside_a_window_is_bounded(seed, k, spread, place):
    model, walk = digit_tree(3, np.random.default_rng(seed), spread=spread), digit_walk(3)
    expected, seen = naive_costs(model, 3), seen_costs(model, k, 3)
    threshold = np.sort(expected)[place]
    result = search(walk, TopTokens(model, k), thresholds_nats=np.array([threshold]), keep=KeepAll())
    assert len(result.leaves.lanes) == (seen <= threshold).sum()
    assert (expected <= threshold).sum() <= len(result.leaves.lanes) + result.unseen_leaves[0]
    assert result.whole.all()
    hidden = expected[np.isinf(seen) & (expected <= threshold)]
    assert result.cheapest_dropped_nats[0] <= hidden.min(initial=np.inf) + 1e-9


def test_without_a_limit_every_secret_is_seen_or_may_be_hidden():
    model, walk = digit_tree(3, np.random.default_rng(1)), digit_walk(3)
    result = search(walk, TopTokens(model, 4), thresholds_nats=NO_LIMIT, keep=KeepAll())
    assert (len(result.leaves.lanes), result.unseen_leaves[0]) == (4**3, 10**3 - 4**3)
    assert np.isfinite(result.leaves.costs_nats).all()


def test_a_window_that_hides_nothing_changes_nothing():
    model, walk = digit_tree(4, np.random.default_rng(2), spread=1.5), digit_walk(4)
    threshold = np.sort(naive_costs(model, 4))[[700, 7_000]]
    plain, windowed = (
        search(walk, one, thresholds_nats=threshold, keep=KeepSample(9, np.random.default_rng(3)))
        for one in (model, TopTokens(model, 10))
    )
    np.testing.assert_array_equal(plain.leaves.costs_nats, windowed.leaves.costs_nats)
    np.testing.assert_array_equal(plain.cheapest_dropped_nats, windowed.cheapest_dropped_nats)
    assert (windowed.unseen_leaves == plain.unseen_leaves).all()
    assert not plain.unseen_leaves.any()
    assert not plain.whole.any()


def test_sampled_bounds_on_what_is_hidden_are_unbiased():
    model, walk = digit_tree(5, np.random.default_rng(3), spread=1.0), digit_walk(5)
    threshold = np.sort(naive_costs(model, 5))[3_000]
    exact = search(walk, TopTokens(model, 7), thresholds_nats=np.array([threshold]), keep=KeepAll())
    sampled = search(
        walk,
        TopTokens(model, 7),
        thresholds_nats=np.full(600, threshold),
        keep=KeepSample(12, np.random.default_rng(4)),
    )
    error = sampled.unseen_leaves.std() / np.sqrt(600)
    assert abs(sampled.unseen_leaves.mean() - exact.unseen_leaves[0]) < 4.5 * error
    assert not sampled.whole.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 9), width=st.integers(1, 40))
def test_a_leaf_certified_through_a_window_is_where_enumeration_puts_it(seed, k, width):
    model, walk = digit_chain(2, np.random.default_rng(seed), spread=2.0), digit_walk(4)
    expected = np.sort(naive_costs(model, 4))
    result = search(walk, TopTokens(model, k), thresholds_nats=NO_LIMIT, keep=KeepCheapest(width))
    found = np.sort(result.leaves.costs_nats)
    certified = found[found <= result.cheapest_dropped_nats[0]]
    np.testing.assert_allclose(certified, expected[: len(certified)], atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.1])
def test_a_window_hides_tokens_but_no_impossible_numbers(bad):
    model, walk = digit_tree(3, np.random.default_rng(9)), digit_walk(3)
    window = TopTokens(model, 5)
    model.log_probs[0, ord("0") : ord("9") + 1] = bad
    with pytest.raises(ModelError, match="NaN, infinite or positive"):
        search(walk, window, thresholds_nats=NO_LIMIT, keep=KeepAll())


def test_only_the_way_to_its_own_secret_is_kept():
    model, walk = digit_tree(4, np.random.default_rng(9)), digit_walk(4)
    paths = [walk.path(secret) for secret in (b"1234", b"1299", b"0000")]
    result = search(walk, model, thresholds_nats=np.full(3, np.inf), keep=KeepOwn(), own_paths=paths)
    own = np.flatnonzero(result.leaves.own)
    assert [result.path(int(leaf)) for leaf in own] == [paths[lane] for lane in result.leaves.lanes[own]]
    assert sorted(result.leaves.lanes[own]) == [0, 1, 2]
    assert result.nodes == 1 + 2 + 2 + 3
    assert not result.whole.any()


def test_what_a_spent_budget_of_nodes_left_out_counts_as_dropped():
    model, walk = digit_tree(4, np.random.default_rng(8)), digit_walk(4)
    result = search(walk, model, thresholds_nats=NO_LIMIT, keep=KeepAll(), max_nodes=50)
    assert not result.whole.any()
    assert np.isfinite(result.cheapest_dropped_nats).all()
