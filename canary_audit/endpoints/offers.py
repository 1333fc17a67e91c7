"""What an endpoint may turn out to give: tiers, and ways of asking for them, in the order in which they are tried."""

from dataclasses import dataclass

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.apis import dialect_for
from canary_audit.endpoints.dialect import Api, Dialect
from canary_audit.errors import EndpointError
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One tier, in one dialect."""

    tier: Tier
    dialect: Dialect


def offers_of(
    api: Api, *, model: str, vocabulary: Vocabulary | None, config: EndpointConfig, tier: Tier | None = None
) -> tuple[Offer, ...]:
    """What to try, the best first.

    Servers that speak OpenAI's APIs differ in what they give, so these are tried from the best tier down; all other
    servers are held to the best tier of their own API.

    Args:
        vocabulary: of the model's tokenizer; None leaves `text-only`.
        tier: the only one to try.

    Raises:
        EndpointError: the API has no such tier, or the tier needs a tokenizer.
    """
    every = tuple(_every(api, model, vocabulary, config))
    if tier is not None:
        if tier not in {offer.tier for offer in every}:
            tiers = ", ".join(dict.fromkeys(offer.tier for offer in every))
            raise EndpointError(f"--api {api} cannot give {tier}; it offers {tiers}")
        if vocabulary is None and tier != "text-only":
            raise EndpointError(f"tier {tier} needs the model's tokenizer: give it with --tokenizer")
        return tuple(offer for offer in every if offer.tier == tier)
    if vocabulary is None:
        return tuple(offer for offer in every if offer.tier == "text-only")
    return every if api in {"openai", "chat"} else every[:1]


def _every(api: Api, model: str, vocabulary: Vocabulary | None, config: EndpointConfig) -> list[Offer]:
    plain = dialect_for(api, model=model, vocabulary=vocabulary, config=config)
    offers = [Offer(tier=tier, dialect=plain) for tier in plain.tiers]
    if api == "openai":  # some servers must write a token before they echo
        written = dialect_for(api, model=model, vocabulary=vocabulary, config=config, echo_max_tokens=1)
        offers.insert(1, Offer(tier="prompt-logprobs", dialect=written))
    if api == "chat":  # next tokens of a text of ours, if the server goes on with what the assistant began
        begun = [
            dialect_for(api, model=model, vocabulary=vocabulary, config=config, prefill=prefill)
            for prefill in ("vllm", "plain")
        ]
        offers = [*(Offer(tier="top-k", dialect=one) for one in begun), Offer(tier="text-only", dialect=plain)]
    return offers
