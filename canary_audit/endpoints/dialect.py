"""What can be asked of a served model, whatever API it speaks.

A dialect writes requests and reads answers; it sends nothing. Every request carries its reader, so that an answer is
checked before it is journaled or believed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier

Api = Literal["vllm", "sglang", "llamacpp", "openai", "chat"]

T = TypeVar("T")
Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Request(Generic[Answer_co]):
    """One HTTP request and how to read its answer."""

    path: str
    """Below the endpoint's base URL, such as `/v1/completions`."""
    body: Mapping[str, Any] | None
    """JSON to POST; None to GET."""
    n_tokens: int
    """Tokens sent and asked for, at most: what it costs of a budget."""
    read: Callable[[Any], Answer_co]
    """From decoded JSON to a checked answer.

    Raises:
        EndpointError: the answer lacks something, contradicts the request, or cannot be true.
    """
    order: tuple[int, ...] = ()
    """Requests are sent in this order (token ids of the prompt), so that neighbours share a prefix in the server's
    cache."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Next-token log-probabilities in nats: those a server gave for one prefix."""

    log_probs: Mapping[int, float]
    """Token -> log-probability. It may hold more than was asked for, and lack some."""
    is_top: bool
    """True if these are the likeliest tokens (others may be among them): no token outside is likelier than the least
    likely of the top, and all outside share what the top leaves."""
    n_top: int = 0
    """How many of the likeliest tokens are among them; 0 if `is_top` is False."""


class Dialect(Protocol):
    """One API. What it does not offer raises `EndpointError` with the reason when it is asked for."""

    api: Api
    tiers: tuple[Tier, ...]
    """What servers of this API can offer, the best first."""

    def identity(self) -> Sequence[Request[str]]:
        """Requests whose answers say what serves: its name and version. Failures are no errors."""

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """Next tokens after `prefix`: those `wanted` in a tier that can choose, else the likeliest."""

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """Log-probability of one token after `prefix`, whatever it is."""

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """Log-probabilities of `tokens[start:]`, each after all before it; shape (len(tokens) - start,); start > 0."""

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """`n` continuations of a text; temperature 0 is greedy. `seed` tells repeated requests apart."""
