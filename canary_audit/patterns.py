"""Patterns: the small part of regular expressions in which slots are written, compiled to minimal automata.

    [0-9a-f]  \\.  abc       one byte of a class, one byte, bytes
    (cat|dog)?               a group of alternatives, here optional
    [0-9]{3}  [0-9]{1,4}     repeats
    <first-names>            a word of a list

Any pattern without `<...>` means to Python's `re` what it means here.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from canary_audit.automata import Automaton, minimal
from canary_audit.errors import SpaceError

MAX_STATES = 65_536
"""Largest automaton that is built by subsets; `{digit:9}` needs 10 states, `{luhn:16}` 152."""


@dataclass(frozen=True)
class Characters:
    """One byte of an alphabet."""

    alphabet: bytes


@dataclass(frozen=True)
class Strings:
    """A string of a set that is an automaton already."""

    automaton: Automaton


@dataclass(frozen=True)
class Concatenation:
    """Nodes one after the other."""

    nodes: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """One of several nodes."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """A node `low` to `high` times, with fixed bytes between two of them."""

    node: "Node"
    low: int
    high: int
    separator: bytes = b""


Node = Characters | Strings | Concatenation | Choice | Repeat


def literal(text: bytes) -> Node:
    """Fixed bytes."""
    return Concatenation(tuple(Characters(bytes([byte])) for byte in text))


def parse_pattern(pattern: str, words: Callable[[str], Automaton]) -> Node:
    """Read a pattern; `words` gives the list that `<NAME>` stands for."""
    return _Parser(pattern, words).alternatives()


def compile_node(node: Node, format: str) -> Automaton:
    """The minimal automaton of everything that `node` spells.

    Raises:
        SpaceError: it takes more than `MAX_STATES` states; the message names `format`.
    """
    automaton = _Nondeterministic(format)
    ends = automaton.extend({0}, node)
    return minimal(*_determinized(automaton, ends))


def check_states(format: str, n_states: int) -> None:
    """Raise `SpaceError` if an automaton of `n_states` states is too large to build."""
    if n_states > MAX_STATES:
        raise SpaceError(
            f"{format!r}: needs more than {MAX_STATES} automaton states; shorten its repeats or word lists"
        )


class _Parser:
    """Recursive descent, a method for each level of binding."""

    _TOKEN = re.compile(
        r"\[(?P<characters>[^]]+)\]|<(?P<list>[^>]+)>|\\(?P<escaped>.)|(?P<mark>[()|])"
        r"|\{(?P<low>[0-9]+)(?:,(?P<high>[0-9]+))?\}|(?P<optional>\?)|(?P<byte>.)"
    )

    def __init__(self, pattern: str, words: Callable[[str], Automaton]) -> None:
        self._tokens = list(self._TOKEN.finditer(pattern))[::-1]
        self._words = words

    def alternatives(self) -> Node:
        options = [self._sequence()]
        while self._next_is("|"):
            self._tokens.pop()
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        nodes = []
        while self._tokens and not self._next_is("|") and not self._next_is(")"):
            nodes.append(self._repeated(self._atom()))
        return nodes[0] if len(nodes) == 1 else Concatenation(tuple(nodes))

    def _atom(self) -> Node:
        token = self._tokens.pop()
        if token["mark"]:
            group = self.alternatives()
            self._tokens.pop()  # the closing parenthesis
            return group
        if token["list"]:
            return Strings(self._words(token["list"]))
        return Characters(_alphabet(token["characters"] or token["escaped"] or token["byte"]))

    def _repeated(self, node: Node) -> Node:
        token = self._tokens[-1] if self._tokens else None
        if token and token["low"]:
            self._tokens.pop()
            return Repeat(node, int(token["low"]), int(token["high"] or token["low"]))
        if token and token["optional"]:
            self._tokens.pop()
            return Repeat(node, 0, 1)
        return node

    def _next_is(self, mark: str) -> bool:
        return bool(self._tokens) and self._tokens[-1]["mark"] == mark


def _alphabet(characters: str) -> bytes:
    """`a-f0-9` as bytes; a `-` at the end is itself."""
    alphabet: set[int] = set()
    for first, last in re.findall(r"(.)(?:-(.))?", characters):
        alphabet.update(range(ord(first), ord(last or first) + 1))
    return bytes(sorted(alphabet))


class _Nondeterministic:
    """An automaton that grows to the right, one node at a time; state 0 is the start.

    `edges[state]` holds, for each byte, the states it may lead to.
    """

    def __init__(self, format: str) -> None:
        self.format = format
        self.edges: list[dict[int, set[int]]] = [{}]

    def extend(self, origins: set[int], node: Node) -> set[int]:
        """Append `node` after each of `origins`; returns the states in which it is complete."""
        match node:
            case Characters():
                target = self._state()
                self._connect(origins, node.alphabet, target)
                return {target}
            case Strings():
                return self._strings(origins, node.automaton)
            case Concatenation():
                for part in node.nodes:
                    origins = self.extend(origins, part)
                return origins
            case Choice():
                return set().union(*(self.extend(origins, option) for option in node.options))
            case Repeat():
                return self._repeat(origins, node)

    def _repeat(self, origins: set[int], node: Repeat) -> set[int]:
        check_states(self.format, len(self.edges) + node.high)
        ends = set() if node.low else set(origins)
        for count in range(1, node.high + 1):
            if count > 1 and node.separator:
                origins = self.extend(origins, literal(node.separator))
            origins = self.extend(origins, node.node)
            if count >= node.low:
                ends |= origins
        return ends

    def _strings(self, origins: set[int], automaton: Automaton) -> set[int]:
        copies = [self._state() for _ in range(automaton.n_states)]
        for state, copy in enumerate(copies):
            for byte, target in automaton.edges(state):
                self._connect(origins if state == automaton.start else {copy}, bytes([byte]), copies[target])
        return {copy for state, copy in enumerate(copies) if automaton.accepts(state)}

    def _connect(self, origins: Iterable[int], alphabet: bytes, target: int) -> None:
        for origin in origins:
            for byte in alphabet:
                self.edges[origin].setdefault(byte, set()).add(target)

    def _state(self) -> int:
        check_states(self.format, len(self.edges) + 1)
        self.edges.append({})
        return len(self.edges) - 1


def _determinized(automaton: _Nondeterministic, ends: set[int]) -> tuple[list[dict[int, int]], list[bool]]:
    """Subset construction: deterministic edges and accepting flags; state 0 is the start."""
    start = frozenset({0})
    numbers = {start: 0}
    subsets = [start]
    edges: list[dict[int, int]] = []
    for subset in subsets:  # grows while it is read
        targets: dict[int, set[int]] = {}
        for state in subset:
            for byte, reached in automaton.edges[state].items():
                targets.setdefault(byte, set()).update(reached)
        edges.append({})
        for byte, reached in targets.items():
            target = frozenset(reached)
            if target not in numbers:
                numbers[target] = len(subsets)
                subsets.append(target)
                check_states(automaton.format, len(subsets))
            edges[-1][byte] = numbers[target]
    return edges, [not ends.isdisjoint(subset) for subset in subsets]
