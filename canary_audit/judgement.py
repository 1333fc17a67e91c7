"""From evidence to a judged result: the positive control is run only where a PASS depends on it."""

from collections.abc import Callable
from dataclasses import dataclass

from canary_audit import __version__
from canary_audit.audit import Measurements
from canary_audit.epsilon import epsilon_of
from canary_audit.gate import Policy, judge, needs_positive_control
from canary_audit.gate.integrity import find_errors
from canary_audit.results import (
    Accounting,
    AuditResult,
    DataResult,
    EndpointResult,
    LanguageCheck,
    ModelResult,
    NotAvailable,
    PositiveControl,
    Reason,
    TrainingResult,
)
from canary_audit.statistics.guesses import Rule

_RAN_HERE = NotAvailable(not_available="the model ran where it was audited")
_NO_POLICY = NotAvailable(not_available="the audit only measured")
_NOT_JUDGED = Reason(
    code="no-policy",
    message="The audit measured and did not judge; canary-audit gate RESULT --policy FILE judges it.",
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known before a policy is applied; see `AuditResult` for the fields."""

    name: str
    seed: int
    config_sha256: str
    ledger_sha256: str
    model: ModelResult
    data: DataResult | NotAvailable
    training: TrainingResult | NotAvailable
    language: LanguageCheck
    measured: Measurements
    accounting: Accounting | NotAvailable
    score: str
    """Name of the membership score of the coin-flipped canaries."""
    guesses: Rule
    """How many guesses the bound on epsilon rests on."""
    endpoint: EndpointResult | NotAvailable = _RAN_HERE
    calls: int = 0


def conclude(evidence: Evidence, policy: Policy | None, run_control: Callable[[], PositiveControl]) -> AuditResult:
    """Judge the evidence; `run_control` is called if, and only if, the verdict would be PASS but for the control.

    Without a policy nothing is judged, and so INCONCLUSIVE; numbers that cannot be true are an ERROR all the same.
    """
    draft = _draft(evidence, policy)
    if policy is None:
        errors = find_errors(draft)
        return draft.model_copy(
            update={"verdict": "ERROR" if errors else "INCONCLUSIVE", "reasons": errors or (_NOT_JUDGED,)}
        )
    if needs_positive_control(draft, policy.table):
        draft = draft.model_copy(update={"positive_control": run_control()})
    verdict = judge(draft, policy.table)
    return draft.model_copy(update={"verdict": verdict.name, "reasons": verdict.reasons})


def _draft(evidence: Evidence, policy: Policy | None) -> AuditResult:
    """The result before it is judged; it claims nothing."""
    return AuditResult(
        tool_version=__version__,
        name=evidence.name,
        seed=evidence.seed,
        verdict="INCONCLUSIVE",
        reasons=(),
        policy=policy.table if policy else _NO_POLICY,
        policy_sha256=policy.sha256 if policy else _NO_POLICY,
        config_sha256=evidence.config_sha256,
        ledger_sha256=evidence.ledger_sha256,
        model=evidence.model,
        endpoint=evidence.endpoint,
        calls=evidence.calls,
        data=evidence.data,
        training=evidence.training,
        language=evidence.language,
        groups=evidence.measured.groups,
        levels=evidence.measured.levels,
        canaries=evidence.measured.canaries,
        null=evidence.measured.null,
        epsilon=epsilon_of(
            evidence.measured.coins, evidence.accounting, score=evidence.score, guesses=evidence.guesses
        ),
        membership=evidence.measured.membership,
        positive_control=PositiveControl(
            status="not-run",
            reason="the verdict does not depend on it",
            p_value=NotAvailable(not_available="not run"),
            n_canaries=0,
            insertions=0,
        ),
    )
