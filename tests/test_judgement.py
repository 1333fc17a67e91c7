"""From evidence to a result, with a policy and without."""

import pytest
import result_factory as factory

from canary_audit.audit import Measurements
from canary_audit.gate import Policy, judge
from canary_audit.judgement import Evidence, conclude
from canary_audit.results import NotAvailable

POLICY = Policy(table=factory.make_policy(), sha256="a" * 64)


def evidence(result, **changes):
    """What was known before `result` was judged."""
    measured = Measurements(
        groups=result.groups, levels=result.levels, canaries=result.canaries, null=result.null, coins=()
    )
    taken = ("name", "seed", "config_sha256", "ledger_sha256", "model", "data", "training", "language")
    fields = {name: getattr(result, name) for name in taken}
    none = NotAvailable(not_available="trained without differential privacy")
    return Evidence(
        **(fields | {"measured": measured, "accounting": none, "score": "loss", "guesses": "grid"} | changes)
    )


def never():
    pytest.fail("the verdict does not depend on a positive control")


def test_without_a_policy_nothing_is_judged_and_it_is_said_how_to():
    result = conclude(evidence(factory.make_clean_result()), None, never)
    assert result.verdict == "INCONCLUSIVE"
    (reason,) = result.reasons
    assert reason.code == "no-policy"
    assert "canary-audit gate RESULT --policy FILE" in reason.message
    assert isinstance(result.policy, NotAvailable)
    assert isinstance(result.policy_sha256, NotAvailable)


def test_what_was_only_measured_can_be_judged_later():
    result = conclude(evidence(factory.make_result()), None, never)
    assert judge(result, POLICY.table).name == "FAIL"


def test_numbers_that_cannot_be_true_are_an_error_without_a_policy_too():
    broken = factory.make_clean_result()
    canaries = (broken.canaries[0].model_copy(update={"nll_bits": -1.0}), *broken.canaries[1:])
    result = conclude(evidence(broken.model_copy(update={"canaries": canaries})), None, never)
    assert result.verdict == "ERROR"
    assert [reason.code for reason in result.reasons] == ["impossible-number"]


def test_how_the_model_was_reached_becomes_part_of_the_result():
    served = factory.make_served_result()
    result = conclude(evidence(served, endpoint=served.endpoint, calls=served.calls), POLICY, never)
    assert (result.endpoint, result.calls) == (served.endpoint, served.calls)
    assert result.verdict == "FAIL"


def test_a_model_that_ran_here_needs_no_endpoint():
    result = conclude(evidence(factory.make_clean_result()), POLICY, factory.detected_control)
    assert result.verdict == "PASS"
    assert isinstance(result.endpoint, NotAvailable)
