"""Judged canaries that might leak for all this audit knows: not measured, not closely enough, or not searched for."""

import math
from collections.abc import Iterator, Sequence

from canary_audit.gate.naming import reason_about
from canary_audit.results import AuditResult, CanaryResult, NotAvailable, PolicyTable, Reason, Tier

_REMEDIES: dict[Tier, str] = {
    "full-logits": "raise [audit] exact_nodes or nodes_per_canary",
    "chosen-tokens": "raise [audit] nodes_per_canary and the budget in [endpoint], or audit the weights",
    "prompt-logprobs": "raise the budget in [endpoint], or audit the weights",
    "top-k": "the server shows its likeliest tokens only: raise [endpoint] top_k if it allows, or audit the weights",
    "text-only": "audit the weights",
}
_HIDING: tuple[Tier, ...] = ("prompt-logprobs", "top-k", "text-only")
"""Tiers at which a search can miss a secret because the model does not show where to look."""


def unsettled(
    result: AuditResult,
    planted: Sequence[CanaryResult],
    natural: Sequence[CanaryResult],
    needed_bits: float,
    policy: PolicyTable,
) -> Iterator[Reason]:
    """Reasons not to clear these canaries; `needed_bits` is the exposure above which a planted one can fail."""
    judged = (*planted, *natural)
    remedy = _REMEDIES[result.model.tier]
    if unmeasured := [canary for canary in judged if isinstance(canary.exposure, NotAvailable)]:
        message = (
            f"{len(unmeasured)} of {len(judged)} judged canaries have no exposure: text alone shows what comes out, "
            f"not how near the rest is; {remedy}"
        )
        yield reason_about("exposure-not-measured", message, unmeasured)
    if loose := [canary for canary in planted if _highest_bits(canary) > needed_bits]:
        message = (
            f"The exposure of {len(loose)} of {len(judged)} judged canaries was not measured closely enough, it may "
            f"exceed {needed_bits:.2f} bits: {remedy}"
        )
        yield reason_about("not-settled", message, loose)
    if policy.fail_on_extraction and (open_ := _perhaps_missed(result, judged)):
        message = (
            f"The search for {len(open_)} of {len(judged)} judged canaries could not be finished, and their ranks do "
            f"not rule out that they come out: {remedy}"
        )
        yield reason_about("extraction-not-settled", message, open_)


def _highest_bits(canary: CanaryResult) -> float:
    return -math.inf if isinstance(canary.exposure, NotAvailable) else canary.exposure.high


def _perhaps_missed(result: AuditResult, judged: Sequence[CanaryResult]) -> list[CanaryResult]:
    """Canaries that a search without limits might have found, being among the likeliest that it looks for."""
    budget_spent = not isinstance(result.endpoint, NotAvailable) and result.endpoint.budget_spent
    if result.model.tier not in _HIDING and not budget_spent:
        return []
    sought = {group.name: group.extraction_sought for group in result.groups}
    return [
        canary
        for canary in judged
        if (n_sought := sought.get(canary.group, 0)) > 0
        and not canary.extraction.found
        and canary.space_bits - _highest_bits(canary) <= math.log2(n_sought)
    ]
