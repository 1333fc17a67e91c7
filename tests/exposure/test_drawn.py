"""Deep ranks from a sample of the space that all canaries share."""

import numpy as np
import pytest
from worlds import digit_walk, secret_of

from canary_audit.errors import BudgetSpentError
from canary_audit.exposure.drawn import are_enough, from_drawn
from canary_audit.exposure.estimates import RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.exposure.reported import p_value_of
from canary_audit.exposure.scores import path_scores
from canary_audit.models.table import digit_costs, digit_tree

N_DIGITS, N_CANARIES = 5, 200


@pytest.fixture(scope="module")
def world():
    model = digit_tree(N_DIGITS, np.random.default_rng(1), spread=1.5)
    costs = digit_costs(model, N_DIGITS)
    numbers = np.random.default_rng(2).choice(10**N_DIGITS, N_CANARIES, replace=False)
    ranks = np.searchsorted(np.sort(costs), costs[numbers], side="right")
    return model, costs, numbers, ranks


def test_intervals_hold_the_rank_and_p_values_are_never_too_small(world):
    _, costs, numbers, ranks = world
    held, p_values, space = [], [], digit_walk(N_DIGITS).space
    for seed in range(20):
        drawn = np.random.default_rng(seed).choice(costs, 300, replace=False)
        for number, rank in zip(numbers, ranks, strict=True):
            found = from_drawn(10**N_DIGITS, float(costs[number]), 0.0, drawn)
            held.append(found.low <= rank <= found.high)
            p_values.append(p_value_of(found, space, 1))
            assert found.rank is not None or not are_enough(float(costs[number]), 0.0, drawn)
    assert np.mean(held) >= 0.98
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 4 * np.sqrt(level / N_CANARIES)


def test_a_sample_of_nothing_as_likely_bounds_the_rank_and_gives_no_point(world):
    _, costs, _, _ = world
    found = from_drawn(10**N_DIGITS, float(costs.min()), 0.0, np.sort(costs)[-100:])
    assert (found.rank, found.low, found.drawn) == (None, 1.0, (0, 100))
    assert found.high < 0.06 * 10**N_DIGITS


def test_noise_widens_the_interval_on_both_sides(world):
    _, costs, _, _ = world
    drawn = np.random.default_rng(3).choice(costs, 300, replace=False)
    cost = float(np.median(costs))
    close, wide = (from_drawn(10**N_DIGITS, cost, noise, drawn) for noise in (0.0, 1.0))
    assert wide.low < close.low
    assert close.high < wide.high


def test_where_trees_cost_more_than_is_left_deep_ranks_come_from_the_sample(world):
    model, _, numbers, ranks = world
    left = [1_500]

    def whole_costs(paths):
        if len(paths) > left[0]:
            raise BudgetSpentError("spent")
        left[0] -= len(paths)
        return path_scores(digit_walk(N_DIGITS), model, paths).costs_nats

    report = measure_ranks(
        digit_walk(N_DIGITS),
        model,
        [secret_of(int(number), N_DIGITS) for number in numbers],
        settings=RankSettings(),
        rng=np.random.default_rng(4),
        nodes_left=lambda: left[0],
        whole_costs=whole_costs,
        own_whole=True,
    )
    sampled = [one for one in report.estimates if one.method == "uniform-sampling"]
    assert len(sampled) > N_CANARIES / 2
    held = [one.low <= rank <= one.high for one, rank in zip(report.estimates, ranks, strict=True)]
    assert sum(held) >= 182
