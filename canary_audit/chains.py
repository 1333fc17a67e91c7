"""A format as a chain of automata; a word list that stands in it eight times is one automaton, used eight times."""

from collections.abc import Iterable
from dataclasses import dataclass

from canary_audit.automata import Automaton
from canary_audit.patterns import Concatenation, Node, Repeat, Strings, check_states, compile_node, literal


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """One automaton of the chain; where it has spelled one of its strings, a follower goes on or the secret ends."""

    automaton: Automaton
    followers: tuple[int, ...]
    """Numbers of the links that may come next."""
    may_end: bool
    n_endings: int
    """Ways to go on from the end of this link to the end of a secret."""
    max_length: int
    """Bytes from the start of this link to the end of the longest secret."""
    continuations: frozenset[int]
    """Bytes that may follow a string of this link."""


class Chain:
    """The parts of a format as automata, in the order of the format, with what may follow what."""

    def __init__(self, format: str, parts: Iterable[Node]) -> None:
        self._format = format
        self._automata: list[Automaton] = []
        self._followers: list[list[int]] = []
        self._ends: list[int] = []
        pending: list[Node] = []
        for part in parts:
            if isinstance(part, Repeat) and isinstance(part.node, Strings):
                self._add_pending(pending)
                self._add_words(part, part.node.automaton)
            else:
                pending.append(part)
        self._add_pending(pending)

    def is_deterministic(self) -> bool:
        """Whether the byte that follows a link's string always tells whether the link goes on, or which one follows."""
        for automaton, followers in zip(self._automata, self._followers, strict=True):
            seen = set(automaton.continuations)
            for follower in followers:
                if not seen.isdisjoint(_first_bytes(self._automata[follower])):
                    return False
                seen |= _first_bytes(self._automata[follower])
        return True

    def links(self) -> tuple[Link, ...]:
        """The links, in the order of the format, numbered from the last to the first."""
        links: list[Link] = []
        n_links = len(self._automata)
        for place in range(n_links - 1, -1, -1):
            automaton = self._automata[place]
            numbers = tuple(n_links - 1 - follower for follower in self._followers[place])
            next_links = [links[number] for number in numbers]
            may_end = place in self._ends
            link = Link(
                automaton=automaton,
                followers=numbers,
                may_end=may_end,
                n_endings=may_end + sum(after.automaton.size * after.n_endings for after in next_links),
                max_length=automaton.max_length + max((after.max_length for after in next_links), default=0),
                continuations=automaton.continuations.union(*(_first_bytes(after.automaton) for after in next_links)),
            )
            links.append(link)
        return tuple(links[::-1])

    def _add_pending(self, pending: list[Node]) -> None:
        if pending:
            self._add(compile_node(Concatenation(tuple(pending)), self._format))
            pending.clear()

    def _add_words(self, repeat: Repeat, words: Automaton) -> None:
        check_states(self._format, len(self._automata) + 2 * repeat.high)
        separator = compile_node(literal(repeat.separator), self._format)
        ends = []
        for count in range(1, repeat.high + 1):
            if count > 1:
                self._add(separator)
            self._add(words)
            if count >= repeat.low:
                ends += self._ends
        self._ends = ends

    def _add(self, automaton: Automaton) -> None:
        number = len(self._automata)
        self._automata.append(automaton)
        self._followers.append([])
        for end in self._ends:
            self._followers[end].append(number)
        self._ends = [number]


def _first_bytes(automaton: Automaton) -> frozenset[int]:
    return frozenset(byte for byte, _ in automaton.edges(automaton.start))
