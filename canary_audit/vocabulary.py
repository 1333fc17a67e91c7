"""What a tokenizer's tokens spell, in bytes, and how it joins symbols into tokens.

The walk over a secret space needs the bytes of each token and the tokens of a text. Where it may walk a space far too
large to tokenize, it also needs the merges and the pre-tokenizer of a byte-pair tokenizer.
"""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from canary_audit.errors import SpaceError

_WORD_START = "\u2581"
"""How SentencePiece writes a space."""
_PROBE = f"{string.ascii_letters} {string.digits} {string.punctuation}."


@dataclass(frozen=True, kw_only=True)
class MergeRules:
    """Byte-pair encoding: a text is cut into pre-tokens, each into symbols, and adjacent symbols merge, by rank."""

    ranks: Mapping[tuple[int, int], int]
    """(left token, right token) -> rank of their merge; the lowest merges first, and the leftmost among equals."""
    merged: Mapping[tuple[int, int], int]
    """(left token, right token) -> the token they become."""
    symbols: frozenset[int]
    """Tokens of one byte or character, from which merging starts."""
    splits: Callable[[str], list[int]]
    """Where the pre-tokenizer cuts a text: offsets in characters, both ends of the text left out."""
    whole_words: bool
    """True if a pre-token that is a token is taken as it stands, without merging."""

    @cached_property
    def sources(self) -> dict[int, list[tuple[int, int, int]]]:
        """Token -> (rank, left, right) of the merges that make it, by rank."""
        sources: dict[int, list[tuple[int, int, int]]] = {}
        for pair, rank in self.ranks.items():
            sources.setdefault(self.merged[pair], []).append((rank, *pair))
        return {token: sorted(merges) for token, merges in sources.items()}


class Vocabulary(Protocol):
    """Tokens as bytes."""

    size: int
    merges: MergeRules | None
    """None if the tokenizer is not a byte-pair one, or one whose pairs of tokens do not tell what is canonical."""

    def encode(self, text: bytes) -> list[int]:
        """Canonical tokens of `text`, which is valid UTF-8, no special tokens added."""

    def encode_batch(self, texts: Sequence[bytes]) -> list[list[int]]:
        """`encode` of many texts."""

    def spelled(self, token: int) -> bytes:
        """Bytes of one token as they stand in a text; empty for special tokens, which spell nothing.

        A tokenizer may put a space before a text: its tokens then spell that space too.
        """


class ByteVocabulary:
    """One token a byte, its value the token: the simplest vocabulary, for tables and tests."""

    size = 256
    merges: MergeRules | None = MergeRules(
        ranks={}, merged={}, symbols=frozenset(range(256)), splits=lambda _: [], whole_words=False
    )

    def encode(self, text: bytes) -> list[int]:
        """The bytes themselves."""
        return list(text)

    def encode_batch(self, texts: Sequence[bytes]) -> list[list[int]]:
        """The bytes themselves."""
        return [self.encode(text) for text in texts]

    def spelled(self, token: int) -> bytes:
        """The one byte."""
        return bytes([token])


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The vocabulary of a fast tokenizer of transformers: byte-level BPE, SentencePiece BPE or unigram.

    Raises:
        SpaceError: the tokenizer is slow, random, or rewrites letters, digits or punctuation.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise SpaceError(
            f"{type(tokenizer).__name__} is not a fast tokenizer; convert it to the tokenizers library's format"
        )
    description = json.loads(backend.to_str())
    if description["model"].get("dropout"):
        raise SpaceError("the tokenizer drops merges at random, so a text has no fixed tokens; switch its dropout off")
    _require_faithful(backend.normalizer, description["normalizer"])
    return _FastVocabulary(tokenizer, description)


