"""Promise and bounds put together, and scores joined to canaries by id."""

import math
import random

import pytest
import result_factory as factory

from canary_audit.canaries import draw_ledger
from canary_audit.config import CanaryConfig
from canary_audit.epsilon import epsilon_of, join_scores
from canary_audit.errors import ResultError
from canary_audit.results import CoinCanary, Epsilon, NotAvailable
from canary_audit.statistics.guesses import guess_counts
from canary_audit.statistics.one_run import one_run_bound

NOTHING = NotAvailable(not_available="trained without differential privacy")
LEDGER = draw_ledger(
    [CanaryConfig(name="pin", format="{digit:6}", prefix="pin ", levels=(1,), controls=3, coin_flips=20)], bytes(32)
)
COINS = [canary for canary in LEDGER.canaries if canary.role == "coin"]


def separated(n_canaries):
    """Every other canary is in, and scores higher than all the others."""
    return [
        CoinCanary(id=f"pin-coin-{place:03d}", inserted=place % 2 == 0, score=100.0 * (place % 2 == 0) - place)
        for place in range(n_canaries)
    ]


def found(canaries, accounting=NOTHING, guesses="grid"):
    epsilon = epsilon_of(canaries, accounting, score="loss", guesses=guesses)
    assert isinstance(epsilon, Epsilon)
    return epsilon


# --- promise and bounds --------------------------------------------------------------------------------------------


def test_neither_promise_nor_canaries_is_not_available():
    assert isinstance(epsilon_of([], NOTHING, score="loss", guesses="grid"), NotAvailable)


@pytest.mark.parametrize("guesses", ["grid", "fixed"])
def test_the_first_bound_is_the_one_that_the_plan_fixed(guesses):
    epsilon = found(separated(64), factory.make_accounting(), guesses)
    by_hand = one_run_bound(
        [coin.score for coin in separated(64)], [coin.inserted for coin in separated(64)], delta=1e-5, rule=guesses
    )
    first = epsilon.bounds[0]
    assert first.method == f"one-run-{guesses}"
    assert (epsilon.lower_bound, epsilon.ceiling, epsilon.guesses) == (first.epsilon, first.ceiling, first.guesses)
    assert first.epsilon == by_hand.epsilon > 0
    assert first.guesses // 2 in guess_counts(64, guesses)
    assert epsilon.assumption == first.assumption == "none"
    assert (epsilon.auc, epsilon.confidence, epsilon.score) == (1.0, 0.95, "loss")


def test_every_bound_says_what_it_assumes():
    bounds = found(separated(64), factory.make_accounting()).bounds
    assert [(bound.method, bound.assumption) for bound in bounds] == [
        ("one-run-grid", "none"),
        ("one-run-fixed", "none"),
        ("clopper-pearson", "independent"),
        ("one-run-f-dp", "gaussian"),
        ("gaussian-dp", "gaussian"),
    ]
    assert all(0 <= bound.correct <= bound.guesses for bound in bounds)
    assert all(0 < bound.epsilon <= bound.ceiling for bound in bounds)


def test_without_a_promise_bounds_are_pure_and_nothing_is_called_gaussian():
    epsilon = found(separated(64))
    assert epsilon.delta == 0.0
    assert epsilon.accounted == epsilon.unit == epsilon.accounting == NOTHING
    assert {bound.assumption for bound in epsilon.bounds} == {"none", "independent"}
    assert epsilon.lower_bound > found(separated(64), factory.make_accounting(delta=1e-3)).lower_bound


def test_a_promise_without_canaries_is_stated_alone():
    epsilon = found([], factory.make_accounting())
    assert (epsilon.accounted, epsilon.delta, epsilon.unit) == (5.3, 1e-5, "a row of up to 64 tokens")
    assert isinstance(epsilon.lower_bound, NotAvailable)
    assert isinstance(epsilon.ceiling, NotAvailable)
    assert isinstance(epsilon.auc, NotAvailable)
    assert (epsilon.bounds, epsilon.guesses) == ((), 0)


def test_a_single_canary_bounds_nothing():
    epsilon = found(separated(1))
    assert isinstance(epsilon.lower_bound, NotAvailable)
    assert "at least" not in epsilon.lower_bound.not_available
    assert epsilon.bounds == ()


def test_coins_on_one_side_are_bounded_but_not_compared():
    same = [coin.model_copy(update={"inserted": True}) for coin in separated(20)]
    epsilon = found(same, factory.make_accounting())
    assert epsilon.lower_bound == 0.0
    assert isinstance(epsilon.auc, NotAvailable)
    assert [bound.method for bound in epsilon.bounds] == ["one-run-grid", "one-run-fixed", "one-run-f-dp"]


def test_the_order_of_the_scores_does_not_matter():
    """Ties are broken by id, so a file sorted by coin cannot turn them in anybody's favour."""
    tied = [coin.model_copy(update={"score": float(place % 3)}) for place, coin in enumerate(separated(60))]
    by_coin = sorted(tied, key=lambda coin: coin.inserted)
    shuffled = random.Random(1).sample(tied, len(tied))
    assert found(tied) == found(by_coin) == found(shuffled)
    assert [coin.id for coin in found(by_coin).canaries] == sorted(coin.id for coin in tied)


def test_a_repeated_canary_is_refused():
    with pytest.raises(ResultError, match=r"1 canaries with more than one score, such as pin-coin-003"):
        found([*separated(10), separated(10)[3]])


# --- scores by id --------------------------------------------------------------------------------------------------


def test_scores_are_joined_by_id_in_ledger_order():
    scores = [(canary.id, float(place)) for place, canary in enumerate(COINS)]
    joined = join_scores(LEDGER.canaries, random.Random(2).sample(scores, len(scores)))
    assert [(coin.id, coin.score) for coin in joined] == scores
    assert [coin.inserted for coin in joined] == [canary.insertions == 1 for canary in COINS]


SCORES = [(canary.id, 1.0) for canary in COINS]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (SCORES[1:], f"1 coin-flipped canaries have none, such as {COINS[0].id}"),
        ([*SCORES, SCORES[0]], f"1 canaries with more than one score, such as {COINS[0].id}"),
        ([*SCORES, ("pin-coin-999", 1.0)], "1 are of no coin-flipped canary, such as pin-coin-999"),
        ([*SCORES, ("pin-control-00", 1.0)], "of no coin-flipped canary, such as pin-control-00"),
        ([*SCORES[1:], (COINS[0].id, math.nan)], f"not a finite number, such as {COINS[0].id}"),
        ([*SCORES[1:], (COINS[0].id, -math.inf)], f"not a finite number, such as {COINS[0].id}"),
    ],
)
def test_scores_that_do_not_fit_the_ledger_are_refused(scores, message):
    with pytest.raises(ResultError, match=message):
        join_scores(LEDGER.canaries, scores)
