"""The grammar of secret formats: a format string becomes a nondeterministic automaton over bytes.

A format is literal text with slots in braces:

    {digit:9}  {hex:32}  {letter:8}  {upper:3}  {alnum:12}    characters, repeated
    {digit:4..6}                                              a repeat of variable length
    {luhn:16}                                                 digits that end in their Luhn check digit
    {word:colors}  {word:animals:3}                           words of a list, separated by one space
    {{  }}                                                    literal braces

The count is 1 where none is given. `spaces` makes the automaton deterministic and counts its secrets.
"""

import difflib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from canary_audit.errors import SpaceError

MAX_STATES = 65_536
"""Largest automaton that is built; `{digit:9}` needs 10 states, `{luhn:16}` 152."""

_ALPHABETS: Mapping[str, bytes] = {
    "digit": string.digits.encode(),
    "hex": b"0123456789abcdef",
    "letter": string.ascii_lowercase.encode(),
    "upper": string.ascii_uppercase.encode(),
    "alnum": (string.digits + string.ascii_letters).encode(),
}
_KINDS = (*_ALPHABETS, "luhn", "word")
_PART = re.compile(r"(?P<escaped>\{\{|\}\})|\{(?P<slot>[^{}]*)\}|(?P<literal>[^{}]+)|(?P<stray>[{}])")
_COUNT = re.compile(r"(?P<low>[0-9]{1,6})(?:\.\.(?P<high>[0-9]{1,6}))?")


@dataclass
class FormatAutomaton:
    """A nondeterministic automaton that grows to the right, one part of the format at a time.

    `edges[state]` holds, for each byte, the states it may lead to; state 0 is the start. `ends` are the states in which
    all parts so far are complete: the next part leaves from each of them.
    """

    format: str
    edges: list[dict[int, set[int]]] = field(default_factory=lambda: [{}])
    ends: set[int] = field(default_factory=lambda: {0})

    def add_literal(self, text: bytes) -> None:
        """Append fixed bytes."""
        for byte in text:
            self.ends = {self._step(self.ends, bytes([byte]))}

    def add_characters(self, alphabet: bytes, low: int, high: int) -> None:
        """Append `low` to `high` bytes of `alphabet`."""
        ends = set()
        for count in range(1, high + 1):
            self.ends = {self._step(self.ends, alphabet)}
            if count >= low:
                ends |= self.ends
        self.ends = ends

    def add_words(self, words: Sequence[bytes], low: int, high: int) -> None:
        """Append `low` to `high` words with one space between two of them."""
        ends = set()
        for count in range(1, high + 1):
            if count > 1:
                self.add_literal(b" ")
            end = self._state()
            for word in words:
                origins = self.ends
                for byte in word[:-1]:
                    origins = {self._step(origins, bytes([byte]))}
                self._connect(origins, word[-1], end)
            self.ends = {end}
            if count >= low:
                ends.add(end)
        self.ends = ends

    def add_luhn(self, low: int, high: int) -> None:
        """Append `low` to `high` digits whose Luhn sum is 0 modulo 10."""
        origins = self.ends
        self.ends = {self._luhn(origins, length) for length in range(low, high + 1)}

    def _luhn(self, origins: set[int], length: int) -> int:
        layer = {0: origins}  # sum so far -> the states that carry it
        end = self._state()
        for remaining in range(length - 1, -1, -1):
            following = {checksum: self._state() for checksum in range(10)} if remaining else {0: end}
            for checksum, states in layer.items():
                for digit in range(10):
                    # Every second digit from the right is doubled, and the digits of the product are added up.
                    value = sum(divmod(2 * digit, 10)) if remaining % 2 else digit
                    target = following.get((checksum + value) % 10)
                    if target is not None:
                        self._connect(states, ord("0") + digit, target)
            layer = {checksum: {state} for checksum, state in following.items()}
        return end

    def _step(self, origins: set[int], alphabet: bytes) -> int:
        target = self._state()
        for byte in alphabet:
            self._connect(origins, byte, target)
        return target

    def _connect(self, origins: set[int], byte: int, target: int) -> None:
        for origin in origins:
            self.edges[origin].setdefault(byte, set()).add(target)

    def _state(self) -> int:
        check_states(self.format, len(self.edges) + 1)
        self.edges.append({})
        return len(self.edges) - 1


def compile_format(format: str, word_lists: Mapping[str, Sequence[str]]) -> FormatAutomaton:
    """Read a format from left to right into an automaton.

    Raises:
        SpaceError: the format is malformed, names an unknown slot or list, or needs more than `MAX_STATES` states.
    """
    if not format:
        raise SpaceError("the secret format is empty; write slots such as '{digit:9}'")
    automaton = FormatAutomaton(format)
    for part in _PART.finditer(format):
        if part["stray"]:
            place = f"unmatched {part['stray']!r} at character {part.start()}"
            raise SpaceError(f"{format!r}: {place}; a literal brace is doubled")
        if part["slot"] is not None:
            try:
                _add_slot(automaton, part["slot"], word_lists)
            except _SlotError as error:
                raise SpaceError(f"{format!r}: slot {{{part['slot']}}}: {error}") from None
        else:
            automaton.add_literal((part["literal"] or part["escaped"][0]).encode())
    return automaton


def check_states(format: str, n_states: int) -> None:
    """Raise `SpaceError` if an automaton of `n_states` states is too large to build."""
    if n_states > MAX_STATES:
        raise SpaceError(
            f"{format!r}: needs more than {MAX_STATES} automaton states; shorten its repeats or word lists"
        )


class _SlotError(SpaceError):
    """What is wrong with a slot; the caller adds the format and the slot."""


def _add_slot(automaton: FormatAutomaton, slot: str, word_lists: Mapping[str, Sequence[str]]) -> None:
    kind, *arguments = slot.split(":")
    if kind not in _KINDS:
        raise _SlotError(f"unknown kind {kind!r}; {_suggest(kind, _KINDS)}")
    if kind == "word":
        words = _words(arguments.pop(0) if arguments else "", word_lists)
        automaton.add_words(words, *_counts(arguments))
    elif kind == "luhn":
        low, high = _counts(arguments)
        if low < 2:
            raise _SlotError("a Luhn number has at least 2 digits; write for example {luhn:16}")
        automaton.add_luhn(low, high)
    else:
        automaton.add_characters(_ALPHABETS[kind], *_counts(arguments))


def _words(name: str, word_lists: Mapping[str, Sequence[str]]) -> list[bytes]:
    if name not in word_lists:
        raise _SlotError(f"unknown word list {name!r}; {_suggest(name, tuple(word_lists))}")
    words = [word.encode() for word in word_lists[name]]
    if not words or not all(words):
        raise _SlotError(f"the word list {name!r} is empty or holds an empty word")
    return words


def _counts(arguments: Sequence[str]) -> tuple[int, int]:
    """Read `9` or `4..6`, or nothing."""
    if not arguments:
        return 1, 1
    match = _COUNT.fullmatch(arguments[0])
    if match is None or len(arguments) > 1:
        raise _SlotError("the count must be a number, such as 9, or a range, such as 4..6")
    low = int(match["low"])
    high = int(match["high"] or low)
    if not 1 <= low <= high:
        raise _SlotError("a count is at least 1, and a range ends no lower than it starts")
    return low, high


def _suggest(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"did you mean {nearest[0]!r}? Known: {', '.join(known)}" if nearest else "no word list is known"
