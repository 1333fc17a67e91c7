"""Which token a server means by a name: APIs in OpenAI's style name tokens by their text."""

import re
from collections.abc import Sequence
from functools import cached_property

from canary_audit.errors import EndpointError
from canary_audit.vocabulary import Vocabulary

_BY_ID = re.compile(r"token_id:([0-9]{1,9})")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_UNREADABLE = "\ufffd"
"""What stands for a part of a character."""
_WORD_START = "\u2581"
"""How SentencePiece writes a space."""


def id_in(name: str, vocabulary: Vocabulary | None) -> int | None:
    """The token of a name like `token_id:13`; None of any other name.

    Raises:
        EndpointError: the vocabulary has no such token.
    """
    found = _BY_ID.fullmatch(name)
    return None if found is None else known(int(found.group(1)), vocabulary)


def known(token: int, vocabulary: Vocabulary | None) -> int:
    """A token that the vocabulary has.

    Raises:
        EndpointError: it has not.
    """
    if vocabulary is not None and token >= vocabulary.size:
        raise EndpointError(
            "the answer names a token that the tokenizer does not have: --tokenizer is not the served model's"
        )
    return token


class TokenNames:
    """Names of a vocabulary's tokens."""

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        """Name the tokens of a vocabulary; without one, they have numbers only."""
        self._vocabulary = vocabulary

    def token(self, name: str, wanted: Sequence[int], raw: bytes | None = None) -> int | None:
        """The one token that a name can mean; None if there is none, or more than one.

        Args:
            wanted: tokens that must not be missed.
            raw: the bytes that the server gives besides the name.

        Raises:
            EndpointError: the name may mean a wanted token, and another one too.
        """
        by_id = id_in(name, self._vocabulary)
        if by_id is not None:
            return by_id
        candidates = self._candidates(name, raw)
        if len(candidates) == 1:
            return candidates[0]
        if not set(wanted).isdisjoint(candidates):
            raise EndpointError(
                "the endpoint names tokens by their text, and a wanted one shares its text with others: use an API "
                "that names tokens by number (vllm, sglang, llamacpp)"
            )
        return None

    def is_name_of(self, name: str, token: int) -> bool:
        """Whether a name can mean this token."""
        by_id = id_in(name, self._vocabulary)
        # Special tokens spell nothing, and servers write them as they like.
        return by_id == token if by_id is not None else token in self._candidates(name, None) or token in self._silent

    def _candidates(self, name: str, raw: bytes | None) -> Sequence[int]:
        if raw is not None and is_text(raw) and raw.decode() != name:
            raise EndpointError("the answer names a token, and gives the bytes of another")
        if raw == b"" and self._candidates(name, None):  # only a special token, whatever its name, spells nothing
            raise EndpointError("the answer names a token, and gives no bytes of it")
        spelled = _bytes_of(name) if raw is None else raw
        if _UNREADABLE.encode() in spelled:
            return [*self._partial, *self._by_bytes.get(spelled, ())]
        plain = spelled.replace(_WORD_START.encode(), b" ")
        return self._by_bytes.get(spelled) or self._by_bytes.get(plain) or ()

    @cached_property
    def _by_bytes(self) -> dict[bytes, list[int]]:
        """What tokens spell -> the tokens."""
        tokens: dict[bytes, list[int]] = {}
        vocabulary = self._known_vocabulary()
        for token in range(vocabulary.size):
            if spelled := vocabulary.spelled(token):
                tokens.setdefault(spelled, []).append(token)
        return tokens

    @cached_property
    def _partial(self) -> list[int]:
        """Tokens that spell parts of characters: servers write all of them alike."""
        return [token for spelled, tokens in self._by_bytes.items() if not is_text(spelled) for token in tokens]

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Tokens that spell nothing."""
        vocabulary = self._known_vocabulary()
        return frozenset(token for token in range(vocabulary.size) if not vocabulary.spelled(token))

    def _known_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            raise EndpointError("the endpoint names tokens by their text, which needs the tokenizer: give --tokenizer")
        return self._vocabulary


def _bytes_of(name: str) -> bytes:
    """What a name spells: itself, or what is escaped in a name like `bytes:\\xe2\\x82`."""
    spelled = name.encode(errors="surrogatepass")
    escaped = spelled.removeprefix(b"bytes:")
    if escaped == spelled or not _ESCAPED.search(escaped):
        return spelled
    return _ESCAPED.sub(lambda found: bytes.fromhex(found.group(1).decode()), escaped)


def is_text(spelled: bytes) -> bool:
    """Whether bytes are whole characters, and at least one."""
    try:
        return bool(spelled.decode())
    except UnicodeDecodeError:
        return False
