"""Strict reading of decoded JSON: every value is checked before it is believed.

A message names the field that is wrong and never repeats what stood in it: an answer may hold secret text.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from canary_audit.endpoints.dialect import Window
from canary_audit.errors import EndpointError

LEAST_LOG_PROB: Final = -9_000.0
"""Below it stand the numbers that servers write for probability zero: llama.cpp the least float, vLLM and OpenAI -9999.
No model gives them."""

_ROUNDING: Final = 1e-6
_EXCESS: Final = 1e-3
"""How far a sum of probabilities may exceed one: servers add up in single precision."""
_NAMES: Final = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A value of an answer, and where it stands in it."""

    value: Any
    name: str = "the answer"

    def at(self, *path: str | int) -> "Field":
        """Go down by keys of objects and places in arrays.

        Raises:
            EndpointError: there is nothing of that kind.
        """
        found = self
        for step in path:
            found = found._member(step) if isinstance(step, str) else found._place(step)
        return found

    def maybe(self, key: str) -> "Field | None":
        """A member of an object; None if it is missing or null."""
        present = self._object().get(key)
        return None if present is None else self.at(key)

    def places(self, count: int | None = None) -> list["Field"]:
        """The places of an array, of which there must be `count`.

        Raises:
            EndpointError: it is no array, or one of another length.
        """
        if not isinstance(self.value, list):
            raise self.is_not("an array")
        if count is not None and len(self.value) != count:
            raise EndpointError(f"{self.name} has {len(self.value)} entries where {count} are due")
        return [Field(value=value, name=f"{self.name}[{place}]") for place, value in enumerate(self.value)]

    def members(self) -> dict[str, "Field"]:
        """The members of an object whose keys are answers too: they are not named."""
        return {key: Field(value=value, name=f"a member of {self.name}") for key, value in self._object().items()}

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.is_not("a string")
        return self.value

    def integer(self) -> int:
        """A whole number that is not negative."""
        if type(self.value) is not int or self.value < 0:
            raise self.is_not("a whole number, zero or more")
        return self.value

    def log_prob(self) -> float:
        """See `checked_log_prob`."""
        return checked_log_prob(self.value, self.name)

    def require_null(self) -> None:
        """Make sure that nothing stands where nothing can be known."""
        if self.value is not None:
            raise self.is_not("null")

    def require_equal(self, expected: int | str, meaning: str) -> None:
        """Make sure that the server repeats what it was sent, exactly.

        Args:
            meaning: what it means if it does not.
        """
        if type(self.value) is not type(expected) or self.value != expected:
            raise EndpointError(f"{self.name} does not repeat the request: {meaning}")

    def is_not(self, expected: str) -> EndpointError:
        """The error to raise."""
        return EndpointError(f"{self.name} is {_NAMES.get(type(self.value), 'another number')}, not {expected}")

    def _object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.is_not("an object")
        return self.value

    def _member(self, key: str) -> "Field":
        name = key if self.name == "the answer" else f"{self.name}.{key}"
        if key not in self._object():
            raise EndpointError(f"the answer has no {name}")
        return Field(value=self._object()[key], name=name)

    def _place(self, place: int) -> "Field":
        places = self.places()
        if not -len(places) <= place < len(places):
            raise EndpointError(f"the answer has no {self.name}[{place}]")
        return places[place]


def checked_log_prob(value: Any, name: str = "a log-probability") -> float:
    """A log-probability in nats: a finite number, zero at most; rounding above zero is taken back.

    Raises:
        EndpointError: it is none, or stands for a probability of zero, whose logarithm nobody knows.
    """
    if type(value) not in {int, float}:
        raise EndpointError(f"{name} is {_NAMES.get(type(value), 'no number')}, not a log-probability")
    if not value <= _ROUNDING:
        raise EndpointError(f"{name} is no log-probability: it is above zero, or not a number")
    if not value >= LEAST_LOG_PROB:
        raise EndpointError(
            f"{name} stands for a probability of zero, in the server's arithmetic; what the model gives it is unknown"
        )
    return min(float(value), 0.0)


