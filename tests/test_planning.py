"""Plans: what they promise, and which designs they refuse."""

import math
import re

import pytest
import result_factory as factory

from canary_audit.config import Config
from canary_audit.epsilon import epsilon_of
from canary_audit.errors import ConfigError
from canary_audit.gate import judge
from canary_audit.planning import plan_audit
from canary_audit.planning.text import plan_text
from canary_audit.results import CoinCanary, NotAvailable
from canary_audit.statistics.pvalues import exact_rank_p_value, holm

GROUP = {"name": "number", "format": "{digit:9}", "prefix": "The number is ", "levels": [1, 2, 4, 8, 16, 32]}


COINS = {"name": "coins", "format": "{digit:12}", "prefix": "The code is ", "controls": 0, "coin_flips": 200}
PRIVATE = {"target_epsilon": 4.0, "delta": 1e-5}


def config(*groups, data=(), audit=(), privacy=None):
    tables = groups or (GROUP,)
    source = {"source": "builtin:prose", "max_bytes": 350_000} | dict(data)
    raw = {"name": "plan", "data": source, "canaries": tables, "audit": dict(audit), "policy": {"path": "policy.toml"}}
    return Config.model_validate(raw | ({"privacy": privacy} if privacy else {}))


def plan(*groups, data=(), audit=(), privacy=None, **policy):
    return plan_audit(config(*groups, data=data, audit=audit, privacy=privacy), factory.make_policy(**policy))


def test_the_quickstart_plan():
    made = plan()
    (group,) = made.groups
    assert (group.space_size, group.space_bits) == (10**9, pytest.approx(29.897, abs=1e-3))
    assert (group.n_judged, group.n_not_judged, group.n_controls, group.n_coin_flips) == (24, 0, 20, 0)
    assert made.expected_insertions == 252
    assert group.expected_bytes == 252 * (len("The number is \n") + 9)
    assert made.detectable_bits == pytest.approx(math.log2(24 / 0.05))
    assert made.failing_bits == 10.0
    assert made.false_alarm_rate == 0.05
    assert made.data_share == pytest.approx(6048 / (6048 + 332_500))


def test_coin_flips_are_planted_half_of_the_time():
    made = plan(GROUP | {"coin_flips": 101})
    assert made.expected_insertions == 252 + 50.5
    assert made.groups[0].n_coin_flips == 101


def test_levels_that_are_not_judged_are_counted_apart():
    (group,) = plan(max_insertions=8, control_levels=(1,)).groups
    assert (group.n_judged, group.n_not_judged) == (12, 12)


def test_several_groups_share_one_correction():
    made = plan(GROUP, GROUP | {"name": "code", "format": "{hex:8}", "levels": [1]})
    assert made.n_judged == 28
    assert made.detectable_bits == pytest.approx(math.log2(28 / 0.05))


def test_share_of_unbounded_data_is_unknown():
    assert isinstance(plan(data={"max_bytes": None}).data_share, NotAvailable)


def test_what_the_plan_calls_detectable_holm_rejects():
    made = plan()
    size = math.ceil(2**made.detectable_bits) + 1
    assert holm([exact_rank_p_value(1, size)] + [1.0] * (made.n_judged - 1)).min() <= 0.05


@pytest.mark.parametrize(
    ("changes", "policy", "expected"),
    [
        ({}, {}, "Exposure of 10.0 bits or less"),
        ({}, {"max_exposure_bits": 0.0}, "Exposure of 8.9 bits or less"),
        ({}, {}, "another format than {digit:9}"),
        ({}, {"max_insertions": 16}, "repeats more than 16 times"),
        ({"levels": [4, 8]}, {}, "fewer than 4 times"),
        ({}, {"control_levels": (32,)}, "does not judge"),
    ],
)
def test_what_the_plan_cannot_see(changes, policy, expected):
    assert any(expected in spot for spot in plan(GROUP | changes, **policy).cannot_see)


def test_deduplicated_data_is_named():
    assert any("deduplicated" in spot for spot in plan(data={"deduplicate": True}).cannot_see)


@pytest.mark.parametrize(
    ("changes", "policy", "message"),
    [
        ({"levels": []}, {}, "judges none of its inserted canaries; it takes at least one level$"),
        ({}, {"max_insertions": 1, "control_levels": (1,)}, r"of at most 1 insertions other than .* \[1\]"),
        (
            {"format": "{digit:3}"},
            {},
            r"ends at 9.97 bits; it needs a space of more than 10.00 bits, such as \{digit:4\}",
        ),
        ({"format": "{digit:2}"}, {"max_exposure_bits": 0.0}, r"more than 8.91 bits, such as \{digit:3\}"),
        ({}, {"max_exposure_bits": 40.0}, r"more than 40.00 bits, such as \{digit:13\}"),
        ({"controls": 9}, {}, "9 never-inserted controls in all; the policy passes nothing with fewer than 10"),
    ],
)
def test_a_design_that_cannot_fail_is_refused(changes, policy, message):
    with pytest.raises(ConfigError, match=message):
        plan(GROUP | changes, **policy)


