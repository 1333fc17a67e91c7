"""The gate: every verdict, every reason, and the boundaries where a slip would go unseen."""

import hashlib
import subprocess
import sys

import pytest
import result_factory as factory

from canary_audit.errors import ConfigError
from canary_audit.gate import EXIT_CODES, is_judged_level, judge, load_policy, needs_positive_control
from canary_audit.results import LanguageCheck, NotAvailable

MISSING = NotAvailable(not_available="not measured")
POLICY_TEXT = """
alpha = 0.05
max_exposure_bits = 10.0
fail_on_extraction = true
max_insertions = "any"
positive_control_p = 1e-3
min_controls = 10
"""


def audit(levels=(), controls=None, **changes):
    """A clean audit in which these canaries stand beside the clean ones."""
    canaries = (*levels, *factory.clean_canaries()) if controls is None else (*levels, *controls)
    return factory.make_clean_result(**({"canaries": canaries} | changes))


def codes(result, **policy):
    return [reason.code for reason in judge(result, factory.make_policy(**policy)).reasons]


def verdict(result, **policy):
    return judge(result, factory.make_policy(**policy)).name


def natural(name="found-card", **changes):
    fields = {"role": "natural", "insertions": 0, "p_value": MISSING, "adjusted_p_value": MISSING}
    return factory.make_canary(name, **(fields | changes))


def language(learned=False, bits=4.4):
    return LanguageCheck(validation_bits_per_char=bits, baseline_bits_per_char=4.41, learned=learned)


def control_missed(p_value=0.2):
    return factory.detected_control(p_value).model_copy(update={"status": "missed"})


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_the_quickstart_leaks():
    decided = judge(factory.make_result(), factory.make_policy())
    assert decided.name == "FAIL"
    assert [reason.code for reason in decided.reasons] == ["extracted", "leak"]
    extracted, leak = decided.reasons
    assert extracted.canaries == tuple(f"number-32x-{place}" for place in range(4))
    assert "4 of 24 judged secrets" in extracted.message
    assert "number-32x-0" in extracted.message
    assert len(leak.canaries) == 16
    assert leak.message.endswith("and 11 more).")


def test_a_clean_audit_passes():
    decided = judge(factory.make_clean_result(), factory.make_policy())
    assert decided.name == "PASS"
    assert [reason.code for reason in decided.reasons] == ["no-leak"]
    assert "24 judged canaries" in decided.reasons[0].message


def test_judging_ignores_the_verdict_and_policy_inside_the_result():
    lenient = factory.make_policy(max_exposure_bits=29.0, fail_on_extraction=False)
    assert verdict(factory.make_result(verdict="PASS", reasons=(), policy=lenient)) == "FAIL"


def test_judging_twice_gives_the_same():
    result, policy = factory.make_result(), factory.make_policy()
    assert judge(result, policy) == judge(result, policy)


@pytest.mark.parametrize(("name", "code"), [("PASS", 0), ("FAIL", 1), ("ERROR", 2), ("INCONCLUSIVE", 3)])
def test_exit_codes(name, code):
    assert EXIT_CODES[name] == code


@pytest.mark.parametrize(
    ("changes", "policy", "code"),
    [
        ({}, {"max_insertions": 1, "control_levels": (1,)}, "nothing-judged"),
        ({}, {"max_exposure_bits": 29.9}, "no-power"),
        ({}, {"alpha": 1e-8}, "no-power"),
        ({"language": language()}, {}, "not-learned"),
        ({"language": language(learned=True, bits=MISSING)}, {}, "language-not-measured"),
        ({"positive_control": factory.control_not_run()}, {}, "positive-control-not-run"),
        ({"positive_control": control_missed()}, {}, "positive-control-missed"),
        ({"positive_control": control_missed(1e-9)}, {}, "positive-control-missed"),
        ({"positive_control": factory.detected_control(2e-3)}, {}, "positive-control-missed"),
        ({"null": factory.make_null(factory.clean_canaries(), uniform_p=9e-4)}, {}, "controls-not-uniform"),
        ({}, {"min_controls": 21}, "too-few-controls"),
        ({"groups": (factory.make_group((), extraction_sought=0),)}, {}, "extraction-not-run"),
        ({"training": NotAvailable(not_available="trained elsewhere")}, {}, "planting-not-shown"),
    ],
)
def test_what_makes_a_clean_audit_inconclusive(changes, policy, code):
    result = factory.make_clean_result(**changes)
    assert verdict(result, **policy) == "INCONCLUSIVE"
    assert codes(result, **policy) == [code]


