"""Audits of every shape a report must cope with."""

import result_factory
from result_factory import make_canary, make_exposure, make_group, make_result

from canary_audit.results import AuditResult, EpochResult, NotAvailable, PaperEstimate, Reason

_MISSING = NotAvailable(not_available="the reason it is missing")


def with_paper_estimates() -> AuditResult:
    estimates = (
        PaperEstimate(
            method="uniform-sampling",
            bits=9.1,
            low=8.7,
            high=9.6,
            n_references=5_000,
            goodness_of_fit_p=_MISSING,
            capped=False,
        ),
        PaperEstimate(
            method="skew-normal", bits=12.2, low=9.9, high=15.0, n_references=5_000, goodness_of_fit_p=0.31, capped=True
        ),
    )
    canaries = tuple(
        c.model_copy(update={"paper_estimates": estimates if c.insertions else ()})
        for c in result_factory.leaking_canaries()
    )
    return make_result(canaries=canaries)


def several_groups() -> AuditResult:
    """A second group in a small space, with a natural secret that has no p-value, and a prefix that ends in a space."""
    small = 13.29
    word = tuple(
        make_canary(f"word-{n}", group="word", insertions=n, rank=rank, space_bits=small)
        for n, rank in ((0, 7_000), (1, 900), (1000, 2))
    )
    natural = make_canary("natural-1", group="word", role="natural", insertions=3, rank=5, space_bits=small)
    natural = natural.model_copy(update={"p_value": _MISSING, "adjusted_p_value": _MISSING})
    canaries = (*result_factory.leaking_canaries(), *word, natural)
    groups = (
        make_group(canaries[:-4]),
        make_group((*word, natural), name="word", space_size="10000", space_bits=small),
    )
    return make_result(canaries=canaries, groups=groups, epsilon=result_factory.make_epsilon())


def huge_space() -> AuditResult:
    """Hundreds of bits, and a rank beyond what a reader can take in."""
    canary = make_canary("huge", space_bits=400.0, exposure=make_exposure(2.0**300, 400.0), nll_bits=299.0)
    group = make_group((canary,), space_size=str(2**400), space_bits=400.0)
    return make_result(canaries=(canary,), groups=(group,))


def untracked_training() -> AuditResult:
    """No validation split, and exposure tracked in one epoch only."""
    epochs = tuple(
        EpochResult(
            epoch=n,
            training_bits_per_token=3.0,
            validation_bits_per_char=_MISSING,
            exposure_by_level={"1": 2.0} if n == 2 else {},
        )
        for n in (1, 2, 3)
    )
    return make_result(training=result_factory.make_training(epochs=epochs, best_epoch=_MISSING))


def private() -> AuditResult:
    """Trained with DP-SGD, with a bound of each kind and membership scores on canaries and rows."""
    membership = (
        result_factory.make_membership("zlib", primary=False, power=0.7),
        result_factory.make_membership("loss", power=0.3),
        result_factory.make_membership("reference", primary=False, power=0.2),
        result_factory.make_membership("min-k++", primary=False, power=0.5),
        result_factory.make_membership("ez-mia", primary=False, power=0.95),
        result_factory.make_membership("loss", sample="rows", power=0.9),
    )
    return make_result(epsilon=result_factory.make_private_epsilon(), membership=membership)


def promise_without_coins() -> AuditResult:
    """What a private training promises, held against nothing."""
    return make_result(epsilon=result_factory.make_private_epsilon(0, 0))


def not_judged() -> AuditResult:
    """An audit that only measured."""
    nothing = NotAvailable(not_available="the audit only measured")
    reason = Reason(code="no-policy", message="Judge it with `canary-audit gate RESULT --policy FILE`.")
    fields = {"policy": nothing, "policy_sha256": nothing, "verdict": "INCONCLUSIVE", "reasons": (reason,)}
    return result_factory.make_served_result("top-k", epsilon=result_factory.make_epsilon(), **fields)


def served_groups() -> AuditResult:
    """Two groups behind one window: of the second no canary was measured, and the probe found nothing."""
    word = tuple(
        make_canary(f"word-{n}", group="word", insertions=n, exposure=_MISSING, nll_bits=_MISSING, space_bits=13.29)
        for n in (0, 1)
    )
    canaries = (*result_factory.served_canaries("top-k"), *word)
    groups = (make_group(canaries[:-2]), make_group(word, name="word", space_size="10000", space_bits=13.29))
    endpoint = result_factory.make_endpoint(probe=())
    return result_factory.make_served_result("top-k", canaries=canaries, groups=groups, endpoint=endpoint)


SHAPES = {
    "leaking": make_result,
    "clean": result_factory.make_clean_result,
    "no-training": lambda: make_result(training=_MISSING, data=_MISSING),
    "no-epochs": lambda: make_result(training=result_factory.make_training(epochs=(), best_epoch=_MISSING)),
    "untracked": untracked_training,
    "no-controls": lambda: make_result(canaries=result_factory.level_canaries(result_factory.LEAKING_RANKS)),
    "only-controls": lambda: make_result(canaries=result_factory.control_canaries()),
    "nothing": lambda: make_result(canaries=(), groups=(), reasons=()),
    "several-groups": several_groups,
    "paper-estimates": with_paper_estimates,
    "huge-space": huge_space,
    "private": private,
    "promise-without-coins": promise_without_coins,
    "chosen-tokens": lambda: result_factory.make_served_result("chosen-tokens"),
    "prompt-logprobs": lambda: result_factory.make_served_result("prompt-logprobs"),
    "top-k": lambda: result_factory.make_served_result("top-k"),
    "text-only": lambda: result_factory.make_served_result("text-only"),
    "served-groups": served_groups,
    "not-judged": not_judged,
}
"""Name -> maker."""
