"""Ranks, counted and estimated, against worlds where every rank is known."""

import numpy as np
import pytest
from worlds import digit_walk, naive_costs, secret_of

from canary_audit.errors import ModelError, SpaceError
from canary_audit.exposure.ranks import RankSettings, measure_ranks, score_paths
from canary_audit.models.table import TableModel, digit_tree

N_DIGITS = 6


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_exact_rank_equals_full_enumeration_on_a_space_of_100000():
    model, walk = digit_tree(5, rng(1), spread=1.5), digit_walk(5)
    costs = naive_costs(model, 5)
    numbers = rng(2).choice(100_000, 100, replace=False)
    report = measure_ranks(
        walk, model, [secret_of(int(n), 5) for n in numbers], settings=RankSettings(exact_nodes=20_000), rng=rng()
    )
    assert all(estimate.exact for estimate in report.estimates)
    assert [estimate.rank for estimate in report.estimates] == [
        float((costs <= costs[n] + 1e-12).sum()) for n in numbers
    ]
    np.testing.assert_allclose([estimate.nll_nats for estimate in report.estimates], costs[numbers])


def test_estimates_are_unbiased_and_their_intervals_cover():
    """In 10^6 secrets: bias at most 2 % (beyond 3 standard errors) at each rank, 95 % intervals cover at least 92 %."""
    repeats = 250
    covered = []
    for spread in (1.0, 2.0):
        model, walk = digit_tree(N_DIGITS, rng(int(10 * spread)), spread=spread), digit_walk(N_DIGITS)
        order = np.argsort(naive_costs(model, N_DIGITS))
        for rank in (3, 30, 300, 5_000, 50_000, 500_000):
            report = measure_ranks(
                walk,
                model,
                [secret_of(int(order[rank - 1]), N_DIGITS)] * repeats,
                settings=RankSettings(exact_nodes=0),
                rng=rng(rank),
            )
            ranks = np.array([estimate.rank for estimate in report.estimates])
            assert not any(estimate.exact for estimate in report.estimates)
            assert abs(ranks.mean() / rank - 1) <= 0.02 + 3 * ranks.std() / rank / np.sqrt(repeats), (spread, rank)
            covered.append(np.mean([estimate.low <= rank <= estimate.high for estimate in report.estimates]))
    assert np.mean(covered) >= 0.92, covered
    assert min(covered) >= 0.88, covered


def test_the_ends_of_an_interval_are_whole_ranks():
    """In this world most replicates say 3.00 to 3.12: an end of 3.01 would miss the truth in half of all runs."""
    model, walk = digit_tree(N_DIGITS, rng(20), spread=2.0), digit_walk(N_DIGITS)
    canary = int(np.argsort(naive_costs(model, N_DIGITS))[2])
    settings = RankSettings(exact_nodes=0, nodes_per_canary=300)
    report = measure_ranks(walk, model, [secret_of(canary, N_DIGITS)] * 200, settings=settings, rng=rng(1))
    assert all(estimate.low == int(estimate.low) for estimate in report.estimates)
    assert np.mean([estimate.low <= 3 <= estimate.high for estimate in report.estimates]) >= 0.92


def test_ties_count_against_the_canary():
    """With all secrets equally likely every rank is |R|: exposure is a lower bound on the leak."""
    model, walk = digit_tree(3, rng(), spread=0.0), digit_walk(3)
    report = measure_ranks(walk, model, [b"000", b"999"], settings=RankSettings(), rng=rng())
    assert [estimate.rank for estimate in report.estimates] == [1_000.0, 1_000.0]


def test_the_likeliest_secret_has_rank_one_and_a_certificate_holds():
    model, walk = digit_tree(5, rng(3), spread=2.0), digit_walk(5)
    costs = naive_costs(model, 5)
    report = measure_ranks(walk, model, [secret_of(int(np.argmin(costs)), 5)], settings=RankSettings(), rng=rng())
    assert report.estimates[0].rank == 1.0
    assert report.estimates[0].rank <= np.exp(report.estimates[0].nll_nats)


