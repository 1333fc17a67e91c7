"""What a tokenizer's tokens spell, in bytes.

The walk over a secret space needs two things of a tokenizer: the bytes of each token, and the tokens of a text.
Only byte-level tokenizers are served here; others (SentencePiece, unigram) are refused by name.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from canary_audit.errors import SpaceError


class Vocabulary(Protocol):
    """Tokens as bytes."""

    size: int

    def encode(self, text: bytes) -> list[int]:
        """Canonical tokens of `text`, no special tokens added."""

    def spelled(self, token: int) -> bytes:
        """Bytes of one token; empty for special tokens, which spell nothing."""


class ByteVocabulary:
    """One token a byte, its value the token: the simplest vocabulary, for tables and tests."""

    size = 256

    def encode(self, text: bytes) -> list[int]:
        """The bytes themselves."""
        return list(text)

    def spelled(self, token: int) -> bytes:
        """The one byte."""
        return bytes([token])


class ByteLevelVocabulary:
    """A byte-level BPE tokenizer of transformers (GPT-2, Llama-3, SmolLM2 and the built-in ones).

    Raises:
        SpaceError: the tokenizer is not byte-level.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        special = set(tokenizer.all_special_ids)
        names: Sequence[str | None] = tokenizer.convert_ids_to_tokens(list(range(self.size)))
        self._bytes = [b"" if name is None or token in special else _bytes_of(name) for token, name in enumerate(names)]
        if len({word for word in self._bytes if len(word) == 1}) < 256:
            raise SpaceError(
                f"{type(tokenizer).__name__} is not a byte-level tokenizer: it has no token for some bytes; "
                "audit a model with a byte-level BPE tokenizer"
            )

    def encode(self, text: bytes) -> list[int]:
        """Canonical tokens of `text`, which must be valid UTF-8."""
        tokens: list[int] = self._tokenizer.encode(text.decode("utf-8"), add_special_tokens=False, verbose=False)
        return tokens

    def spelled(self, token: int) -> bytes:
        """Bytes of one token."""
        return self._bytes[token]


def _byte_names() -> dict[str, int]:
    """The character byte-level tokenizers write for each byte; bytes without a printable one move up to 256 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    shown = {chr(byte): byte for byte in printable}
    return shown | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_names()


def _bytes_of(name: str) -> bytes:
    """Bytes of a token's written form; empty where it is not byte-level."""
    values = [_BYTE_OF.get(character) for character in name]
    return bytes(value for value in values if value is not None) if None not in values else b""
