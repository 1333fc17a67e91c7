"""What the gate makes of epsilon: a promise that the audit refutes, and a limit that the policy sets.

Both are held against lower bounds that are computed anew from the scores, by the rule that was fixed before the run.
A bound exceeds the true epsilon in 5 % of audits at most, apart from the policy's alpha, which is spent on exposure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from canary_audit.epsilon import CONFIDENCE
from canary_audit.gate.integrity_epsilon import RULES
from canary_audit.gate.naming import reason_about
from canary_audit.results import (
    Accounting,
    Assumption,
    AuditResult,
    BoundAssumption,
    CanaryResult,
    Epsilon,
    EpsilonBound,
    NotAvailable,
    PolicyTable,
    Reason,
)
from canary_audit.statistics.gaussian_dp import one_run_f_dp_bound
from canary_audit.statistics.group_privacy import group_promise, promised_p_value
from canary_audit.statistics.one_run import one_run_bound
from canary_audit.statistics.pvalues import holm

_NO_COINS = NotAvailable(not_available="no coin-flipped canaries were measured")
_NO_RULE = NotAvailable(not_available="the result does not say by which rule its canaries were to be guessed")
_NOT_DP_SGD = NotAvailable(
    not_available="the bound that the policy asks for holds for DP-SGD only, and this model was not trained by it"
)


@dataclass(frozen=True, kw_only=True)
class EpsilonEvidence:
    """The promise, the bounds it is held against, and the canaries whose exposure it does not allow."""

    promise: Accounting | NotAvailable
    bound: EpsilonBound | NotAvailable
    """The one that assumes nothing; a promise is refuted by this one alone."""
    limited: EpsilonBound | NotAvailable
    """The one that the policy's `max_epsilon` is held against."""
    refuting: tuple[CanaryResult, ...]
    """Judged canaries with more exposure than the promise allows for all of their occurrences together."""


def weigh_epsilon(result: AuditResult, policy: PolicyTable, planted: Sequence[CanaryResult]) -> EpsilonEvidence:
    """Choose what is held against promise and policy; `planted` are the judged canaries that were inserted."""
    epsilon = result.epsilon
    if isinstance(epsilon, NotAvailable):
        return EpsilonEvidence(promise=epsilon, bound=epsilon, limited=epsilon, refuting=())
    promise = epsilon.accounting
    bound = _bound(epsilon, "none")
    return EpsilonEvidence(
        promise=promise,
        bound=bound,
        limited=bound if policy.epsilon_assumption == "none" else _bound(epsilon, policy.epsilon_assumption),
        refuting=() if isinstance(promise, NotAvailable) else _beyond(promise, planted, policy.alpha),
    )


def epsilon_failures(evidence: EpsilonEvidence, policy: PolicyTable) -> Iterator[Reason]:
    """A refuted promise, and a limit that is surely exceeded."""
    if not isinstance(evidence.promise, NotAvailable):
        yield from _refutations(evidence, evidence.promise, policy.alpha)
    limit, limited = policy.max_epsilon, evidence.limited
    if limit is not None and not isinstance(limited, NotAvailable) and limited.epsilon > limit:
        message = f"{_at_least(limited)}{_assuming(limited.assumption)}; the policy allows {limit:g}."
        yield Reason(code="epsilon", message=f"Epsilon is {message}")


def _refutations(evidence: EpsilonEvidence, promise: Accounting, alpha: float) -> Iterator[Reason]:
    said = f"Training promises epsilon {promise.epsilon:.3g} (delta {promise.delta:g}) for {promise.unit}, but"
    wrong = "so its accounting or its implementation is wrong"
    if not isinstance(bound := evidence.bound, NotAvailable) and bound.epsilon > promise.epsilon:
        message = f"{said} coin-flipped canaries show {_at_least(bound)}, {wrong}."
        yield Reason(code="claim-refuted", message=message)
    if refuting := evidence.refuting:
        message = (
            f"{said} {len(refuting)} canaries have more exposure than that allows for all of their occurrences "
            f"together (significant at {alpha:g} over all judged ones), {wrong}"
        )
        yield reason_about("claim-refuted", message, refuting)


