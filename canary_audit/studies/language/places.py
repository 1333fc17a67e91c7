"""Single tokens, and what a network has read before each of them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from canary_audit.canaries import Group, canary_text
from canary_audit.models.token_scores import text_tokens
from canary_audit.training.stream import start_token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One token in its text."""

    context: tuple[int, ...]
    """The start token and all tokens of the text before it."""
    token: int


@dataclass(frozen=True, kw_only=True)
class CanaryTokens:
    """A canary's text in tokens, and which of them are what."""

    tokens: tuple[int, ...]
    secret: tuple[int, ...]
    """Numbers of those that overlap the secret."""
    before: tuple[int, ...]
    """Numbers of those that end where the secret begins, or sooner."""


def canary_tokens(tokenizer: "PreTrainedTokenizerFast", group: Group, secret: bytes) -> CanaryTokens:
    """Find a canary's secret among the tokens of its text."""
    encoded = tokenizer(
        canary_text(group, secret),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    start, end = len(group.prefix), len(group.prefix) + len(secret.decode())
    spans = list(enumerate(encoded["offset_mapping"]))
    return CanaryTokens(
        tokens=tuple(encoded["input_ids"]),
        secret=tuple(number for number, (low, high) in spans if low < end and high > start),
        before=tuple(number for number, (_, high) in spans if high <= start),
    )


def secret_places(tokenizer: "PreTrainedTokenizerFast", group: Group, secret: bytes) -> list[Place]:
    """The tokens of a canary that overlap its secret."""
    found = canary_tokens(tokenizer, group, secret)
    return list(_places(tokenizer, found.tokens, found.secret))


def text_places(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], lengths: Collection[int]) -> list[Place]:
    """The tokens of `texts` that stand behind contexts of these lengths, the start token included."""
    return [
        place
        for tokens in text_tokens(tokenizer, texts)
        for place in _places(tokenizer, tokens, (length - 1 for length in sorted(lengths) if length <= len(tokens)))
    ]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly spaced over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _places(tokenizer: "PreTrainedTokenizerFast", tokens: Sequence[int], numbers: Iterable[int]) -> Iterator[Place]:
    start = start_token(tokenizer)
    for number in numbers:
        yield Place(context=(start, *tokens[:number]), token=tokens[number])
