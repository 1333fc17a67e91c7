"""The grammar of secret formats: literal text with slots in braces.

    {digit:9}  {hex:32}  {letter:8}  {upper:3}  {alnum:12}  {password:12}     characters, repeated
    {digit:4..6}                                                              a repeat of variable length
    {base64:32}  {base64url:32}                                               that many bytes, encoded
    {luhn:16}  {luhn:16:4000}                                                 digits that end in their check digit
    {card:visa}  {iban:de}  {ssn}  {phone:us}  {key:aws}  {uuid}              numbers and keys as they are issued
    {name}  {email}  {date:iso}  {date:long:1950..2009}                       what people write
    {word:colors}  {word:english:12}                                          words of a list, a space between two
    {word:tokens:24}  {word:sampled}                                          words and texts made from the model
    {{  }}                                                                    literal braces

The count is 1 where none is given. `slots` holds the table of slots, `spaces` counts the secrets.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from canary_audit.automata import Automaton, restricted, words_automaton
from canary_audit.checksums import LUHN
from canary_audit.errors import SpaceError
from canary_audit.patterns import (
    Choice,
    Node,
    Repeat,
    Strings,
    check_states,
    compile_node,
    literal,
    parse_pattern,
)
from canary_audit.slots import CHARACTERS, DATES, SHAPES, Shape, base64_pattern, date_pattern
from canary_audit.wordlists import GENERATED

_PART = re.compile(r"(?P<escaped>\{\{|\}\})|\{(?P<slot>[^{}]*)\}|(?P<literal>[^{}]+)|(?P<stray>[{}])")
_COUNT = re.compile(r"(?P<low>[0-9]{1,6})(?:\.\.(?P<high>[0-9]{1,6}))?")
_YEARS = (1900, 2099)
"""Years of a date where none are given."""


def parse_format(format: str, word_lists: Mapping[str, Sequence[str]]) -> tuple[list[Node], frozenset[str]]:
    """Read a format from left to right into its parts; also returns the names of the word lists it uses.

    Raises:
        SpaceError: the format is malformed, names an unknown slot or list, or needs more than `MAX_STATES` states.
    """
    if not format:
        raise SpaceError("the secret format is empty; write slots such as '{digit:9}'")
    slots = _Slots(format, word_lists)
    parts: list[Node] = []
    for part in _PART.finditer(format):
        if part["stray"]:
            place = f"unmatched {part['stray']!r} at character {part.start()}"
            raise SpaceError(f"{format!r}: {place}; a literal brace is doubled")
        if part["slot"] is None:
            parts.append(literal((part["literal"] or part["escaped"][0]).encode()))
            continue
        try:
            parts.append(slots.node(part["slot"]))
        except _SlotError as error:
            raise SpaceError(f"{format!r}: slot {{{part['slot']}}}: {error}") from None
    return parts, frozenset(slots.used_lists)


def named_lists(format: str) -> frozenset[str]:
    """Names of the word lists that `{word:NAME}` slots of a format name, known or not; a malformed format has fewer."""
    slots = [part["slot"].split(":") for part in _PART.finditer(format) if part["slot"]]
    return frozenset(slot[1].removeprefix("^") for slot in slots if slot[0] == "word" and len(slot) > 1)


class _SlotError(SpaceError):
    """What is wrong with a slot; the caller adds the format and the slot."""


class _Slots:
    """Reads the slots of one format."""

    def __init__(self, format: str, word_lists: Mapping[str, Sequence[str]]) -> None:
        self.used_lists: set[str] = set()
        self._format = format
        self._word_lists = word_lists
        self._readers: Mapping[str, Callable[[str, list[str]], Node]] = {
            **dict.fromkeys(CHARACTERS, self._characters),
            **dict.fromkeys(("base64", "base64url"), self._base64),
            "luhn": self._luhn,
            "word": self._word,
            "date": self._date,
            **dict.fromkeys(SHAPES, self._shape),
        }

    def node(self, slot: str) -> Node:
        """What `KIND:ARGUMENT:ARGUMENT` spells."""
        kind, *arguments = slot.split(":")
        return self._readers[_known("kind", kind, self._readers)](kind, arguments)

    def _characters(self, kind: str, arguments: list[str]) -> Node:
        return Repeat(self._pattern(CHARACTERS[kind]), *_counts(arguments))

    def _base64(self, kind: str, arguments: list[str]) -> Node:
        low, high = _counts(arguments)
        check_states(self._format, high)
        return Choice(tuple(self._pattern(base64_pattern(kind, n_bytes)) for n_bytes in range(low, high + 1)))

    def _luhn(self, kind: str, arguments: list[str]) -> Node:
        issuer = arguments.pop() if len(arguments) > 1 else ""
        low, high = _counts(arguments)
        if low < 2:
            raise _SlotError("a Luhn number has at least 2 digits; write for example {luhn:16}")
        if not re.fullmatch("[0-9]*", issuer) or len(issuer) >= low:
            raise _SlotError("what the number begins with must be digits, fewer than all; for example {luhn:16:4000}")
        n_issuer = len(issuer)
        return self._shaped(Shape(f"{issuer}[0-9]{{{low - n_issuer},{high - n_issuer}}}", LUHN))

    def _word(self, kind: str, arguments: list[str]) -> Node:
        words = self._words(arguments.pop(0) if arguments else "")
        return Repeat(Strings(words), *_counts(arguments), separator=b" ")

    def _date(self, kind: str, arguments: list[str]) -> Node:
        style = _known("date", arguments.pop(0) if arguments else "iso", DATES)
        low, high = _counts(arguments) if arguments else _YEARS
        if not 1000 <= low <= high <= 9999:
            raise _SlotError("years have four digits; write for example {date:iso:1950..2009}")
        return self._pattern(date_pattern(style, low, high))

    def _shape(self, kind: str, arguments: list[str]) -> Node:
        variants = SHAPES[kind]
        variant = _known(kind, arguments.pop(0) if arguments else "", variants)
        if arguments:
            raise _SlotError("it takes no count; join several by text of your own")
        return self._shaped(variants[variant])

    def _shaped(self, shape: Shape) -> Node:
        node = self._pattern(shape.pattern)
        if shape.checksum is None:
            return node
        every = compile_node(node, self._format)
        return Strings(restricted(every, shape.checksum, lambda n_states: check_states(self._format, n_states)))

    def _pattern(self, pattern: str) -> Node:
        return parse_pattern(pattern, self._words)

    def _words(self, name: str) -> Automaton:
        """The list of that name; its words are capitalized where the name begins with `^`."""
        capitalized, name = name.startswith("^"), name.removeprefix("^")
        if name in GENERATED and name not in self._word_lists:
            raise _SlotError(f"the list {name!r} is made from the model, when a configuration with [model] is planted")
        words = tuple(self._word_lists[_known("word list", name, self._word_lists)])
        if not words or not all(words):
            raise _SlotError(f"the word list {name!r} is empty or holds an empty word")
        self.used_lists.add(name)
        return _list_automaton(words, capitalized)


@lru_cache(maxsize=8)
def _list_automaton(words: tuple[str, ...], capitalized: bool) -> Automaton:
    """The automaton of a list: a large one takes seconds, and an audit compiles its formats more than once."""
    return words_automaton((word[:1].upper() + word[1:] if capitalized else word).encode() for word in words)


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


def _known(what: str, name: str, known: Mapping[str, object]) -> str:
    """`name`, if it is one of `known`."""
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"did you mean {nearest[0]!r}? Known: {', '.join(known)}" if nearest else "no word list is known"
    raise _SlotError(f"unknown {what} {name!r}; {hint}")