def test_too_few_references_are_refused():
    """Guards N >= m / alpha - 1: 24 canaries at 5 % need 479 references."""
    with pytest.raises(ConfigError, match="it takes at least 479"):
        plan(audit={"references": 478})
    assert plan(audit={"references": 479}).n_judged == 24
    assert plan(audit={"references": 0}).n_judged == 24


def test_a_refused_digit_count_is_what_it_takes():
    assert plan(GROUP | {"format": "{digit:4}"}).failing_bits == 10.0


def test_just_enough_controls_will_do():
    assert plan(GROUP | {"controls": 10}).groups[0].n_controls == 10
    assert plan(GROUP | {"controls": 5}, GROUP | {"name": "more", "prefix": "pin ", "controls": 5}).n_judged == 48


def test_a_group_of_controls_may_have_a_small_space():
    made = plan(GROUP, {"name": "spare", "format": "{digit:2}", "prefix": "pin ", "controls": 3})
    assert made.groups[1].n_judged == 0


# --- epsilon -------------------------------------------------------------------------------------------------------


def all_right(n_canaries, delta, rule):
    """The bound of an audit whose every guess is right."""
    coins = [CoinCanary(id=f"{n:06d}", inserted=2 * n < n_canaries, score=-float(n)) for n in range(n_canaries)]
    promise = factory.make_accounting(delta=delta) if delta else NotAvailable(not_available="not private")
    return epsilon_of(coins, promise, score="loss", guesses=rule)


@pytest.mark.parametrize("rule", ["grid", "fixed"])
@pytest.mark.parametrize("privacy", [None, PRIVATE])
def test_the_planned_ceiling_is_what_an_audit_with_all_guesses_right_gives(rule, privacy):
    made = plan(GROUP, COINS, audit={"guesses": rule}, privacy=privacy)
    expected = all_right(200, 1e-5 if privacy else 0.0, rule)
    assert made.epsilon.n_coin_flips == 200
    assert made.epsilon.ceiling == pytest.approx(expected.lower_bound)
    assert made.epsilon.limit_ceiling == made.epsilon.ceiling


def test_without_coin_flips_there_is_nothing_to_bound():
    made = plan()
    assert isinstance(made.epsilon.ceiling, NotAvailable)
    assert isinstance(made.epsilon.promise, NotAvailable)
    assert made.epsilon.false_alarm_rate == 0.0
    assert not any("psilon" in spot for spot in made.cannot_see)


def test_a_limit_that_the_coin_flips_cannot_exceed_is_refused_with_what_it_takes():
    with pytest.raises(
        ConfigError, match=r"limits epsilon to 4, .* plans 200 coin flips, .* it takes ([0-9]+) coin"
    ) as refusal:
        plan(GROUP, COINS, max_epsilon=4.0)
    needed = int(re.search(r"it takes (\d+) coin", str(refusal.value))[1])
    assert plan(GROUP, COINS | {"coin_flips": needed}, max_epsilon=4.0).epsilon.ceiling > 4.0
    with pytest.raises(ConfigError, match="it takes"):
        plan(GROUP, COINS | {"coin_flips": needed - 1}, max_epsilon=4.0)


@pytest.mark.parametrize("coin_flips", [0, 1])
def test_a_limit_without_coin_flips_is_refused(coin_flips):
    with pytest.raises(ConfigError, match=f"plans {coin_flips} coin flips; it takes"):
        plan(GROUP, COINS | {"coin_flips": coin_flips}, max_epsilon=1.0)


def test_a_limit_that_no_number_of_coin_flips_can_exceed_is_refused():
    with pytest.raises(ConfigError, match="no number of coin flips can at delta 1e-05"):
        plan(GROUP, COINS, privacy=PRIVATE, max_epsilon=9.0)


@pytest.mark.parametrize("privacy", [None, {"noise_multiplier": 0.0}])
def test_the_bound_that_assumes_dp_sgd_is_refused_without_it(privacy):
    with pytest.raises(ConfigError, match="'gaussian' holds for training by DP-SGD only"):
        plan(GROUP, COINS, privacy=privacy, max_epsilon=1.0, epsilon_assumption="gaussian")


