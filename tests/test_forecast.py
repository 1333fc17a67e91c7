"""The forecast of reachable secrets: right where steps are independent, harmless where it is wrong."""

import numpy as np
import pytest
from worlds import digit_walk, naive_costs

from canary_audit.forecast import Forecast, step_histogram
from canary_audit.keep import KeepSample
from canary_audit.models.table import digit_chain, digit_tree
from canary_audit.search import search


def test_it_counts_right_where_steps_are_independent():
    model = digit_chain(1, np.random.default_rng(1), spread=1.0)
    model.log_probs[:] = model.log_probs[0]  # one distribution for every step: independent digits
    costs = np.sort(naive_costs(model, 5))
    result = search(
        digit_walk(5), model, thresholds_nats=np.array([np.inf]), keep=KeepSample(16, np.random.default_rng(0))
    )
    forecast = Forecast(result.steps, 40.0)
    for slack in (10.5, 13.0, 16.0):
        counted = np.searchsorted(costs, slack, side="right")
        assert 0.8 < 100_000 * forecast.share(0, np.array([slack]))[0] / counted < 1.25


def test_every_level_has_its_steps_and_every_secret_its_share():
    model = digit_tree(3, np.random.default_rng(2))
    result = search(
        digit_walk(3), model, thresholds_nats=np.array([np.inf]), keep=KeepSample(4, np.random.default_rng(0))
    )
    np.testing.assert_allclose(result.steps.sum(axis=1), [1.0, 4.0, 4.0])  # one a node


def test_nothing_remains_after_the_last_step_and_dear_steps_are_counted_at_the_end():
    steps = np.array([step_histogram(np.array([0.5, 500.0]), np.array([0.5, 0.5]))] * 2)
    forecast = Forecast(steps, 60.0)
    np.testing.assert_allclose(forecast.share(2, np.array([0.0, 3.0])), 1.0)
    np.testing.assert_allclose(forecast.share(7, np.array([0.0])), 1.0)  # deeper than any level seen
    np.testing.assert_allclose(forecast.share(1, np.array([0.4, 0.6, 59.0])), [0.0, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(forecast.share(0, np.array([0.9, 1.1])), [0.0, 0.25], atol=1e-12)


@pytest.mark.parametrize("mistaken", [0.2, 6.0])
def test_a_wrong_forecast_leaves_counts_unbiased(mistaken):
    model, walk = digit_tree(5, np.random.default_rng(3), spread=1.5), digit_walk(5)
    forecast = Forecast(np.array([step_histogram(np.array([mistaken]), np.array([1.0]))] * 5), 60.0)
    costs = np.sort(naive_costs(model, 5))
    for rank in (60, 2_000, 60_000):
        thresholds = np.full(1_500, costs[rank - 1] + 1e-9)
        keep = KeepSample(12, np.random.default_rng(rank), forecast)
        leaves = search(walk, model, thresholds_nats=thresholds, keep=keep).leaves
        counts = np.bincount(leaves.lanes, weights=leaves.weights, minlength=len(thresholds))
        assert abs(counts.mean() - rank) < 4.5 * counts.std() / np.sqrt(len(counts)), rank
