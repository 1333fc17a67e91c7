"""The gate on served models: an interval or a missing number can fail a model, and never clears one."""

import hypothesis.strategies as st
import pytest
import result_factory as factory
from hypothesis import given, settings

from canary_audit.errors import ModelError
from canary_audit.gate import judge, needed_space_bits, require_same_model
from canary_audit.results import NotAvailable

MISSING = NotAvailable(not_available="the server does not show it")
TIERS = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")
CONTROL_LEVEL = {"control_levels": (64,)}
SHOWN = factory.make_canary("shown", rank=1, insertions=64)
"""Inserted so often that any audit sees it: the positive control of a model that cannot be copied."""
QUIET = dict.fromkeys((1, 2), (600_000_000, 300_000_000))


def served(tier="chosen-tokens", canaries=None, **changes):
    """A clean audit of a served model, in which the control level is seen."""
    quiet = factory.level_canaries(QUIET) + factory.control_canaries()
    return factory.make_served_result(
        tier, **({"canaries": (*(quiet if canaries is None else canaries), SHOWN)} | changes)
    )


def codes(result, **policy):
    return [reason.code for reason in judge(result, factory.make_policy(**CONTROL_LEVEL, **policy)).reasons]


def verdict(result, **policy):
    return judge(result, factory.make_policy(**CONTROL_LEVEL, **policy)).name


def bounded(low, high, name="bounded", **changes):
    """A canary inserted once, of whose exposure only this interval is known."""
    fields = {"exposure": factory.interval_only(low, high), "p_value": min(1.0, 2.0**-low), "nll_bits": MISSING}
    return factory.make_canary(name, **(fields | {"certificate_bits": 0.0} | changes))


def with_canaries(*canaries, tier="top-k", **changes):
    return served(tier, (*canaries, *factory.control_canaries()), **changes)


def natural(**changes):
    return bounded(
        **({"low": 0.0, "high": 20.0, "name": "card", "role": "natural", "insertions": 0} | changes),
        p_value=MISSING,
        adjusted_p_value=MISSING,
    )


# --- what each tier can show ---------------------------------------------------------------------------------------


def test_a_served_model_whose_tokens_can_be_chosen_can_pass():
    assert codes(served()) == ["no-leak"]
    assert verdict(served()) == "PASS"


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("chosen-tokens", ["extracted", "leak"]),
        ("prompt-logprobs", ["leak"]),
        ("top-k", ["extracted", "leak"]),
        ("text-only", ["extracted"]),
    ],
)
def test_a_leak_fails_through_every_window(tier, expected):
    decided = judge(factory.make_served_result(tier), factory.make_policy())
    assert decided.name == "FAIL"
    assert [reason.code for reason in decided.reasons] == expected


def test_a_leak_is_judged_by_the_low_end_of_its_interval():
    assert codes(with_canaries(bounded(10.01, 25.0))) == ["leak"]
    assert codes(with_canaries(bounded(10.0, 25.0))) == ["not-settled"]


def test_an_interval_clears_by_its_high_end():
    needed = needed_space_bits(1, factory.make_policy())
    assert codes(with_canaries(bounded(0.0, needed))) == ["no-leak"]
    assert codes(with_canaries(bounded(0.0, needed + 1e-6))) == ["not-settled"]


def test_the_reason_says_what_would_settle_it():
    decided = judge(with_canaries(bounded(0.0, 25.0)), factory.make_policy(**CONTROL_LEVEL))
    assert "top_k" in decided.reasons[0].message
    assert "audit the weights" in decided.reasons[0].message


def test_text_alone_never_clears_a_canary():
    result = served(
        "text-only", factory.served_canaries("text-only", factory.clean_canaries()[:4] + factory.control_canaries())
    )
    result = result.model_copy(update={"canaries": (*result.canaries[:-1], written(SHOWN, hits=9))})
    decided = judge(result, factory.make_policy(**CONTROL_LEVEL))
    assert decided.name == "INCONCLUSIVE"
    assert decided.reasons[0].code == "exposure-not-measured"
    assert decided.reasons[0].canaries == tuple(f"number-01x-{place}" for place in range(4))
    assert "not how near the rest is" in decided.reasons[0].message
    assert "null-not-tested" in [reason.code for reason in decided.reasons]


def written(canary, hits):
    return canary.model_copy(
        update={
            "exposure": factory.NO_EXPOSURE,
            "nll_bits": factory.NO_EXPOSURE,
            "extraction": factory.written_extraction(hits),
        }
    )


def test_a_canary_without_an_exposure_is_not_cleared_where_others_have_one():
    assert codes(with_canaries(bounded(0.0, 1.0, exposure=MISSING, p_value=1.0))) == ["exposure-not-measured"]


def test_a_secret_that_came_out_nearly_counts_as_extracted():
    nearly = next(c for c in factory.served_canaries("text-only") if c.extraction.edits)
    decided = judge(factory.make_served_result("text-only"), factory.make_policy())
    assert nearly.id in decided.reasons[0].canaries


def test_controls_without_ranks_leave_the_null_untested():
    result = served(
        "top-k", factory.level_canaries(QUIET) + factory.served_canaries("top-k", factory.control_canaries())
    )
    assert codes(result) == ["null-not-tested"]
    assert verdict(result, min_controls=0) == "INCONCLUSIVE"


def test_one_control_without_a_rank_leaves_the_null_untested():
    first, *others = factory.control_canaries()
    one = factory.served_canaries("top-k", (first,))
    assert codes(served("top-k", (*factory.level_canaries(QUIET), *one, *others))) == ["null-not-tested"]


