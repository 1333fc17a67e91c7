"""A budget that ends early widens intervals; it never makes them wrong, and never leaves a canary without one."""

from dataclasses import replace

import numpy as np
import pytest
from narrow_worlds import Priced, PricedTopTokens, TopTokens
from worlds import digit_walk, naive_costs, secret_of

from canary_audit import group_audit
from canary_audit.audit import measure_canaries
from canary_audit.canaries import derive_secrets, draw_ledger
from canary_audit.config import AuditConfig, CanaryConfig
from canary_audit.errors import BudgetSpentError
from canary_audit.exposure.estimates import RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.exposure.windows import measure_rank_bounds
from canary_audit.extraction import extract
from canary_audit.group_audit import ScoredModel, pay_for_scores
from canary_audit.models.table import digit_tree, memorizing
from canary_audit.results import NotAvailable
from canary_audit.vocabulary import ByteVocabulary

N_DIGITS = 5
BUDGETS = (130, 700, 1_500, 4_000, 20_000)
KEY = bytes(range(32))
PLANS = (
    CanaryConfig(name="mixed", format="{digit:4}", prefix="b ", levels=(1, 4), coin_flips=6, controls=4),
    CanaryConfig(name="coins", format="{digit:4}", prefix="a ", coin_flips=8, controls=0),
    CanaryConfig(name="again", format="{digit:4}", prefix="c ", levels=(1,), controls=2),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def world():
    """A table, and 30 of its numbers with their ranks."""
    model = digit_tree(N_DIGITS, rng(1), spread=1.5)
    costs = naive_costs(model, N_DIGITS)
    numbers = np.argsort(costs)[np.geomspace(1, 10**N_DIGITS, 30).astype(int) - 1]
    return model, numbers, (costs <= costs[numbers][:, None]).sum(axis=1)


def measured(model, numbers, budget, *, k=None, seed=0):
    """Estimates under a budget, and the model that was paid."""
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers]
    paid = Priced(model, budget) if k is None else PricedTopTokens(TopTokens(model, k), budget)
    measure = measure_ranks if k is None else measure_rank_bounds
    report = measure(
        digit_walk(N_DIGITS), paid, secrets, settings=RankSettings(), rng=rng(seed), nodes_left=paid.nodes_left
    )
    return report.estimates, paid


@pytest.mark.parametrize("k", [None, 7])
def test_intervals_hold_at_every_budget_and_widen_as_it_shrinks(world, k):
    model, numbers, ranks = world
    widths = []
    for budget in BUDGETS:
        holds, bits = [], []
        for seed in range(4):
            found, paid = measured(model, numbers, budget, k=k, seed=seed)
            assert paid.left >= 0
            holds += [one.low <= rank <= one.high for one, rank in zip(found, ranks, strict=True)]
            bits += [np.log2(one.high / one.low) for one in found]
        assert np.mean(holds) >= 0.95, budget
        widths.append(np.quantile(bits, [0.25, 0.5, 0.75]))
    assert (np.diff(widths, axis=0) <= 0.05).all()
    assert widths[0][1] > widths[-1][1] + 0.5


def test_where_only_costs_could_be_paid_for_a_rank_is_what_its_certificate_says(world):
    model, numbers, ranks = world
    found, _ = measured(model, numbers, BUDGETS[0])
    certified = [(one, rank) for one, rank in zip(found, ranks, strict=True) if one.method == "certificate"]
    assert certified
    for one, rank in certified:
        assert one.rank is None
        assert one.low == 1.0
        assert rank <= one.high == min(10**N_DIGITS, np.floor(np.exp(one.nll_nats) * (1 + 1e-9)))
        assert not one.replicates


def test_a_censored_cost_certifies_nothing(world):
    model, numbers, _ = world
    found, _ = measured(model, numbers, BUDGETS[0], k=4)
    censored = [one for one in found if one.censored]
    assert censored
    assert {(one.low, one.high, one.rank, one.method) for one in censored} == {(1.0, 1e5, None, "certificate")}


def test_where_not_even_costs_could_be_paid_for_the_error_passes(world):
    model, numbers, _ = world
    with pytest.raises(BudgetSpentError):
        measured(model, numbers, 20)


def test_a_rank_that_is_certain_needs_nothing_beyond_the_canary_s_own_cost():
    secret = b"28126"
    model = memorizing(digit_tree(N_DIGITS, rng(2), spread=0.5), secret, 0.95)
    for k in (None, 3):
        (found,), paid = measured(model, [int(secret)], N_DIGITS, k=k)
        assert (found.rank, found.exact, paid.left) == (1.0, True, 0)


def test_a_known_noise_floor_widens_what_is_measured(world):
    model, numbers, _ = world
    secrets = [secret_of(int(number), N_DIGITS) for number in numbers[10:14]]
    calm, noisy = (
        measure_ranks(digit_walk(N_DIGITS), model, secrets, settings=RankSettings(), rng=rng(), noise_floor_nats=floor)
        for floor in (0.0, 0.2)
    )
    assert (calm.noise_floor_nats, noisy.noise_floor_nats) == (0.0, 0.2)
    assert all(one.low == one.high for one in calm.estimates)
    assert all(one.low < one.rank < one.high for one in noisy.estimates)


# --- whole audits --------------------------------------------------------------------------------------------------


