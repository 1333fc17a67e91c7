"""The gate: every verdict, every reason, and the boundaries where a slip would go unseen."""

import hashlib
import subprocess
import sys

import pytest
import result_factory as factory

from canary_audit.epsilon import epsilon_of
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


# --- epsilon -------------------------------------------------------------------------------------------------------


def private(n_wrong=200, n_canaries=500, accounted=5.3, **changes):
    """A clean audit of a privately trained model whose coins are told as well as `n_wrong` mistakes allow."""
    accounting = factory.make_accounting(epsilon=accounted)
    epsilon = factory.make_private_epsilon(n_canaries, n_wrong, accounting)
    return factory.make_clean_result(**({"epsilon": epsilon} | changes))


def not_private(n_canaries=16):
    return factory.make_clean_result(epsilon=factory.make_epsilon(n_canaries))


def bound_of(result):
    return result.epsilon.lower_bound


def test_a_promise_that_holds_passes():
    assert codes(private()) == ["no-leak"]


def test_a_refuted_promise_fails():
    result = private(n_wrong=50, accounted=1.0)
    assert bound_of(result) > 1.5
    decided = judge(result, factory.make_policy())
    assert decided.name == "FAIL"
    assert [reason.code for reason in decided.reasons] == ["claim-refuted"]
    assert "promises epsilon 1 (delta 1e-05) for a row of up to 64 tokens" in decided.reasons[0].message
    assert f"{bound_of(result):.3g} or more at 95 % confidence" in decided.reasons[0].message


def test_a_promise_is_refuted_by_more_than_it_says_only():
    """Guards `>`: a bound that equals the promise contradicts nothing."""
    bound = bound_of(private(n_wrong=50))
    assert codes(private(n_wrong=50, accounted=bound)) == ["no-leak"]
    assert codes(private(n_wrong=50, accounted=bound * (1 - 1e-9))) == ["claim-refuted"]


def test_a_promise_without_coins_is_not_held_against_anything():
    assert codes(private(0, 0)) == ["no-leak"]


def test_more_epsilon_than_the_policy_allows_fails():
    result = private(n_wrong=50)
    assert codes(result, max_epsilon=bound_of(result)) == ["no-leak", "epsilon-within"]
    assert codes(result, max_epsilon=bound_of(result) - 1e-9) == ["epsilon"]
    assert codes(result, max_epsilon=1.0) == ["epsilon"]
    assert verdict(result, max_epsilon=1.0) == "FAIL"


def test_a_model_without_a_promise_can_exceed_the_limit_too():
    telling = factory.make_private_epsilon(500, 0)
    missing = NotAvailable(not_available="trained without differential privacy")
    bare = epsilon_of(telling.canaries, missing, score="loss", guesses="fixed")
    assert codes(factory.make_clean_result(epsilon=bare), max_epsilon=2.0) == ["epsilon"]


def test_the_gaussian_bound_is_tighter_and_gates_only_where_it_is_asked_for():
    result = private(n_wrong=120)
    assert bound_of(result) < 1.2
    assert codes(result, max_epsilon=1.2) == ["no-leak", "epsilon-within"]
    decided = judge(result, factory.make_policy(max_epsilon=1.2, epsilon_assumption="gaussian"))
    assert [reason.code for reason in decided.reasons] == ["epsilon"]
    assert "Gaussian noise" in decided.reasons[0].message


def test_the_gaussian_bound_never_refutes_a_promise():
    """It assumes what the promise is about."""
    result = private(n_wrong=120, accounted=1.2)
    (gaussian,) = [bound for bound in result.epsilon.bounds if bound.method == "one-run-f-dp"]
    assert gaussian.epsilon > 1.2 > bound_of(result)
    assert codes(result, epsilon_assumption="gaussian") == ["no-leak"]


def test_the_gaussian_bound_gates_no_model_that_was_not_trained_by_dp_sgd():
    result = not_private(500)
    assert codes(result, max_epsilon=1.0) == ["no-leak", "epsilon-within"]
    assert codes(result, max_epsilon=1.0, epsilon_assumption="gaussian") == ["assumption-not-met"]
    assert verdict(result, max_epsilon=1.0, epsilon_assumption="gaussian") == "INCONCLUSIVE"