class _FastVocabulary:
    """A tokenizer of the tokenizers library."""

    def __init__(self, tokenizer: Any, description: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        names: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(self.size)))
        byte_level = _uses_byte_level(description)
        spell = _byte_level_bytes if byte_level else _sentence_piece_bytes
        self._bytes = [b"" if name is None else spell(name) for name in names]
        for token in description["added_tokens"]:
            self._bytes[token["id"]] = b"" if token["special"] else token["content"].encode()
        for token in tokenizer.all_special_ids:
            self._bytes[token] = b""
        self.merges = _merge_rules(tokenizer.backend_tokenizer, description)

    def encode(self, text: bytes) -> list[int]:
        """Canonical tokens of `text`, no special tokens added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[bytes]) -> list[list[int]]:
        """Canonical tokens of each text, no special tokens added."""
        if not texts:
            return []
        encoded: list[list[int]] = self._tokenizer(
            [text.decode("utf-8") for text in texts],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return encoded

    def spelled(self, token: int) -> bytes:
        """Bytes of one token."""
        return self._bytes[token]


def _require_faithful(normalizer: Any, description: Mapping[str, Any] | None) -> None:
    """Refuse a normalizer that changes plain text, apart from how it writes spaces."""
    if normalizer is None or description is None:
        return
    read = normalizer.normalize_str(_PROBE).replace(_WORD_START, " ")
    if read not in {_PROBE, f" {_PROBE}"}:
        parts = description.get("normalizers", [description])
        names = ", ".join(part["type"] for part in parts)
        raise SpaceError(
            f"the tokenizer's normalizer ({names}) rewrites letters, digits or punctuation, so the model never reads "
            "the secrets that were planted; audit a model whose tokenizer keeps them"
        )


def _merge_rules(backend: Any, description: Mapping[str, Any]) -> MergeRules | None:
    """The merges of a BPE model whose tokens are plain pieces of text; None for all other models."""
    model = description["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    ranks, merged = {}, {}
    for rank, (left, right) in enumerate(model["merges"]):
        pair = (vocabulary[left], vocabulary[right])
        ranks[pair] = rank
        merged[pair] = vocabulary[left + right]
    return MergeRules(
        ranks=ranks,
        merged=merged,
        symbols=frozenset(_symbols(vocabulary, model.get("byte_fallback", False))),
        splits=_splits(backend, description),
        whole_words=bool(model.get("ignore_merges")),
    )


def _symbols(vocabulary: Mapping[str, int], byte_fallback: bool) -> list[int]:
    """Tokens of one character, and those of ASCII bytes that have no such token.

    A byte above 127 is no symbol: whether a text is cut down to it depends on the character it is a part of.
    """
    symbols = [token for name, token in vocabulary.items() if len(name) == 1]
    if byte_fallback:
        written = {chr(byte): f"<0x{byte:02X}>" for byte in range(128)}
        lacking = [name for character, name in written.items() if character not in vocabulary and character != " "]
        symbols += [vocabulary[name] for name in lacking if name in vocabulary]
    return symbols


def _splits(backend: Any, description: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """Where the pre-tokenizer cuts a text that more text stands before: no space is added to it."""
    if description["pre_tokenizer"] is None:
        return lambda _: []
    bare = {
        **description,
        "model": {**description["model"], "vocab": {}, "merges": [], "unk_token": None},
        "pre_tokenizer": _within_text(description["pre_tokenizer"]),
        "added_tokens": [],
        "post_processor": None,
    }
    pre_tokenizer = type(backend).from_str(json.dumps(bare)).pre_tokenizer
    spaces_rewritten = _WORD_START in json.dumps(description["normalizer"], ensure_ascii=False)

    def splits(text: str) -> list[int]:
        read = text.replace(" ", _WORD_START) if spaces_rewritten else text
        return [end for _, (_, end) in pre_tokenizer.pre_tokenize_str(read) if 0 < end < len(text)]

    return splits


def _within_text(pre_tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """The same pre-tokenizer without the space it may put before a text."""
    changed = dict(pre_tokenizer)
    if "pretokenizers" in changed:
        changed["pretokenizers"] = [_within_text(part) for part in changed["pretokenizers"]]
    if "prepend_scheme" in changed:
        changed["prepend_scheme"] = "never"
    if "add_prefix_space" in changed:
        changed["add_prefix_space"] = False
    return changed


def _uses_byte_level(description: Mapping[str, Any]) -> bool:
    """Are tokens written in the byte-level alphabet?"""
    pre_tokenizer = description["pre_tokenizer"] or {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _byte_names() -> dict[str, int]:
    """The character byte-level tokenizers write for each byte; bytes without a printable one move up to 256 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    shown = {chr(byte): byte for byte in printable}
    return shown | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_names()
_FALLBACK_BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}


def _byte_level_bytes(name: str) -> bytes:
    """Bytes of a token's written form; empty where it is not byte-level."""
    values = [_BYTE_OF.get(character) for character in name]
    return bytes(value for value in values if value is not None) if None not in values else b""


def _sentence_piece_bytes(name: str) -> bytes:
    """Bytes of a SentencePiece token."""
    return _FALLBACK_BYTES.get(name) or name.replace(_WORD_START, " ").encode()
