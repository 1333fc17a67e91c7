"""How a served model was reached, and what that lets an audit see."""

import math
from collections.abc import Sequence

from canary_audit.report import numbers
from canary_audit.results import AuditResult, EndpointResult, NotAvailable, Tier

MEANING = (
    "A served model is seen through its API only. What the server was tried for, and whether it holds, decides how "
    "much can be measured."
)
TIERS: dict[Tier, str] = {
    "full-logits": "full logits, so every secret could be scored exactly and ranks need no fitted curve.",
    "chosen-tokens": (
        "log-probabilities of any token asked for, so every secret could be scored exactly and ranks need no fitted "
        "curve."
    ),
    "prompt-logprobs": (
        "log-probabilities of the tokens of a given text, so a secret could be scored, and its rank only where enough "
        "others were."
    ),
    "top-k": (
        "log-probabilities of the likeliest tokens, so a secret that leaves them is known only to lie in an interval."
    ),
    "text-only": (
        "nothing but the text it writes, so what came out is known, and nothing about how near the rest is to it."
    ),
}
"""What each tier shows, in plain words."""


def endpoint_facts(result: AuditResult, endpoint: EndpointResult) -> tuple[tuple[str, str], ...]:
    """Address, tier, noise and cost, as terms and values."""
    return (
        ("Address", endpoint.url),
        ("API", endpoint.api),
        ("Tier", f"{result.model.tier}: {TIERS[result.model.tier]}"),
        ("Noise floor", _noise(endpoint)),
        ("Requests answered", _of_budget(result.calls, endpoint.max_calls)),
        ("Tokens sent and answered", _of_budget(endpoint.tokens, endpoint.max_tokens)),
        ("Budget", _budget(endpoint)),
    )


def one_line(result: AuditResult) -> str:
    """Address, tier and cost in one sentence; empty for a model that ran where it was audited."""
    endpoint = result.endpoint
    if isinstance(endpoint, NotAvailable):
        return ""
    cost = f"{numbers.plural(result.calls, 'request')}, {numbers.plural(endpoint.tokens, 'token')}"
    ended = "; the budget ended the measurement" if endpoint.budget_spent else ""
    return f"Reached at {endpoint.url} ({endpoint.api}, {result.model.tier}): {cost}{ended}."


def _noise(endpoint: EndpointResult) -> str:
    nats = endpoint.noise_floor_nats
    return f"{numbers.scientific(nats)} nats ({numbers.scientific(nats / math.log(2))} bits) between repeated scores"


def _of_budget(used: int, limit: int | NotAvailable) -> str:
    return f"{numbers.count(used)}, no limit" if isinstance(limit, NotAvailable) else f"{used:,} of {limit:,} at most"


def _budget(endpoint: EndpointResult) -> str:
    if endpoint.budget_spent:
        return "spent: it ended the measurement, and intervals are wider than they could be"
    limits: Sequence[int | NotAvailable] = (endpoint.max_calls, endpoint.max_tokens)
    if all(isinstance(limit, NotAvailable) for limit in limits):
        return "none was set"
    return "not spent: it ended nothing"
