"""Results that cannot be judged: each defect is found, named, and is an ERROR at the gate."""

import math

import pytest
import result_factory as factory

from canary_audit.gate import judge
from canary_audit.gate.integrity import find_errors
from canary_audit.results import NotAvailable, Reason

MISSING = NotAvailable(not_available="not measured")


def with_canary(place=0, exposure=None, extraction=None, **changes):
    """A clean result with one canary changed past the checks of its constructor."""
    result = factory.make_clean_result()
    canary = result.canaries[place]
    if exposure:
        changes["exposure"] = canary.exposure.model_copy(update=exposure)
    if extraction:
        changes["extraction"] = canary.extraction.model_copy(update=extraction)
    canaries = list(result.canaries)
    canaries[place] = canary.model_copy(update=changes)
    return result.model_copy(update={"canaries": tuple(canaries)})


def with_level(**changes):
    result = factory.make_clean_result()
    first, *others = result.levels
    return result.model_copy(update={"levels": (first.model_copy(update=changes), *others)})


def changed(field, **changes):
    result = factory.make_clean_result()
    return result.model_copy(update={field: getattr(result, field).model_copy(update=changes)})


def test_whole_results_have_no_errors():
    assert find_errors(factory.make_result()) == ()
    assert find_errors(factory.make_clean_result()) == ()


CLEAN = factory.make_clean_result()
DEFECTS = {
    "nan cost": (with_canary(nll_bits=math.nan), "not-finite"),
    "infinite exposure": (with_canary(exposure={"high": math.inf}), "not-finite"),
    "nan null": (changed("null", uniform_p=math.nan), "not-finite"),
    "level without p-value": (with_canary(p_value=MISSING), "missing-number"),
    "control without p-value": (with_canary(place=30, p_value=MISSING), "missing-number"),
    "controls untested": (changed("null", uniform_p=MISSING), "missing-number"),
    "control run without p-value": (changed("positive_control", p_value=MISSING), "missing-number"),
    "negative cost": (with_canary(nll_bits=-1e-3), "impossible-number"),
    "too much exposure": (with_canary(exposure={"bits": 30.0, "high": 30.0}), "impossible-number"),
    "low above high": (with_canary(exposure={"low": 9.0, "high": 1.0}), "impossible-number"),
    "exposure below low": (with_canary(exposure={"low": 2.5, "high": 3.0}), "impossible-number"),
    "rank zero": (with_canary(exposure={"rank": 0.0}), "impossible-number"),
    "rank above its limit": (with_canary(exposure={"rank_high": 5.0}), "impossible-number"),
    "p above one": (with_canary(p_value=1.5), "impossible-number"),
    "p below zero": (with_canary(p_value=-0.1), "impossible-number"),
    "interval upside down": (
        with_canary(exposure={"bits": MISSING, "rank": MISSING, "low": 9.0, "high": 1.0}),
        "impossible-number",
    ),
    "negative exposure": (with_canary(exposure={"low": -1.0}), "impossible-number"),
    "low end above the space": (with_canary(exposure={"low": 31.0, "high": 32.0}), "impossible-number"),
    "rank without exposure": (with_canary(exposure={"bits": MISSING}), "impossible-number"),
    "exposure without rank": (with_canary(exposure={"rank": MISSING}), "impossible-number"),
    "counted and not known": (
        with_canary(exposure={"bits": MISSING, "rank": MISSING, "exact": True}),
        "impossible-number",
    ),
    "upper limit below one": (with_canary(exposure={"rank": MISSING, "rank_high": 0.5}), "impossible-number"),
    "edits below none": (with_canary(extraction={"edits": -1}), "impossible-number"),
    "out after no continuation": (with_canary(samples_needed=0.0), "impossible-number"),
    "share outside its interval": (with_level(extracted_low=0.5), "impossible-number"),
    "share below nothing": (with_level(extracted_low=-0.1), "impossible-number"),
    "share above all": (with_level(extracted_high=1.1), "impossible-number"),
    "more than all extracted": (with_level(n_extracted=5), "impossible-number"),
    "negative noise": (
        CLEAN.model_copy(update={"groups": (CLEAN.groups[0].model_copy(update={"noise_floor_nats": -1e-9}),)}),
        "impossible-number",
    ),
    "negative calls": (CLEAN.model_copy(update={"calls": -1}), "impossible-number"),
    "found nowhere": (with_canary(extraction={"found": True}), "impossible-number"),
    "placed but not found": (with_canary(extraction={"rank": 3}), "impossible-number"),
    "placed before the first": (with_canary(extraction={"found": True, "rank": 0}), "impossible-number"),
    "null p above one": (changed("null", uniform_p=2.0), "impossible-number"),
    "control p below zero": (changed("positive_control", p_value=-1.0), "impossible-number"),
    "listed twice": (with_canary(id="number-01x-1"), "duplicate-canary"),
    "unknown group": (with_canary(group="card"), "inconsistent"),
    "another space": (with_canary(space_bits=40.0), "inconsistent"),
    "inserted control": (with_canary(place=30, insertions=2), "inconsistent"),
    "level not inserted": (with_canary(insertions=0), "inconsistent"),
    "canary at another level": (with_canary(insertions=2), "inconsistent"),
    "canary gone": (CLEAN.model_copy(update={"canaries": CLEAN.canaries[1:]}), "inconsistent"),
    "level gone": (CLEAN.model_copy(update={"levels": CLEAN.levels[1:]}), "inconsistent"),
    "control gone": (CLEAN.model_copy(update={"canaries": CLEAN.canaries[:-1]}), "inconsistent"),
    "canaries missing in training": (
        changed("training", presence=CLEAN.training.presence.model_copy(update={"seen": 251})),
        "presence",
    ),
    "ended in an error": (CLEAN.model_copy(update={"verdict": "ERROR", "reasons": ()}), "earlier-error"),
}