@pytest.mark.parametrize(
    "result",
    [factory.make_clean_result(), private(0, 0), private(0, 1), private(8, 16)],
    ids=["no epsilon", "no coins", "one coin", "few coins"],
)
def test_a_limit_that_could_not_have_been_exceeded_clears_nobody(result):
    """Guards the ceiling: of sixteen canaries even the best guesses show no epsilon of 2."""
    assert codes(result, max_epsilon=2.0) == ["no-power"]
    assert verdict(result, max_epsilon=2.0) == "INCONCLUSIVE"


def test_the_ceiling_must_be_above_the_limit():
    result = private(n_wrong=250)
    assert codes(result, max_epsilon=result.epsilon.ceiling) == ["no-power"]
    assert codes(result, max_epsilon=result.epsilon.ceiling - 1e-9) == ["no-leak", "epsilon-within"]


def epsilon_alone(**changes):
    """Nothing but coin-flipped canaries."""
    return private(canaries=(), **changes)


def test_an_audit_of_epsilon_alone_can_pass_and_needs_all_else_that_a_pass_needs():
    assert codes(epsilon_alone(), min_controls=0) == ["nothing-judged"]
    assert codes(epsilon_alone(), max_epsilon=2.0, min_controls=0) == ["epsilon-within"]
    assert verdict(epsilon_alone(), max_epsilon=2.0, min_controls=0) == "PASS"
    assert codes(epsilon_alone(n_wrong=20), max_epsilon=2.0, min_controls=0) == ["epsilon"]
    for changes, code in [
        ({"positive_control": factory.control_not_run()}, "positive-control-not-run"),
        ({"language": language()}, "not-learned"),
        ({"training": NotAvailable(not_available="trained elsewhere")}, "planting-not-shown"),
    ]:
        assert codes(epsilon_alone(**changes), max_epsilon=2.0, min_controls=0) == [code]
    assert codes(epsilon_alone(), max_epsilon=2.0) == ["too-few-controls"]


def test_an_audit_of_epsilon_alone_runs_the_positive_control():
    unseen = epsilon_alone(positive_control=factory.control_not_run())
    assert needs_positive_control(unseen, factory.make_policy(max_epsilon=2.0, min_controls=0))
    assert not needs_positive_control(unseen, factory.make_policy(min_controls=0))


def test_a_leak_of_a_repeated_canary_fails_and_is_explained_by_group_privacy():
    result = factory.make_result(epsilon=factory.make_private_epsilon())
    decided = judge(result, factory.make_policy())
    assert [reason.code for reason in decided.reasons] == ["extracted", "leak"]
    for reason in decided.reasons:
        assert "k occurrences together have k times as much (170 for 32); it does not exclude this" in reason.message
    assert "occurrences together" not in judge(factory.make_result(), factory.make_policy()).reasons[0].message


def promise(epsilon):
    """One that the coins say nothing about."""
    return factory.make_private_epsilon(n_wrong=250, accounting=factory.make_accounting(epsilon=epsilon))


def test_exposure_beyond_what_a_promise_allows_refutes_it():
    """Inserted once, at p = 1e-7 and 24 canaries: epsilon 10 allows it, 0.1 does not, and 32 occurrences of it do."""
    once = audit([deep(1e-7)], epsilon=promise(0.1))
    assert codes(once) == ["leak", "claim-refuted"]
    assert judge(once, factory.make_policy()).reasons[1].canaries == ("deep",)
    assert "does not exclude" not in judge(once, factory.make_policy()).reasons[0].message
    assert codes(once, max_exposure_bits=20.0) == ["claim-refuted"]
    assert codes(audit([deep(1e-7)], epsilon=promise(10.0))) == ["leak"]
    assert codes(audit([deep(1e-7, insertions=32)], epsilon=promise(0.5))) == ["leak"]


def test_a_promise_never_makes_an_innocent_exposure_suspicious():
    """Its p-values are those of exposure, only larger."""
    assert codes(audit([deep(0.0021)], epsilon=promise(0.0))) == ["not-settled"]


@pytest.mark.parametrize("order", [1, -1])
def test_ties_are_broken_by_id_whatever_the_order_of_the_result(order):
    """Scores that are all the same say nothing, also where all inserted canaries are listed first."""
    epsilon = factory.make_private_epsilon(500, 0)
    tied = [
        coin.model_copy(update={"score": 1.0, "id": f"{int(coin.id[-3:]) * 7 % 500:03d}"}) for coin in epsilon.canaries
    ]
    anew = epsilon_of(tied[::order], epsilon.accounting, score="loss", guesses="grid")
    assert codes(factory.make_clean_result(epsilon=anew), max_epsilon=1.0) == ["no-leak", "epsilon-within"]


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
