"""Where a pre-tokenizer cuts between two tokens, told from their shapes.

Asking the pre-tokenizer about each pair of tokens would take hours, so tokens of one shape share an answer: a run of
letters counts as one, all lower-case letters are alike, and so are all capitals and all digits. Everything else is
taken as it is written.
"""

import re
import string
from collections.abc import Callable
from enum import Enum

_LIKE = str.maketrans(string.ascii_lowercase + string.ascii_uppercase + string.digits, "x" * 26 + "X" * 26 + "0" * 10)
_RUN = re.compile(r"(x|X)\1+")
_CONTRACTED = "strevmld"
"""Letters of the English contractions that pre-tokenizers cut off: 's, 't, 're, 've, 'm, 'll, 'd."""
_N_LITERAL = 2


class Cut(Enum):
    """Where two adjacent tokens are cut apart."""

    NONE = "they lie in one pre-token"
    BETWEEN = "at their border"
    INSIDE = "within one of them"


class Shapes:
    """What a pre-tokenizer does with tokens of a text over the bytes of `alphabet`; `splits` as in `MergeRules`."""

    def __init__(self, splits: Callable[[str], list[int]], alphabet: bytes) -> None:
        self._splits = splits
        self._cuts = bool(splits(string.printable))
        self._apostrophe = b"'" in alphabet

    def of(self, word: bytes) -> bytes:
        """The shape of a token: a short text that is cut like it."""
        if not self._cuts:
            return b""
        if not word.isascii():
            return word
        if not self._apostrophe:
            return _shape(word.decode()).encode()
        place = word.rfind(b"'") + 1 + _N_LITERAL
        begin, rest = word[:place].decode(), word[place:].decode()
        kept = "".join(letter if letter.lower() in _CONTRACTED else letter.translate(_LIKE) for letter in begin)
        return (kept + _shape(rest)).encode()

    def cut(self, left: bytes, right: bytes) -> Cut:
        """Where a token of shape `left` and one of shape `right` are cut when they stand side by side."""
        try:
            text, border = (left + right).decode(), len(left.decode())
        except UnicodeDecodeError:
            return Cut.NONE  # a character is never cut
        cuts = self._splits(text)
        if not cuts:
            return Cut.NONE
        return Cut.BETWEEN if cuts == [border] else Cut.INSIDE


def _shape(text: str) -> str:
    return _RUN.sub(r"\1", text.translate(_LIKE))