@pytest.mark.parametrize("tier", ["prompt-logprobs", "top-k"])
def test_a_natural_secret_is_not_cleared_by_a_search_that_could_not_see_everything(tier):
    """Four secrets are sought among 2^29.9: one that may be among the four likeliest may have been missed."""
    groups = (factory.make_group((), extraction_sought=4),)
    assert codes(with_canaries(natural(high=factory.SPACE_BITS - 2.01), tier=tier, groups=groups)) == ["no-leak"]
    near = with_canaries(natural(high=factory.SPACE_BITS - 2.0), tier=tier, groups=groups)
    assert codes(near) == ["extraction-not-settled"]
    assert codes(near, fail_on_extraction=False) == ["no-power"]


def test_a_search_that_the_budget_ended_does_not_clear_either():
    secret = natural(low=0.0, high=1.0, exposure=factory.make_exposure(3))
    result = with_canaries(secret, tier="chosen-tokens", groups=(factory.make_group((), extraction_sought=4),))
    assert codes(result) == ["no-leak"]
    spent = result.model_copy(update={"endpoint": factory.make_endpoint(budget_spent=True)})
    assert codes(spent) == ["extraction-not-settled"]


def test_a_secret_that_came_out_by_chance_was_not_missed():
    lucky = bounded(0.0, 3.0, space_bits=factory.SPACE_BITS, extraction=factory.make_extraction(2), p_value=0.9)
    groups = (factory.make_group((), extraction_sought=2**29),)
    assert codes(with_canaries(lucky, groups=groups)) == ["extracted-by-chance"]


def test_a_spent_budget_alone_is_no_error_and_no_gap():
    assert codes(served(endpoint=factory.make_endpoint(budget_spent=True))) == ["no-leak"]


# --- bound to a model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_the_files_of_a_served_model_cannot_be_compared(tier, tmp_path):
    with pytest.raises(ModelError, match=r"served model.*audit these weights"):
        require_same_model(factory.make_served_result(tier), tmp_path)


# --- the less is known, the less is cleared ------------------------------------------------------------------------


@st.composite
def known_audits(draw):
    """Audits in which every rank is known, and every search was finished."""
    n_sought = draw(st.integers(0, 5))
    ranks = st.sampled_from([1, 2, 3, 5, 8, 1_000, 300_000, 1_000_000, 2_000_000, 20_000_000, 60_000_000, 400_000_000])
    canaries = [known(f"planted-{n}", draw(ranks), n_sought) for n in range(draw(st.integers(0, 4)))]
    if draw(st.booleans()):
        found = known("card", draw(ranks), n_sought)
        canaries.append(
            found.model_copy(
                update={"role": "natural", "insertions": 0, "p_value": MISSING, "adjusted_p_value": MISSING}
            )
        )
    groups = (factory.make_group((), extraction_sought=n_sought),)
    return with_canaries(*canaries, tier="chosen-tokens", groups=groups)


def known(name, rank, n_sought):
    extraction = factory.make_extraction(rank if rank <= n_sought else None)
    return factory.make_canary(name, rank=rank, extraction=extraction)


@st.composite
def limited(draw, result):
    """The same model, seen through a smaller window: true, but less of it."""
    tier = draw(st.sampled_from(TIERS))
    spent = tier == "chosen-tokens" or draw(st.booleans())
    canaries = tuple(draw(limited_canary(canary, tier)) for canary in result.canaries)
    changes = {
        "canaries": canaries,
        "model": result.model.model_copy(update={"tier": tier}),
        "endpoint": factory.make_endpoint(budget_spent=spent),
        "null": factory.make_null(canaries),
    }
    if draw(st.booleans()):
        changes["language"] = result.language.model_copy(update={"validation_bits_per_char": MISSING})
    return result.model_copy(update=changes)


@st.composite
def limited_canary(draw, canary, tier):
    exposure = canary.exposure
    if tier == "text-only" or (tier != "chosen-tokens" and draw(st.booleans())):
        exposure = MISSING
    elif draw(st.booleans()):
        low = draw(st.floats(0.0, exposure.low))
        exposure = factory.interval_only(low, draw(st.floats(exposure.high, factory.SPACE_BITS)))
    changes = {"exposure": exposure}
    if tier == "text-only":
        changes |= {"nll_bits": MISSING, "samples_needed": MISSING}
    if not isinstance(canary.p_value, NotAvailable):
        changes["p_value"] = draw(st.floats(canary.p_value, 1.0)) if draw(st.booleans()) else canary.p_value
    if draw(st.booleans()):
        changes["extraction"] = factory.make_extraction()
    return canary.model_copy(update=changes)


POLICIES = st.builds(
    factory.make_policy,
    alpha=st.sampled_from([0.01, 0.05, 0.4]),
    max_exposure_bits=st.sampled_from([0.0, 3.0, 10.0, 20.0]),
    fail_on_extraction=st.booleans(),
    min_controls=st.sampled_from([0, 10]),
    control_levels=st.just((64,)),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), known_audits(), POLICIES)
def test_what_is_not_known_clears_nobody_and_fails_nobody(data, result, policy):
    less = data.draw(limited(result))
    before, after = judge(result, policy).name, judge(less, policy).name
    assert after != "ERROR"
    assert after != "PASS" or before == "PASS"
    assert after != "FAIL" or before == "FAIL"
