"""What can be wrong with a simulated server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from simulated.changes import Change
from simulated.model import SimulatedModel
from simulated.shape import Likeliest, top
from simulated.wire import Wire

ALL = ("vllm", "sglang", "llamacpp", "openai", "chat")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. Several of its functions may act together; those not given change nothing."""

    name: str
    shapes: tuple[str, ...] = ALL
    """APIs in which it can occur."""
    expected: Literal["error", "recovers", "either"] = "error"
    """How an audit must end: with an error of this package; with the same numbers as without the fault; or with one of
    these two. Never with other numbers, never with an error of another kind."""
    shows: Literal["at-once", "compared"] = "at-once"
    """Whether one answer that holds the fault shows it, or only several answers, compared, do."""
    from_start: bool = True
    """False if a server that does this from the first request on is merely another honest server."""
    lasts: int | None = None
    """Requests that meet it; None for all from the first on."""
    ask: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda body: body
    """The request that is answered instead of the one that came."""
    model: Callable[[SimulatedModel], SimulatedModel] = lambda model: model
    """The model that answers."""
    likeliest: Likeliest = top
    """What it takes for the likeliest tokens."""
    change: Change = lambda answer: answer
    """The decoded answer of a POST."""
    rewrite: Callable[[bytes], bytes] = lambda content: content
    """The encoded answer."""
    send: Callable[[Wire, bytes], None] | None = None
    """How it is sent, in place of a whole and well-formed HTTP answer."""

    def __str__(self) -> str:
        return self.name