def test_small_ranks_are_counted_and_deep_ones_estimated():
    model, walk = digit_tree(N_DIGITS, rng(4), spread=2.0), digit_walk(N_DIGITS)
    order = np.argsort(naive_costs(model, N_DIGITS))
    secrets = [secret_of(int(order[rank - 1]), N_DIGITS) for rank in (5, 900_000, 40)]
    report = measure_ranks(walk, model, secrets, settings=RankSettings(exact_nodes=5_000), rng=rng())
    assert [estimate.exact for estimate in report.estimates] == [True, False, True]
    assert [estimate.rank for estimate in report.estimates[::2]] == [5.0, 40.0]


def test_the_same_seed_gives_the_same_report():
    model, walk = digit_tree(5, rng(5)), digit_walk(5)
    settings = RankSettings(exact_nodes=0)
    first, second = (measure_ranks(walk, model, [b"12345"], settings=settings, rng=rng(7)) for _ in range(2))
    assert first == second


def test_scores_of_chosen_paths_equal_the_table():
    model, walk = digit_tree(4, rng(6)), digit_walk(4)
    secrets = [b"0000", b"1234", b"9999", b"1234"]
    scores = score_paths(walk, model, [walk.path(secret) for secret in secrets])
    np.testing.assert_allclose(scores, naive_costs(model, 4)[[0, 1234, 9999, 1234]])


def test_a_secret_of_another_format_is_refused():
    with pytest.raises(SpaceError):
        measure_ranks(digit_walk(4), digit_tree(4, rng()), [b"12x4"], settings=RankSettings(), rng=rng())


def test_scores_that_depend_on_the_batch_are_an_error():
    """A model whose scores move with the batch would give rank 0 to a canary, or any other rank."""

    class Unsteady(TableModel):
        def step(self, state, parents, tokens, children):
            following, log_probs = super().step(state, parents, tokens, children)
            return following, log_probs - 0.01 * (len(tokens) > 1)

    table = digit_tree(4, rng(8))
    model = Unsteady(table.log_probs, table.transitions)
    with pytest.raises(ModelError, match="shape of the batch"):
        measure_ranks(digit_walk(4), model, [b"1234"], settings=RankSettings(), rng=rng())


class NoisyModel:
    """A model whose scores move with the shape of the batch, as half precision does: by up to `nats` a token."""

    def __init__(self, model: TableModel, nats: float) -> None:
        self._model, self._nats = model, nats

    def root(self, prompt, children):
        state, log_probs = self._model.root(prompt, children)
        return state, log_probs - self._shift(1)

    def step(self, state, parents, tokens, children):
        state, log_probs = self._model.step(state, parents, tokens, children)
        return state, log_probs - self._shift(len(parents))

    def _shift(self, n_rows: int) -> float:
        return self._nats * (n_rows % 7) / 7


@pytest.mark.parametrize("exact_nodes", [0, 50_000])
def test_the_noise_of_half_precision_widens_the_interval(exact_nodes):
    table, walk = digit_tree(5, rng(4), spread=1.5), digit_walk(5)
    costs = naive_costs(table, 5)
    numbers = np.argsort(costs)[[40, 400, 4_000]]
    secrets = [secret_of(int(number), 5) for number in numbers]
    settings = RankSettings(exact_nodes=exact_nodes)
    calm = measure_ranks(walk, table, secrets, settings=settings, rng=rng())
    noisy = measure_ranks(walk, NoisyModel(table, 0.05), secrets, settings=settings, rng=rng())
    assert noisy.noise_floor_nats > 0.005
    if exact_nodes:  # an estimate is wider than its noise
        assert all(one.low == one.high for one in calm.estimates)
        assert all(one.low < one.high for one in noisy.estimates)
    for one, number in zip(noisy.estimates, numbers, strict=True):
        assert one.low <= (costs <= costs[number]).sum() <= one.high