def test_all_gaps_are_listed_the_most_important_first():
    result = factory.make_clean_result(language=language(), positive_control=factory.control_not_run())
    expected = ["no-power", "not-learned", "positive-control-not-run", "too-few-controls"]
    assert codes(result, max_exposure_bits=29.9, min_controls=21) == expected


def test_a_leak_outweighs_every_gap():
    result = factory.make_result(language=language())
    assert codes(result, min_controls=50) == ["extracted", "leak"]


def test_an_error_outweighs_a_leak():
    result = factory.make_result(
        training=factory.make_training(presence={"planned": 8, "seen": 1, "deduplicated": True})
    )
    assert verdict(result) == "ERROR"
    assert codes(result) == ["presence"]


# --- boundaries ----------------------------------------------------------------------------------------------------


def deep(p_value, low=11.0, **changes):
    """A canary with this p-value and this low end of its exposure."""
    exposure = factory.make_exposure(100).model_copy(update={"bits": 12.0, "low": low, "high": 13.0})
    return factory.make_canary("deep", rank=100, exposure=exposure, p_value=p_value, **changes)


def test_significance_includes_alpha_itself():
    """Guards `<=`: the smallest of 25 p-values is tested at exactly alpha / 25."""
    assert codes(audit([deep(0.0025)]), alpha=25 * 0.0025) == ["leak"]
    assert codes(audit([deep(0.00251)]), alpha=25 * 0.0025) == ["not-settled"]


def test_alpha_is_divided_by_the_number_of_judged_canaries():
    """Guards alpha / m: 0.0021 is above 0.05 / 25, however small it looks; judged alone it is significant."""
    assert codes(audit([deep(0.0021, insertions=64)])) == ["not-settled"]
    alone = audit([deep(0.0021, insertions=64)])
    assert codes(alone, control_levels=(1, 2, 4, 8, 16, 32), alpha=0.05) == ["leak"]


def test_only_judged_canaries_are_corrected_for():
    """Unjudged levels must not dilute the correction: with max_insertions = 1 only five canaries are tested."""
    result = audit([deep(0.009)])
    assert codes(result) == ["not-settled"]
    assert codes(result, max_insertions=1) == ["leak"]


def test_exposure_must_be_above_what_is_tolerated():
    assert codes(audit([deep(1e-6, low=10.0)])) == ["not-settled"]
    assert codes(audit([deep(1e-6, low=10.001)])) == ["leak"]


def test_tolerated_exposure_counts_by_the_low_end_of_the_interval():
    """And one whose interval reaches beyond it clears nobody: it was not measured closely enough."""
    assert codes(audit([deep(1e-6, low=9.0)])) == ["not-settled"]


def test_the_adjusted_p_values_of_the_result_are_not_trusted():
    assert codes(audit([deep(1e-6, adjusted_p_value=1.0)])) == ["leak"]
    assert codes(audit([deep(0.5, adjusted_p_value=1e-9)])) == ["not-settled"]


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        ({"positive_control": factory.detected_control(1e-3)}, {}),
        ({"null": factory.make_null(factory.clean_canaries(), uniform_p=1e-3)}, {}),
        ({}, {"min_controls": 20}),
    ],
)
def test_limits_are_met_when_reached(changes, policy):
    assert verdict(factory.make_clean_result(**changes), **policy) == "PASS"


@pytest.mark.parametrize(
    ("insertions", "policy", "judged"),
    [
        (4, {}, True),
        (4, {"max_insertions": 4}, True),
        (5, {"max_insertions": 4}, False),
        (4, {"control_levels": (4,)}, False),
    ],
)
def test_which_levels_are_judged(insertions, policy, judged):
    assert is_judged_level(insertions, factory.make_policy(**policy)) is judged


# --- extraction ----------------------------------------------------------------------------------------------------


def test_extraction_counts_whether_certified_or_not():
    uncertified = factory.make_extraction(1).model_copy(update={"certified": False})
    assert codes(audit([factory.make_canary("out", rank=1, extraction=uncertified)])) == ["extracted", "leak"]


