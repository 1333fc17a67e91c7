"""Secret spaces: the exact, finite set of the secrets that a format describes.

The format's automaton is made deterministic and minimal, so a secret that the format can spell in two ways counts once.
Counting, ranking and drawing are then walks over it. Nothing here knows about tokens, models or numpy.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from canary_audit.errors import SpaceError
from canary_audit.formats import FormatAutomaton, check_states, compile_format
from canary_audit.wordlists import BUILTIN_WORD_LISTS


@dataclass(frozen=True, kw_only=True, eq=False)
class SecretSpace:
    """The set of secrets of one format, as a minimal acyclic automaton over bytes.

    States are integers in `range(n_states)`. Every state lies on the way from `start` to some secret, and two states
    never have the same set of completions. Built by `parse_space`.
    """

    format: str
    start: int
    """State before the first byte."""
    max_length: int
    """Bytes of the longest secret."""
    prefix_free: bool
    """True if no secret is a proper prefix of another one, so that scoring may end with the secret."""
    _edges: tuple[Mapping[int, int], ...] = field(repr=False)
    _accepting: tuple[bool, ...] = field(repr=False)
    _completions: tuple[int, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Number of secrets |R|, exact."""
        return self._completions[self.start]

    @property
    def bits(self) -> float:
        """log2|R|: the most bits exposure can reach (Carlini et al. 2019, section 4.2)."""
        return math.log2(self.size)

    @property
    def n_states(self) -> int:
        """Number of states of the automaton."""
        return len(self._edges)

    def edges(self, state: int) -> Mapping[int, int]:
        """The bytes that may follow in `state`, in ascending order, each with the state it leads to."""
        return self._edges[state]

    def accepts(self, state: int) -> bool:
        """Whether a secret may end in `state`."""
        return self._accepting[state]

    def completions(self, state: int) -> int:
        """Number of ways to go on from `state` to the end of a secret; at least 1."""
        return self._completions[state]

    def secret(self, index: int) -> bytes:
        """Secret number `index`, counted from 0 in the order of bytes.

        Raises:
            SpaceError: `index` is outside `range(size)`.
        """
        if not 0 <= index < self.size:
            raise SpaceError(f"{self.format!r} has no secret number {index}: it holds {self.size}, counted from 0")
        state, secret = self.start, bytearray()
        while index or not self._accepting[state]:
            index -= self._accepting[state]
            for byte, target in self._edges[state].items():
                if index < self._completions[target]:
                    secret.append(byte)
                    state = target
                    break
                index -= self._completions[target]
        return bytes(secret)

    def index(self, secret: bytes) -> int:
        """The inverse of `secret`.

        Raises:
            SpaceError: `secret` is not of this format (the message does not repeat it).
        """
        if secret not in self:
            raise SpaceError(f"a text of {len(secret)} bytes is not a secret of {self.format!r}")
        state, index = self.start, 0
        for byte in secret:
            index += self._accepting[state]
            index += sum(self._completions[target] for lower, target in self._edges[state].items() if lower < byte)
            state = self._edges[state][byte]
        return index

    def contains(self, secret: bytes) -> bool:
        """Whether `secret` is one of the space's secrets."""
        state = self.start
        for byte in secret:
            target = self._edges[state].get(byte)
            if target is None:
                return False
            state = target
        return self._accepting[state]

    __contains__ = contains

    def draw(self, n: int, rng: random.Random) -> list[bytes]:
        """Draw `n` distinct secrets, every ordered choice of `n` equally likely.

        Indices come from Floyd's sampling without replacement: `n` random integers, whatever the size of the space.

        Raises:
            SpaceError: the space holds fewer than `n` secrets.
        """
        if not 0 <= n <= self.size:
            raise SpaceError(f"cannot draw {n} distinct secrets from {self.format!r}, which holds {self.size}")
        chosen: dict[int, None] = {}
        for last in range(self.size - n, self.size):
            index = rng.randrange(last + 1)
            chosen[last if index in chosen else index] = None
        indices = list(chosen)
        rng.shuffle(indices)
        return [self.secret(index) for index in indices]


def parse_space(format: str, word_lists: Mapping[str, Sequence[str]] = BUILTIN_WORD_LISTS) -> SecretSpace:
    """Compile a secret format (grammar: `formats`); `word_lists` are the lists that `{word:NAME}` may name.

    >>> space = parse_space("{digit:3}-{upper:2}")
    >>> space.size, space.secret(0), b"123-AB" in space
    (676000, b'000-AA', True)

    Raises:
        SpaceError: the format is malformed, names an unknown slot or list, or its automaton would be too large.
    """
    return _minimize(format, *_determinize(compile_format(format, word_lists)))


def _determinize(automaton: FormatAutomaton) -> tuple[list[dict[int, int]], list[bool]]:
    """Subset construction: deterministic edges, in the order of bytes, and accepting flags; state 0 is the start."""
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
        for byte in sorted(targets):
            target = frozenset(targets[byte])
            if target not in numbers:
                numbers[target] = len(subsets)
                subsets.append(target)
                check_states(automaton.format, len(subsets))
            edges[-1][byte] = numbers[target]
    return edges, [not automaton.ends.isdisjoint(subset) for subset in subsets]


def _minimize(format: str, edges: Sequence[Mapping[int, int]], accepting: Sequence[bool]) -> SecretSpace:
    """Merge states with equal completions, from the ends back to the start, and count the completions."""
    merged: dict[int, int] = {}
    numbers: dict[tuple[bool, tuple[tuple[int, int], ...]], int] = {}
    completions: list[int] = []
    lengths: list[int] = []
    successors = {state: dict.fromkeys(targets.values()) for state, targets in enumerate(edges)}
    for state in TopologicalSorter(successors).static_order():
        outgoing = tuple((byte, merged[target]) for byte, target in edges[state].items())
        merged[state] = numbers.setdefault((accepting[state], outgoing), len(numbers))
        if merged[state] == len(completions):
            completions.append(accepting[state] + sum(completions[target] for _, target in outgoing))
            lengths.append(max((1 + lengths[target] for _, target in outgoing), default=0))
    return SecretSpace(
        format=format,
        start=merged[0],
        max_length=lengths[merged[0]],
        prefix_free=not any(accepts and outgoing for accepts, outgoing in numbers),
        _edges=tuple(dict(outgoing) for _, outgoing in numbers),
        _accepting=tuple(accepts for accepts, _ in numbers),
        _completions=tuple(completions),
    )
