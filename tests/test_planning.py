"""Plans: what they promise, and which designs they refuse."""

import math

import pytest
import result_factory as factory

from canary_audit.config import Config
from canary_audit.errors import ConfigError
from canary_audit.planning import plan_audit
from canary_audit.results import NotAvailable
from canary_audit.statistics.pvalues import exact_rank_p_value, holm

GROUP = {"name": "number", "format": "{digit:9}", "prefix": "The number is ", "levels": [1, 2, 4, 8, 16, 32]}


def config(*groups, data=(), audit=()):
    tables = groups or (GROUP,)
    source = {"source": "builtin:prose", "max_bytes": 350_000} | dict(data)
    raw = {"name": "plan", "data": source, "canaries": tables, "audit": dict(audit), "policy": {"path": "policy.toml"}}
    return Config.model_validate(raw)


def plan(*groups, data=(), audit=(), **policy):
    return plan_audit(config(*groups, data=data, audit=audit), factory.make_policy(**policy))


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