def test_the_bound_that_assumes_dp_sgd_reaches_further():
    made = plan(GROUP, COINS, privacy=PRIVATE, max_epsilon=4.0, epsilon_assumption="gaussian")
    (expected,) = [b for b in all_right(200, 1e-5, "grid").bounds if b.method == "one-run-f-dp"]
    assert made.epsilon.limit_ceiling == pytest.approx(expected.epsilon)
    assert made.epsilon.limit_ceiling > 4.0 > made.epsilon.ceiling
    with pytest.raises(ConfigError, match=r"which can show .* at most; it takes [0-9]+ coin flips"):
        plan(GROUP, COINS | {"coin_flips": 20}, privacy=PRIVATE, max_epsilon=4.0, epsilon_assumption="gaussian")


def test_an_audit_of_epsilon_alone_is_a_plan():
    made = plan(COINS, max_epsilon=1.0, min_controls=0)
    assert made.n_judged == 0
    assert isinstance(made.failing_bits, NotAvailable)
    assert isinstance(made.detectable_bits, NotAvailable)
    assert made.false_alarm_rate == pytest.approx(0.05)
    assert made.cannot_see == (
        "Exposure and extraction: the policy judges no level, only epsilon.",
        "Epsilon of 1 or less: the policy allows it.",
    )
    with pytest.raises(ConfigError, match="judges none of its inserted canaries"):
        plan(COINS, min_controls=0)


def test_coin_flips_need_no_large_space():
    assert plan(GROUP, COINS | {"format": "{digit:3}"}).epsilon.n_coin_flips == 200


@pytest.mark.parametrize(
    ("privacy", "policy", "rate"),
    [
        (None, {}, 0.0),
        (PRIVATE, {}, 0.05),
        (None, {"max_epsilon": 1.0}, 0.05),
        (PRIVATE, {"max_epsilon": 1.0}, 0.05),
        (PRIVATE, {"max_epsilon": 1.0, "epsilon_assumption": "gaussian"}, 0.1),
        ({"noise_multiplier": 0.0}, {}, 0.0),
    ],
)
def test_every_bound_that_can_fail_a_model_has_an_error_of_its_own(privacy, policy, rate):
    """Promise and limit share one bound; the limit's is another one if it assumes more."""
    made = plan(GROUP, COINS, privacy=privacy, **policy)
    assert made.epsilon.false_alarm_rate == pytest.approx(rate)
    assert made.false_alarm_rate == pytest.approx(0.05 + rate)


@pytest.mark.parametrize(
    ("privacy", "coin_flips", "expected"),
    [
        (
            PRIVATE,
            200,
            r"its promise of epsilon 4: 200 coin flips can show 3.\d\d at most; it takes [0-9,]+ coin flips",
        ),
        (PRIVATE, 0, "its promise of epsilon: a bound takes at least two coin flips; 0 are planned"),
    ],
)
def test_a_promise_that_the_design_cannot_refute_is_named(privacy, coin_flips, expected):
    made = plan(GROUP, COINS | {"coin_flips": coin_flips}, privacy=privacy)
    assert any(re.search(expected, spot) for spot in made.cannot_see)
    assert not any(
        "promise" in spot for spot in plan(GROUP, COINS, privacy=PRIVATE | {"target_epsilon": 1.0}).cannot_see
    )


@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        (PRIVATE, "promises      epsilon 4, delta 1e-05, for a row of up to 64 tokens"),
        ({"noise_multiplier": 0.8}, "promises      noise multiplier 0.8, delta 1e-05, for a row of up to 64 tokens"),
        (PRIVATE | {"unit": "user"}, "promises      epsilon 4, delta 1e-05, for all rows of a user"),
        (PRIVATE, "bounds        epsilon from below by 200 coin flips: 3."),
        (PRIVATE, "power         at best, half of the runs show 0."),
        (PRIVATE, "false alarms  at most 10% of models that memorize nothing: 5% by exposure, 5% by epsilon"),
        (
            None,
            "coins         {digit:12}: 1e+12 secrets, 39.9 bits; 0 canaries judged, 0 not, 0 controls, 200 coin flips",
        ),
    ],
)
def test_the_plan_prints_promise_ceiling_and_error_rates(privacy, expected):
    assert expected in plan_text(plan(GROUP, COINS, privacy=privacy, data={"user_field": "who"}))


def test_the_plan_of_an_epsilon_alone_prints_no_exposure():
    text = plan_text(plan(COINS, max_epsilon=1.0, min_controls=0))
    assert "exposure above" not in text
    assert "by 200 coin flips" in text


def test_what_the_plan_refuses_the_gate_would_not_pass():
    """Even the best guesses on so few canaries exceed no limit that the plan calls out of reach."""
    best = factory.make_clean_result(epsilon=all_right(20, 0.0, "grid"))
    reasons = judge(best, factory.make_policy(max_epsilon=2.0)).reasons
    assert [reason.code for reason in reasons] == ["no-power"]
    with pytest.raises(ConfigError, match="limits epsilon to 2"):
        plan(GROUP, COINS | {"coin_flips": 20}, max_epsilon=2.0)
