"""Minimal acyclic automata over bytes: finite sets of strings, counted exactly and stored in flat arrays.

States are numbered from the ends to the start: every edge leads to a lower number.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import takewhile
from typing import Generic, TypeVar

Edges = tuple[tuple[int, int], ...]
"""(byte, target state) pairs, in the order of bytes."""

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, kw_only=True, eq=False)
class Automaton:
    """A finite, non-empty set of non-empty byte strings; two states never have the same completions."""

    start: int
    n_completions: Sequence[int] = field(repr=False)
    """Ways to go on from each state to the end of a string; at least 1."""
    max_length: int
    """Bytes of the longest string."""
    continuations: frozenset[int]
    """Bytes by which a string of the set may go on to a longer one; empty if it is prefix-free."""
    _accepting: bytearray = field(repr=False)
    _first_edge: "array[int]" = field(repr=False)
    _labels: bytearray = field(repr=False)
    _targets: "array[int]" = field(repr=False)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self._accepting)

    @property
    def size(self) -> int:
        """Number of strings."""
        return self.n_completions[self.start]

    def accepts(self, state: int) -> bool:
        """Whether a string may end in `state`."""
        return bool(self._accepting[state])

    def edges(self, state: int) -> Edges:
        """The bytes that may follow in `state` and where they lead."""
        edges = slice(self._first_edge[state], self._first_edge[state + 1])
        return tuple(zip(self._labels[edges], self._targets[edges], strict=True))


class Register:
    """Builds a minimal automaton from the ends to the start: states with equal completions become one."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bool, Edges], int] = {}
        self._n_completions: list[int] = []
        self._lengths = array("I")
        self._accepting = bytearray()
        self._continuations: set[int] = set()
        self._first_edge = array("I", [0])
        self._labels = bytearray()
        self._targets = array("I")

    def state(self, accepts: bool, edges: Edges) -> int:
        """The state of these edges, made now unless it exists."""
        number = self._numbers.setdefault((accepts, edges), len(self._numbers))
        if number == len(self._accepting):
            self._append(accepts, edges)
        return number

    def automaton(self, start: int) -> Automaton:
        """The automaton of the state that was made last."""
        return Automaton(
            start=start,
            n_completions=self._n_completions,
            max_length=self._lengths[start],
            continuations=frozenset(self._continuations),
            _accepting=self._accepting,
            _first_edge=self._first_edge,
            _labels=self._labels,
            _targets=self._targets,
        )

    def _append(self, accepts: bool, edges: Edges) -> None:
        labels = [byte for byte, _ in edges]
        targets = [target for _, target in edges]
        self._accepting.append(accepts)
        self._n_completions.append(accepts + sum(self._n_completions[target] for target in targets))
        self._lengths.append(max((1 + self._lengths[target] for target in targets), default=0))
        self._labels.extend(labels)
        self._targets.extend(targets)
        self._first_edge.append(len(self._targets))
        if accepts:
            self._continuations.update(labels)


def words_automaton(words: Iterable[bytes]) -> Automaton:
    """The set of `words`, which are not empty, without ever holding more than one path of unmerged states.

    The incremental construction from sorted words of Daciuk et al. (2000), "Incremental construction of minimal
    acyclic finite-state automata", section 3.
    """
    register = Register()
    path: list[tuple[bool, list[tuple[int, int]]]] = [(False, [])]  # states of the last word, not yet registered
    previous = b""

    def register_below(depth: int) -> None:
        while len(path) > depth + 1:
            accepts, edges = path.pop()
            path[-1][1].append((previous[len(path) - 1], register.state(accepts, tuple(edges))))

    for word in sorted(set(words)):
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(previous, word, strict=False))
        register_below(sum(1 for _ in shared))
        path.extend((False, []) for _ in range(len(word) - len(path) + 1))
        path[-1] = (True, path[-1][1])
        previous = word
    register_below(0)
    return register.automaton(register.state(False, tuple(path[0][1])))


def minimal(edges: Sequence[Mapping[int, int]], accepting: Sequence[bool]) -> Automaton:
    """Merge the states of a deterministic acyclic automaton that starts in state 0 and spells at least one string.

    States from which no string can be completed are left out.
    """
    register = Register()
    merged: dict[int, int] = {}
    successors = {state: dict.fromkeys(targets.values()) for state, targets in enumerate(edges)}
    for state in TopologicalSorter(successors).static_order():
        outgoing = tuple(
            (byte, merged[edges[state][byte]]) for byte in sorted(edges[state]) if edges[state][byte] in merged
        )
        if accepting[state] or outgoing:
            merged[state] = register.state(accepting[state], outgoing)
    return register.automaton(merged[0])


@dataclass(frozen=True, kw_only=True)
class Checksum(Generic[State]):
    """A rule about the bytes of a string that is read from left to right in finitely many states."""

    start: State
    step: Callable[[State, int], State]
    accepts: Callable[[State], bool]


def restricted(automaton: Automaton, checksum: Checksum[State], check_size: Callable[[int], None]) -> Automaton:
    """The strings of `automaton` that satisfy `checksum`, of which there must be one.

    `check_size` is told the number of states made so far, and may raise.
    """
    start = (automaton.start, checksum.start)
    numbers = {start: 0}
    pending = [start]
    edges: list[dict[int, int]] = []
    for state, rule in pending:  # grows while it is read
        edges.append({})
        for byte, target in automaton.edges(state):
            pair = (target, checksum.step(rule, byte))
            if pair not in numbers:
                numbers[pair] = len(pending)
                pending.append(pair)
                check_size(len(pending))
            edges[-1][byte] = numbers[pair]
    return minimal(edges, [automaton.accepts(state) and checksum.accepts(rule) for state, rule in pending])