@pytest.mark.parametrize(("result", "code"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_an_error(result, code):
    decided = judge(result, factory.make_policy())
    assert decided.name == "ERROR"
    assert code in [reason.code for reason in decided.reasons]


def seen(tier, place=0, exposure=None, extraction=None, model=None, **changes):
    """A result of a served model with one canary changed, and top-level fields."""
    result = factory.make_served_result(tier)
    canary, fields = result.canaries[place], {}
    if exposure:
        fields["exposure"] = canary.exposure.model_copy(update=exposure)
    if extraction:
        fields["extraction"] = canary.extraction.model_copy(update=extraction)
    fields |= {name: changes.pop(name) for name in list(changes) if name in type(canary).model_fields}
    canaries = list(result.canaries)
    canaries[place] = canary.model_copy(update=fields)
    if model:
        changes["model"] = result.model.model_copy(update=model)
    return result.model_copy(update={"canaries": tuple(canaries), **changes})


def written(place=20, **changes):
    """A result of a model that writes, with the samples of one canary changed."""
    samples = factory.make_served_result("text-only").canaries[place].extraction.samples
    return seen("text-only", place, extraction={"samples": samples.model_copy(update=changes)})


LEAKING = factory.leaking_canaries()
POINT = {"bits": 3.0, "rank": 2.0**26, "low": 0.0, "high": 29.0, "rank_high": 2.0**29.8}
SERVED_DEFECTS = {
    "weights at an endpoint": (seen("chosen-tokens", model={"tier": "full-logits"}), "inconsistent"),
    "served from nowhere": (seen("chosen-tokens", endpoint=MISSING), "inconsistent"),
    "nothing answered": (seen("chosen-tokens", calls=0), "inconsistent"),
    "negative noise of the endpoint": (
        seen("top-k", endpoint=factory.make_endpoint(noise_floor_nats=-1e-9)),
        "impossible-number",
    ),
    "negative tokens": (seen("top-k", endpoint=factory.make_endpoint(tokens=-1)), "impossible-number"),
    "no budget was spent": (
        seen("top-k", endpoint=factory.make_endpoint(max_calls=MISSING, max_tokens=MISSING, budget_spent=True)),
        "inconsistent",
    ),
    "exposure of text": (
        factory.make_served_result("text-only", canaries=factory.served_canaries("text-only")[1:] + LEAKING[:1]),
        "inconsistent",
    ),
    "exposure of text without a cost": (
        factory.make_served_result(
            "text-only",
            canaries=(
                LEAKING[0].model_copy(update={"nll_bits": MISSING}),
                *factory.served_canaries("text-only")[1:],
            ),
        ),
        "inconsistent",
    ),
    "bounded above the space": (seen("top-k", exposure={"low": 31.0, "high": 32.0}), "impossible-number"),
    "bounded rank below one": (seen("top-k", exposure={"rank_high": 0.5}), "impossible-number"),
    "hits without texts": (written(n_samples=0, hits=5), "impossible-number"),
    "fewer hits than none without texts": (written(n_samples=0, hits=-1), "impossible-number"),
    "sampled but not found": (seen("text-only", 21, extraction={"found": False}), "impossible-number"),
    "cost of text": (seen("text-only", nll_bits=12.0), "inconsistent"),
    "no exposure though tokens can be chosen": (
        seen("chosen-tokens").model_copy(
            update={"canaries": (LEAKING[0].model_copy(update={"exposure": MISSING}), *LEAKING[1:])}
        ),
        "missing-number",
    ),
    "edits of a search": (
        seen("chosen-tokens", place=20, extraction={"edits": 1}),
        "inconsistent",
    ),
    "certificate with a rank": (seen("prompt-logprobs", exposure=POINT), "inconsistent"),
    "controls without ranks but tested": (
        seen("top-k", null=factory.make_null(LEAKING)),
        "inconsistent",
    ),
    "controls with ranks but untested": (
        seen("chosen-tokens", null=factory.make_null(LEAKING, uniform_p=MISSING)),
        "missing-number",
    ),
    "more hits than texts": (written(hits=201), "impossible-number"),
    "fewer hits than none": (written(hits=-1), "impossible-number"),
    "rate outside its interval": (written(rate_low=0.9), "impossible-number"),
    "rate above one": (written(rate_high=1.5), "impossible-number"),
    "hit but not found": (seen("text-only", 20, extraction={"found": False}), "impossible-number"),
    "greedy but not found": (written(place=0, greedy=True), "impossible-number"),
    "p-value missing": (seen("text-only", p_value=MISSING), "missing-number"),
}


@pytest.mark.parametrize(("result", "code"), SERVED_DEFECTS.values(), ids=SERVED_DEFECTS.keys())
def test_a_defect_of_a_served_result_is_an_error(result, code):
    decided = judge(result, factory.make_policy())
    assert decided.name == "ERROR"
    assert code in [reason.code for reason in decided.reasons]


@pytest.mark.parametrize("tier", ["chosen-tokens", "prompt-logprobs", "top-k", "text-only"])
def test_served_results_have_no_errors(tier):
    assert find_errors(factory.make_served_result(tier)) == ()
    unbounded = factory.make_endpoint(max_calls=MISSING)
    assert find_errors(factory.make_served_result(tier, endpoint=unbounded)) == ()


LOCAL_DEFECTS = {
    "interval only": with_canary(exposure={"bits": MISSING, "rank": MISSING}),
    "no exposure": CLEAN.model_copy(
        update={"canaries": (CLEAN.canaries[0].model_copy(update={"exposure": MISSING}), *CLEAN.canaries[1:])}
    ),
    "no cost": with_canary(nll_bits=MISSING),
    "ranked inside a window": with_canary(exposure={"method": "inside-top-k"}),
    "edits": with_canary(extraction={"edits": 2}),
}


@pytest.mark.parametrize("result", LOCAL_DEFECTS.values(), ids=LOCAL_DEFECTS.keys())
def test_weights_that_lie_here_hide_nothing(result):
    assert judge(result, factory.make_policy()).name == "ERROR"


def test_a_lone_interval_does_not_hide_a_missing_test_of_the_null():
    """Only a control without a rank excuses it; a canary without one does not."""
    result = seen("top-k", null=factory.make_null(LEAKING, uniform_p=MISSING))
    ranked = tuple(c for c in result.canaries if c.role != "control") + factory.control_canaries()
    assert "missing-number" in [reason.code for reason in find_errors(result.model_copy(update={"canaries": ranked}))]


def private(**changes):
    """A clean result of a private model, with its epsilon changed past the checks of its constructor."""
    epsilon = factory.make_private_epsilon(n_canaries=40, n_wrong=4)
    return factory.make_clean_result(epsilon=epsilon).model_copy(update={"epsilon": epsilon.model_copy(update=changes)})


EPSILON = factory.make_private_epsilon(n_canaries=40, n_wrong=4)
COINS, BOUNDS = EPSILON.canaries, EPSILON.bounds


def promise(**changes):
    return EPSILON.accounting.model_copy(update=changes)


def first_coin(**changes):
    return (COINS[0].model_copy(update=changes), *COINS[1:])


EPSILON_DEFECTS = {
    "larger bound": ({"lower_bound": EPSILON.lower_bound + 0.01}, "inconsistent"),
    "smaller bound": ({"lower_bound": 0.0}, "inconsistent"),
    "larger bound in the list": (
        {"bounds": (BOUNDS[0].model_copy(update={"epsilon": 0.0}), *BOUNDS[1:])},
        "inconsistent",
    ),
    "bound left out": ({"bounds": BOUNDS[:-1]}, "inconsistent"),
    "other bound first": ({"bounds": BOUNDS[::-1]}, "inconsistent"),
    "no bound at all": ({"bounds": (), "lower_bound": MISSING, "ceiling": MISSING}, "missing-number"),
    "other ceiling": ({"ceiling": 9.0}, "inconsistent"),
    "other assumption": ({"assumption": "gaussian"}, "inconsistent"),
    "other confidence": ({"confidence": 0.5}, "inconsistent"),
    "other delta": ({"delta": 0.0}, "inconsistent"),
    "other accounted epsilon": ({"accounted": 1.0}, "inconsistent"),
    "promise gone": ({"accounting": MISSING}, "inconsistent"),
    "coin turned": ({"canaries": first_coin(inserted=not COINS[0].inserted)}, "inconsistent"),
    "canary gone": ({"canaries": COINS[1:]}, "inconsistent"),
    "canary twice": ({"canaries": (COINS[0], *COINS)}, "duplicate-canary"),
    "canaries out of order": ({"canaries": COINS[::-1]}, "inconsistent"),
    "nan score": ({"canaries": first_coin(score=math.nan)}, "not-finite"),
    "negative promise": ({"accounting": promise(epsilon=-1.0), "accounted": -1.0}, "impossible-number"),
    "infinite promise": ({"accounting": promise(epsilon=math.inf)}, "impossible-number"),
    "delta of one": ({"accounting": promise(delta=1.0), "delta": 1.0}, "impossible-number"),
    "negative noise": ({"accounting": promise(noise_multiplier=-0.1)}, "impossible-number"),
    "sampling above one": ({"accounting": promise(sampling_rate=1.5)}, "impossible-number"),
    "too many noise-only steps": ({"accounting": promise(noise_only_steps=641)}, "impossible-number"),
    "no clipping": ({"accounting": promise(clip_norm=0.0)}, "impossible-number"),
    "nothing to protect": ({"accounting": promise(n_units=0)}, "impossible-number"),
}


@pytest.mark.parametrize(("changes", "code"), EPSILON_DEFECTS.values(), ids=EPSILON_DEFECTS.keys())
def test_a_defect_of_epsilon_is_an_error(changes, code):
    result = private(**changes)
    assert code in [reason.code for reason in find_errors(result)]
    assert judge(result, factory.make_policy()).name == "ERROR"


def test_epsilon_as_it_was_measured_has_no_errors():
    assert find_errors(private()) == ()
    assert find_errors(factory.make_clean_result(epsilon=factory.make_epsilon())) == ()
    assert find_errors(factory.make_clean_result(epsilon=factory.make_private_epsilon(n_canaries=0))) == ()


def test_the_last_digits_of_a_bound_are_no_defect():
    assert find_errors(private(lower_bound=EPSILON.lower_bound + 1e-9)) == ()


def test_the_message_names_what_does_not_fit():
    (reason,) = find_errors(private(ceiling=9.0))
    assert reason.message.endswith("do not give the epsilon stated: ceiling.")


def test_the_message_says_where():
    (reason,) = find_errors(with_canary(place=2, nll_bits=math.nan))
    assert reason.message == "Not a finite number: canaries.2.nll_bits."
    (reason,) = find_errors(with_canary(place=2, nll_bits=-5.0))
    assert reason.canaries == ("number-01x-2",)
    assert reason.message == "Canaries with a negative cost: 1 (number-01x-2)."


def test_rounding_is_no_defect():
    assert find_errors(with_canary(nll_bits=-1e-9)) == ()
    assert find_errors(with_canary(exposure={"bits": 3.0, "low": 3.0 + 1e-9, "high": 3.0})) == ()


def test_reasons_of_a_broken_audit_are_kept():
    earlier = Reason(code="disk-full", message="The audit ran out of space.")
    assert find_errors(factory.make_result(verdict="ERROR", reasons=(earlier,))) == (earlier,)


def test_an_audit_of_a_model_trained_elsewhere_can_be_judged():
    result = factory.make_clean_result(training=MISSING, data=MISSING)
    assert find_errors(result) == ()
    assert judge(result, factory.make_policy()).name == "INCONCLUSIVE"


def test_natural_secrets_need_no_p_value():
    secret = factory.make_canary("card", role="natural", insertions=0, p_value=MISSING, adjusted_p_value=MISSING)
    assert find_errors(factory.make_clean_result(canaries=(*factory.clean_canaries(), secret))) == ()
