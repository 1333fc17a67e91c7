"""Secrets where they stand: between a prefix and a suffix, tokenized as one text.

Only the *canonical* tokenization of the whole string prefix + secret + suffix counts: the one the model saw in
training. Tokenizing the pieces apart gives another sequence wherever a token spans their border.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace
from canary_audit.vocabulary import Vocabulary

_N_DRAWN = 64


class Framing:
    """The secrets of a space in one place, under one tokenizer.

    Attributes:
        head: bytes that the tokens spell before the secret: the prefix, and the space a tokenizer may put before it.
        samples: 64 random secrets, and for each byte of the format one that holds it.
        sample_tokens: the tokens of each sample's whole text.

    Raises:
        SpaceError: the suffix does not end each secret, or the tokenizer does not give the samples back.
    """

    def __init__(self, space: SecretSpace, vocabulary: Vocabulary, prefix: str, suffix: str) -> None:
        self.space = space
        self.vocabulary = vocabulary
        self.prefix, self.suffix = prefix.encode(), suffix.encode()
        _check_suffix(space, self.suffix)
        self._n_beyond = 0 if space.prefix_free else 1
        self.samples = _samples(space)
        self.head = self._head()
        self.sample_tokens = self.tokenize(self.samples)

    def tokenize(self, secrets: Sequence[bytes]) -> list[list[int]]:
        """Tokens of the whole text of each secret.

        Raises:
            SpaceError: a secret does not survive the tokenizer.
        """
        encoded = self.vocabulary.encode_batch([self.prefix + secret + self.suffix for secret in secrets])
        for secret, tokens in zip(secrets, encoded, strict=True):
            if self._spelled(tokens) != self.head + secret + self.suffix:
                raise SpaceError(self._rewritten())
        return encoded

    def path(self, secret: bytes, tokens: Sequence[int], n_prompt: int) -> tuple[int, ...]:
        """Of all tokens of a secret's text, those of its leaf: `n_prompt` tokens before it left out.

        The leaf ends with the token that covers the secret's last byte. Where one secret can be the beginning of
        another, it also takes the suffix's first token, without which the shorter would not be a leaf of its own.
        """
        n_bytes = self.leaf_bytes(secret)
        spelled = self.vocabulary.spelled
        lengths = accumulate(len(spelled(token)) for token in tokens)
        end = next(place for place, length in enumerate(lengths, start=1) if length >= n_bytes)
        return tuple(tokens[n_prompt:end])

    def leaf_bytes(self, secret: bytes) -> int:
        """Bytes from the start of the text that a leaf's last token must reach."""
        return len(self.head) + len(secret) + self._n_beyond

    def n_shared(self) -> int:
        """Tokens that all samples begin with and that end before the secret."""
        n_shared = n_bytes = 0
        for column in zip(*self.sample_tokens, strict=False):
            n_bytes += len(self.vocabulary.spelled(column[0]))
            if len(set(column)) > 1 or n_bytes > len(self.head):
                break
            n_shared += 1
        return n_shared

    def secret(self, path: Sequence[int], stable: Sequence[int]) -> bytes:
        """The secret in a leaf's text, `stable` tokens before it: what lies between prefix and suffix."""
        spelled = self._spelled((*stable, *path))[len(self.head) :]
        state, end = self.space.start, 0
        for position, byte in enumerate(spelled):
            following = dict(self.space.edges(state)).get(byte)
            if following is None:
                break
            state, end = following, position + 1
        return spelled[:end]

    def _spelled(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self.vocabulary.spelled, tokens))

    def _head(self) -> bytes:
        """What the tokens of a sample spell before its secret."""
        rest = self.samples[0] + self.suffix
        spelled = self._spelled(self.vocabulary.encode(self.prefix + rest))
        head = spelled[: len(spelled) - len(rest)]
        if head not in {self.prefix, b" " + self.prefix} or not spelled.endswith(rest):
            raise SpaceError(self._rewritten())
        return head

    def _rewritten(self) -> str:
        return (
            f"format {self.space.format!r}: the tokenizer rewrites prefix + secret + suffix: its normalizer changes "
            "characters, it has no token for one of them, or the text holds a special token; the model would never "
            "read the secrets that were planted, so audit a format and a prefix that the tokenizer keeps"
        )


def _samples(space: SecretSpace) -> list[bytes]:
    """Secrets to verify a walk on: drawn with a fixed seed, so that a walk is the same every time."""
    drawn = space.draw(min(_N_DRAWN, space.size), random.Random(0))  # noqa: S311 - not for secrets
    missing = {byte for state in range(space.n_states) for byte in dict(space.edges(state))}.difference(*drawn)
    return [*drawn, *_holding(space, missing)] if missing else drawn


def _holding(space: SecretSpace, wanted: set[int]) -> Iterator[bytes]:
    """For each byte in `wanted` a secret that holds it."""
    begun = {space.start: b""}
    for state in _breadth_first(space, begun):
        for byte, target in dict(space.edges(state)).items():
            if byte in wanted:
                wanted = wanted - {byte}
                yield _completed(space, begun[state] + bytes([byte]), target)


def _breadth_first(space: SecretSpace, begun: dict[int, bytes]) -> Iterator[int]:
    """States in breadth-first order; `begun` grows by one beginning for each."""
    for state in (queue := list(begun)):
        yield state
        for byte, target in dict(space.edges(state)).items():
            if target not in begun:
                begun[target] = begun[state] + bytes([byte])
                queue.append(target)


def _completed(space: SecretSpace, secret: bytes, state: int) -> bytes:
    while not space.accepts(state):
        byte, state = next(iter(dict(space.edges(state)).items()))
        secret += bytes([byte])
    return secret


def _check_suffix(space: SecretSpace, suffix: bytes) -> None:
    """The suffix must begin with a byte that cannot continue a secret, or its end would be ambiguous."""
    if space.prefix_free:
        return
    if not suffix:
        raise SpaceError(f"format {space.format!r} has secrets that begin other secrets: add a suffix that ends them")
    for state in range(space.n_states):
        if space.accepts(state) and suffix[0] in dict(space.edges(state)):
            raise SpaceError(
                f"format {space.format!r}: the suffix begins like the rest of a secret; change its first character"
            )