def epsilon_gaps(evidence: EpsilonEvidence, policy: PolicyTable) -> Iterator[Reason]:
    """A limit that this audit could not have shown to be exceeded."""
    limit, limited = policy.max_epsilon, evidence.limited
    if limit is None:
        return
    if isinstance(limited, NotAvailable):
        code = "assumption-not-met" if limited == _NOT_DP_SGD else "no-power"
        yield Reason(
            code=code, message=f"Epsilon was not held against the policy's {limit:g}: {limited.not_available}."
        )
    elif limited.ceiling <= limit:
        message = (
            f"The policy allows epsilon {limit:g}, and {limited.guesses} guesses could have shown "
            f"{limited.ceiling:.3g} at most, had all been right: plan more coin_flips."
        )
        yield Reason(code="no-power", message=message)


def allowed_by_promise(evidence: EpsilonEvidence, leaks: Sequence[CanaryResult]) -> str:
    """A sentence on leaks of a privately trained model that its promise does not exclude; empty if there are none."""
    promise, refuting = evidence.promise, {canary.id for canary in evidence.refuting}
    most = max((canary.insertions for canary in leaks if canary.id not in refuting), default=0)
    if isinstance(promise, NotAvailable) or not most:
        return ""
    group = group_promise(promise.epsilon, promise.delta, most)
    together = f", and k occurrences together have k times as much ({group.epsilon:.3g} for {most})" if most > 1 else ""
    return f" The promise of epsilon {promise.epsilon:.3g} is for {promise.unit}{together}; it does not exclude this."


def _bound(epsilon: Epsilon, assumption: Assumption) -> EpsilonBound | NotAvailable:
    """The bound that gates under an assumption, from the scores: one kind each, because the best of several errs more.

    Only the rule of guessing is taken from the result; it was fixed before the run.
    """
    promise = epsilon.accounting
    if assumption == "gaussian" and isinstance(promise, NotAvailable):
        return _NOT_DP_SGD
    if len(epsilon.canaries) < 2:
        return _NO_COINS
    if not epsilon.bounds or epsilon.bounds[0].method not in RULES:
        return _NO_RULE
    method = epsilon.bounds[0].method
    coins = sorted(epsilon.canaries, key=lambda coin: coin.id)  # ids know nothing of the coins, and so may break ties
    found = (one_run_bound if assumption == "none" else one_run_f_dp_bound)(
        [coin.score for coin in coins],
        [coin.inserted for coin in coins],
        delta=0.0 if isinstance(promise, NotAvailable) else promise.delta,
        rule=RULES[method],
        confidence=CONFIDENCE,
    )
    return EpsilonBound(
        method=method if assumption == "none" else "one-run-f-dp",
        assumption=assumption,
        epsilon=found.epsilon,
        ceiling=found.ceiling,
        guesses=found.guesses,
        correct=found.correct,
    )


def _beyond(promise: Accounting, planted: Sequence[CanaryResult], alpha: float) -> tuple[CanaryResult, ...]:
    """Canaries whose rank contradicts the promise, by Holm's procedure over all of `planted`.

    These p-values are never below those of exposure, over the same canaries: a model that memorizes nothing is failed
    no more often for this test.
    """
    p_values = [
        promised_p_value(canary.p_value, group_promise(promise.epsilon, promise.delta, canary.insertions))
        for canary in planted
        if not isinstance(canary.p_value, NotAvailable)
    ]
    return tuple(canary for canary, p in zip(planted, holm(p_values), strict=True) if p <= alpha)


def _at_least(bound: EpsilonBound) -> str:
    return f"{bound.epsilon:.3g} or more at {100 * CONFIDENCE:g} % confidence"


def _assuming(assumption: BoundAssumption) -> str:
    return "" if assumption == "none" else ", assuming that DP-SGD hides at least what Gaussian noise does"