def checked_window(pairs: Sequence[tuple[int | None, float]]) -> dict[int, float]:
    """Token -> log-probability of what a server names; a token of None is one without a name, and left out.

    Raises:
        EndpointError: a token is named twice, or the probabilities exceed one together.
    """
    named = [token for token, _ in pairs if token is not None]
    if len(set(named)) < len(named):
        raise EndpointError("the answer names one token twice")
    if math.fsum(math.exp(log_prob) for _, log_prob in pairs) > 1.0 + _EXCESS:
        raise EndpointError("the answer's probabilities of one next token exceed one together")
    return {token: log_prob for token, log_prob in pairs if token is not None}


def chosen_window(pairs: Sequence[tuple[int, float]], wanted: Sequence[int], *, drawn: int | None = None) -> Window:
    """What a server answers that gives the tokens asked for, and the one it drew besides.

    Raises:
        EndpointError: it gives others; and see `checked_window`.
    """
    log_probs = checked_window(pairs)
    due = set(wanted) | ({drawn} if drawn is not None else set())
    if set(log_probs) != due:
        raise EndpointError(
            f"the answer gives {len(log_probs)} tokens, not the {len(due)} asked for: the server ignores the choice of "
            "tokens; update it, or use another --tier"
        )
    return Window(log_probs=log_probs, is_top=False)


def top_window(
    pairs: Sequence[tuple[int | None, float]],
    top_k: int,
    *,
    drawn: float | None = None,
    drawn_displaces: bool = False,
    ordered: bool = False,
) -> Window:
    """What a server answers that gives its `top_k` likeliest tokens.

    Many servers add the token they drew where it is not among these. A token without a name is none that an audit asks
    for; it counts as unseen.

    Args:
        drawn: log-probability of the drawn token, where it may stand among the pairs.
        drawn_displaces: true if the drawn token may have taken the place of the least likely.
        ordered: true if the server promises the likeliest first.

    Raises:
        EndpointError: their number or order is another; and see `checked_window`.
    """
    values = [log_prob for _, log_prob in pairs]
    if len(pairs) != top_k and not (drawn is not None and len(pairs) == top_k + 1):
        raise EndpointError(
            f"the answer gives {len(pairs)} likeliest tokens where {top_k} were asked for: set endpoint.top_k to what "
            "the server allows"
        )
    if ordered and any(later > earlier + _ROUNDING for earlier, later in itertools.pairwise(values)):
        raise EndpointError("the answer does not give the likeliest tokens first")
    log_probs = checked_window(pairs)
    least = int(np.argmin(values))
    is_outside = drawn is not None and abs(values[least] - drawn) <= _ROUNDING
    if len(pairs) > top_k and not is_outside:
        raise EndpointError("the answer gives one token too many, and it is not the one that was drawn")
    leaves_one_out = is_outside and (drawn_displaces or len(pairs) > top_k)
    counted = [place for place in range(len(pairs)) if not (leaves_one_out and place == least)]
    n_top = sum(pairs[place][0] is not None for place in counted)
    return Window(log_probs=log_probs, is_top=n_top > 0, n_top=n_top)


def require_agreement(one: float, other: float) -> None:
    """Make sure that a log-probability that is given twice is the same both times."""
    if abs(one - other) > _EXCESS:
        raise EndpointError("the answer gives one token two log-probabilities")


def tokens_sent(prompt_tokens: Field | None, n_sent: int) -> None:
    """Make sure that the server read as many tokens as it was sent, if it says so."""
    if prompt_tokens is not None:
        prompt_tokens.require_equal(
            n_sent,
            f"{n_sent} tokens were sent, and the server read more or fewer; serve the model without added tokens",
        )


def sanitized(text: str) -> str:
    """Printable ASCII, at most 80 characters, for a report."""
    return "".join(character for character in text if " " <= character <= "~")[:80]