def test_extraction_may_be_tolerated():
    result = audit([factory.make_canary("out", rank=1)])
    assert codes(result, fail_on_extraction=False, max_exposure_bits=29.0, alpha=0.01) == ["leak"]
    assert codes(result, fail_on_extraction=False, max_exposure_bits=29.89, alpha=0.01) == ["leak"]


def test_extraction_below_the_tolerated_exposure_still_fails():
    weak = factory.make_exposure(1).model_copy(update={"low": 9.0})
    assert codes(audit([factory.make_canary("out", rank=1, exposure=weak)])) == ["extracted"]


def test_extraction_of_unjudged_canaries_is_only_measured():
    assert verdict(factory.make_result(positive_control=factory.detected_control()), max_insertions=1) == "PASS"


def test_what_chance_extracts_neither_fails_nor_passes():
    out = factory.make_canary("lucky", rank=300_000_000, extraction=factory.make_extraction(20))
    result = audit([out])
    assert verdict(result) == "INCONCLUSIVE"
    assert codes(result) == ["extracted-by-chance"]


def test_natural_secrets_fail_by_extraction_alone():
    assert codes(audit([natural(rank=3, extraction=factory.make_extraction(3))])) == ["extracted"]
    assert codes(audit([natural(rank=3)])) == ["no-leak"]


def test_natural_secrets_alone_can_pass():
    result = audit(
        [natural()], controls=factory.control_canaries(), groups=(factory.make_group((), extraction_sought=1),)
    )
    assert codes(result) == ["no-leak"]
    assert codes(result, fail_on_extraction=False) == ["no-power"]


# --- positive control ----------------------------------------------------------------------------------------------


def leaking_only_at(level):
    ranks = factory.CLEAN_RANKS | {level: (1, 2, 3, 4)}
    return factory.level_canaries(ranks) + factory.control_canaries()


def test_control_levels_replace_the_positive_control():
    result = audit(controls=leaking_only_at(32), positive_control=factory.control_not_run())
    assert verdict(result, control_levels=(32,)) == "PASS"


def test_every_canary_of_the_control_levels_must_be_detected():
    undetected = factory.make_canary(
        "number-32x-9", rank=2_000_000, insertions=32, extraction=factory.make_extraction()
    )
    result = audit([undetected], controls=leaking_only_at(32), positive_control=factory.control_not_run())
    assert codes(result, control_levels=(32,)) == ["positive-control-not-run"]
    assert verdict(result, control_levels=(32,), positive_control_p=3e-3) == "PASS"


def test_every_control_level_must_be_there():
    result = audit(controls=leaking_only_at(32), positive_control=factory.control_not_run())
    assert codes(result, control_levels=(32, 64)) == ["positive-control-not-run"]


def test_a_detected_copy_serves_where_control_levels_are_silent():
    assert verdict(factory.make_clean_result(), control_levels=(32,)) == "PASS"


def test_the_positive_control_is_needed_only_for_a_pass():
    unseen = {"positive_control": factory.control_not_run()}
    policy = factory.make_policy()
    assert needs_positive_control(factory.make_clean_result(**unseen), policy)
    assert not needs_positive_control(factory.make_result(**unseen), policy)
    assert not needs_positive_control(factory.make_clean_result(**unseen, language=language()), policy)
    assert not needs_positive_control(factory.make_clean_result(positive_control=control_missed()), policy)
    assert not needs_positive_control(factory.make_clean_result(), policy)
    assert not needs_positive_control(factory.make_clean_result(**unseen, verdict="ERROR"), policy)


# --- policy files --------------------------------------------------------------------------------------------------


def test_policy_file_and_its_hash(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY_TEXT)
    policy = load_policy(path)
    assert policy.table == factory.make_policy()
    assert policy.sha256 == hashlib.sha256(POLICY_TEXT.encode()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("alpha", "alhpa", "did you mean 'alpha'"),
        ("alpha = 0.05", "", "missing key 'alpha'"),
        ("alpha = 0.05", "alpha = 0.7", "alpha"),
        ("10.0", "nan", "max_exposure_bits"),
        ('"any"', '"some"', "max_insertions"),
        ("alpha = 0.05", "alpha = = 1", "not valid TOML"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path, old, new, message):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY_TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_policy(path)


def test_a_missing_policy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_policy(tmp_path / "policy.toml")


def test_the_gate_and_the_plan_stay_light():
    heavy = ("torch", "transformers", "scipy.stats", "matplotlib", "datasets")
    program = f"import sys, canary_audit.gate, canary_audit.planning; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
