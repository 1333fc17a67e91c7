"""Whether the numbers fit the access that the audit had: nobody measures what a model does not show."""

from collections.abc import Callable, Iterator

from canary_audit.gate.naming import reason_about
from canary_audit.results import AuditResult, CanaryResult, NotAvailable, Reason, Tier

_SCORES_ANY_TOKEN: tuple[Tier, ...] = ("full-logits", "chosen-tokens")
_LIMITED_METHODS = ("inside-top-k", "certificate")


def find_access_errors(result: AuditResult) -> Iterator[Reason]:
    """Numbers that the tier rules out or lacks, and an endpoint that contradicts itself."""
    yield from _endpoint_contradicts(result)
    for code, what, holds in _rules(result.model.tier):
        if canaries := [canary for canary in result.canaries if holds(canary)]:
            yield reason_about(code, f"{what}: {len(canaries)}", canaries)


def has_exact_rank(canary: CanaryResult) -> bool:
    """Whether its exposure is a number and not only an interval."""
    return not isinstance(canary.exposure, NotAvailable) and not isinstance(canary.exposure.bits, NotAvailable)


def _rules(tier: Tier) -> Iterator[tuple[str, str, Callable[[CanaryResult], bool]]]:
    """What must not hold of any canary at this tier."""
    if tier in _SCORES_ANY_TOKEN:
        yield "missing-number", "Canaries without an exposure", lambda c: isinstance(c.exposure, NotAvailable)
    if tier == "full-logits":
        yield (
            "missing-number",
            "Canaries of which only an interval is known, though the model hid nothing",
            lambda c: not isinstance(c.exposure, NotAvailable) and not has_exact_rank(c),
        )
        yield "missing-number", "Canaries without a cost", lambda c: isinstance(c.nll_bits, NotAvailable)
        yield (
            "inconsistent",
            "Canaries ranked as if the model had hidden something",
            lambda c: not isinstance(c.exposure, NotAvailable) and c.exposure.method in _LIMITED_METHODS,
        )
    if tier == "text-only":
        yield (
            "inconsistent",
            "Canaries with an exposure or a cost, though the model only wrote text",
            lambda c: not (isinstance(c.exposure, NotAvailable) and isinstance(c.nll_bits, NotAvailable)),
        )
    else:
        yield (
            "inconsistent",
            "Canaries that came out with edits, though the model was not only asked for text",
            lambda c: c.extraction.edits > 0,
        )
    yield (
        "inconsistent",
        "Canaries with an exact rank that a certificate cannot give",
        lambda c: not isinstance(c.exposure, NotAvailable) and c.exposure.method == "certificate" and has_exact_rank(c),
    )


def _endpoint_contradicts(result: AuditResult) -> Iterator[Reason]:
    endpoint, served = result.endpoint, result.model.tier != "full-logits"
    if result.calls < 0 or any(group.noise_floor_nats < 0 for group in result.groups):
        yield Reason(code="impossible-number", message="A number of calls or a noise floor is negative.")
    if isinstance(endpoint, NotAvailable):
        if served:
            message = f"The model was seen as {result.model.tier}, but the result names no endpoint."
            yield Reason(code="inconsistent", message=message)
        return
    if not served:
        yield Reason(code="inconsistent", message="The model was served, but every log-probability was seen.")
    if result.calls == 0:
        yield Reason(code="inconsistent", message="The model was served, but no request was answered.")
    if endpoint.noise_floor_nats < 0 or endpoint.tokens < 0:
        yield Reason(code="impossible-number", message="The noise floor or the tokens of the endpoint are negative.")
    unlimited = isinstance(endpoint.max_calls, NotAvailable) and isinstance(endpoint.max_tokens, NotAvailable)
    if endpoint.budget_spent and unlimited:
        yield Reason(code="inconsistent", message="A budget was spent, but none was set.")