def audited(budget, *, k=None):
    """An audit of three groups at a price, and the model that was paid."""
    ledger = draw_ledger(PLANS, KEY)
    secrets = derive_secrets(ledger, KEY)
    model = digit_tree(4, rng(3), spread=1.0)
    for canary in ledger.canaries:
        if canary.insertions == 4:
            model = memorizing(model, secrets[canary.id], 0.5)
    paid = Priced(model, budget) if k is None else PricedTopTokens(TopTokens(model, k), budget)
    scored = ScoredModel(
        language_model=paid, vocabulary=ByteVocabulary(), lead=(), nodes_left=paid.nodes_left, noise_floor_nats=1e-4
    )
    found = measure_canaries(scored, ledger, secrets, settings=AuditConfig(), seed=1, on_progress=lambda *_: None)
    return found, paid, replace(scored, language_model=model, nodes_left=None), ledger, secrets


def true_exposures(scored, ledger, secrets):
    """Exposure in bits of every canary, by enumeration."""
    costs = naive_costs(scored.language_model, 4)
    return {
        canary.id: np.log2(10**4 / (costs <= costs[int(secrets[canary.id])] + 1e-12).sum())
        for canary in ledger.canaries
    }


@pytest.mark.parametrize("k", [None, 6])
@pytest.mark.parametrize("budget", [250, 1_500, 20_000])
def test_an_audit_within_a_budget_gives_every_canary_an_interval_that_holds(budget, k):
    found, paid, scored, ledger, secrets = audited(budget, k=k)
    truth = true_exposures(scored, ledger, secrets)
    assert paid.left >= 0
    holds = [c.exposure.low - 1e-9 <= truth[c.id] <= c.exposure.high + 1e-9 for c in found.canaries]
    assert np.mean(holds) >= 0.9
    assert all(0.0 < canary.p_value <= 1.0 for canary in found.canaries)
    assert {group.noise_floor_nats for group in found.groups} == {1e-4, 0.0}
    assert len(found.coins) == 14
    for level in found.levels:
        assert level.extracted_low <= level.n_extracted / level.n_canaries <= level.extracted_high
        members = [c for c in found.canaries if (c.group, c.insertions) == (level.group, level.insertions)]
        known = [c for c in members if not isinstance(c.exposure.bits, NotAvailable)]
        assert isinstance(level.median_bits, NotAvailable) == (len(known) < len(members))
        assert level.low_bits <= level.high_bits


@pytest.mark.parametrize("k", [None, 6])
def test_coins_are_scored_before_the_budget_can_end(k):
    found, _, scored, _, secrets = audited(250, k=k)
    costs = naive_costs(scored.language_model, 4) / np.log(2)
    for coin in found.coins:
        assert -coin.score <= costs[int(secrets[coin.id])] + 1e-9
    if k is None:
        exact = [costs[int(secrets[coin.id])] for coin in found.coins]
        np.testing.assert_allclose([-coin.score for coin in found.coins], exact)


@pytest.mark.parametrize("extra", [0, 40, 400])
def test_ranks_of_one_group_never_take_what_the_costs_of_another_need(extra):
    _, rich, scored, ledger, secrets = audited(10**6)
    paid = Priced(scored.language_model, 10**6)
    for group in ledger.groups:
        pay_for_scores(replace(scored, language_model=paid, nodes_left=paid.nodes_left), ledger, group, secrets)
    assert paid.spent < rich.spent / 2
    found, _, *_ = audited(paid.spent + extra)
    assert len(found.canaries) == 18
    with pytest.raises(BudgetSpentError):
        audited(paid.spent - 1)


def test_ranking_leaves_a_fifth_to_extraction_and_their_share_to_other_groups(monkeypatch):
    """Of a budget that never shrinks: the first group has 12 of the 18 canaries to rank, the last all that are left."""
    allowed = []

    def told(measure):
        return lambda *args, nodes_left, **kwargs: (
            allowed.append(nodes_left()) or measure(*args, nodes_left=nodes_left, **kwargs)
        )

    monkeypatch.setattr(group_audit, "measure_ranks", told(measure_ranks))
    monkeypatch.setattr(group_audit, "extract", told(extract))
    ledger = draw_ledger(PLANS, KEY)
    scored = ScoredModel(
        language_model=digit_tree(4, rng(3)), vocabulary=ByteVocabulary(), lead=(), nodes_left=lambda: 9_000
    )
    measure_canaries(scored, ledger, derive_secrets(ledger, KEY), settings=AuditConfig(), seed=1)
    assert allowed == [4_800, 6_000, 7_200, 9_000]


def test_controls_with_intervals_alone_are_not_tested_for_uniformity():
    found, *_ = audited(250)
    assert found.null.n_controls == 6
    assert "of 6 controls only an interval is known" in found.null.uniform_p.not_available
    assert isinstance(found.null.mean_bits, NotAvailable)


def test_an_audit_that_cannot_pay_for_its_canaries_costs_says_so():
    with pytest.raises(BudgetSpentError):
        audited(60)


def test_an_ample_budget_gives_the_numbers_of_a_free_model():
    found, _, scored, ledger, secrets = audited(10**6)
    free = measure_canaries(scored, ledger, secrets, settings=AuditConfig(), seed=1)
    assert [canary.exposure for canary in found.canaries] == [canary.exposure for canary in free.canaries]
    assert [canary.extraction.found for canary in found.canaries] == [c.extraction.found for c in free.canaries]
    assert found.coins == free.coins
    assert all(canary.samples_needed >= 1 for canary in found.canaries)
    assert all(canary.samples_needed < 2**canary.nll_bits for canary in found.canaries if canary.nll_bits > 1)
