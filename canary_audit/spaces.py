"""Secret spaces: the exact, finite set of the secrets that a format describes.

A format's automaton is deterministic, so a secret that the format can spell in two ways counts once. It is a chain of
minimal automata, and the same word list eight times in a row is one automaton that stands in the chain eight times.
Counting, ranking and drawing are then walks over it. Nothing here knows about tokens, models or numpy.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from canary_audit.chains import Chain, Link
from canary_audit.errors import SpaceError
from canary_audit.formats import parse_format
from canary_audit.patterns import Concatenation
from canary_audit.wordlists import BUILTIN_WORD_LISTS

_MEMO_STATES = 16_384
"""States whose steps are kept; the space of a long phrase has millions."""

_Step = tuple[int, int, int]
"""A byte, the state it leads to, and the number of completions from there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SecretSpace:
    """The set of secrets of one format, as an acyclic deterministic automaton over bytes. Built by `parse_space`.

    States are integers in `range(n_states)`, and every edge leads to a lower one. From each state some secret can be
    completed; each but the first states of later links is on the way from `start`.
    """

    format: str
    word_lists: frozenset[str]
    """Names of the word lists that the format uses."""
    _links: tuple[Link, ...] = field(repr=False)
    """In the order of states: the last link of the format is the first one here."""
    _offsets: tuple[int, ...] = field(repr=False)
    """Number of the first state of each link."""
    _memo: dict[int, tuple[bool, list[_Step]]] = field(repr=False, default_factory=dict)

    @property
    def start(self) -> int:
        """State before the first byte."""
        return self._offsets[-1] + self._links[-1].automaton.start

    @property
    def size(self) -> int:
        """Number of secrets |R|, exact."""
        return self._links[-1].automaton.size * self._links[-1].n_endings

    @property
    def bits(self) -> float:
        """log2|R|: the most bits exposure can reach (Carlini et al. 2019, section 4.2)."""
        return math.log2(self.size)

    @property
    def max_length(self) -> int:
        """Bytes of the longest secret."""
        return self._links[-1].max_length

    @property
    def continuations(self) -> frozenset[int]:
        """Bytes by which a secret may go on to a longer secret."""
        return frozenset().union(*(link.continuations for link in self._links if link.may_end))

    @property
    def prefix_free(self) -> bool:
        """True if no secret is a proper prefix of another one, so that scoring may end with the secret."""
        return not self.continuations

    @property
    def n_states(self) -> int:
        """Number of states of the automaton."""
        return self._offsets[-1] + self._links[-1].automaton.n_states

    def edges(self, state: int) -> dict[int, int]:
        """The bytes that may follow in `state`, in ascending order, each with the state it leads to."""
        return {byte: target for byte, target, _ in self._visit(state)[1]}

    def accepts(self, state: int) -> bool:
        """Whether a secret may end in `state`."""
        number, inner = self._place(state)
        return self._links[number].may_end and self._links[number].automaton.accepts(inner)

    def completions(self, state: int) -> int:
        """Number of ways to go on from `state` to the end of a secret; at least 1."""
        number, inner = self._place(state)
        return self._links[number].automaton.n_completions[inner] * self._links[number].n_endings

    def _visit(self, state: int) -> tuple[bool, list[_Step]]:
        """Whether a secret may end in `state`, and what may follow there in the order of bytes; memoized."""
        found = self._memo.get(state)
        if found is None:
            if len(self._memo) == _MEMO_STATES:
                self._memo.clear()
            found = self._memo[state] = self.accepts(state), self._steps(state)
        return found

    def _steps(self, state: int) -> list[_Step]:
        number, inner = self._place(state)
        link = self._links[number]
        steps = self._inner_steps(number, inner)
        if link.followers and link.automaton.accepts(inner):
            for follower in link.followers:
                steps += self._inner_steps(follower, self._links[follower].automaton.start)
            steps.sort()
        return steps

    def _inner_steps(self, number: int, inner: int) -> list[_Step]:
        offset, n_endings = self._offsets[number], self._links[number].n_endings
        automaton = self._links[number].automaton
        n_completions = automaton.n_completions
        return [(byte, offset + to, n_completions[to] * n_endings) for byte, to in automaton.edges(inner)]

    def _place(self, state: int) -> tuple[int, int]:
        """Number of the link that `state` belongs to, and its number there."""
        number = bisect_right(self._offsets, state) - 1
        return number, state - self._offsets[number]

    def secret(self, index: int) -> bytes:
        """Secret number `index`, counted from 0 in the order of bytes.

        Raises:
            SpaceError: `index` is outside `range(size)`.
        """
        if not 0 <= index < self.size:
            raise SpaceError(f"{self.format!r} has no secret number {index}: it holds {self.size}, counted from 0")
        accepts, steps = self._visit(self.start)
        secret = bytearray()
        while index or not accepts:
            index -= accepts
            for byte, target, n_completions in steps:
                if index < n_completions:
                    secret.append(byte)
                    accepts, steps = self._visit(target)
                    break
                index -= n_completions
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
            accepts, steps = self._visit(state)
            index += accepts
            index += sum(n_completions for lower, _, n_completions in steps if lower < byte)
            state = next(target for label, target, _ in steps if label == byte)
        return index

    def contains(self, secret: bytes) -> bool:
        """Whether `secret` is one of the space's secrets."""
        state = self.start
        for byte in secret:
            target = self.edges(state).get(byte)
            if target is None:
                return False
            state = target
        return self.accepts(state)

    __contains__ = contains

    def check_suffix(self, suffix: str) -> None:
        """Refuse a suffix that leaves open where a secret ends.

        Raises:
            SpaceError: a secret can begin another one, and there is no suffix, or it may continue a secret.
        """
        if self.prefix_free:
            return
        if not suffix:
            raise SpaceError(
                f"secrets of {self.format!r} can begin other secrets, so nothing tells where one ends; "
                "add a suffix, such as '.'"
            )
        if suffix.encode()[0] in self.continuations:
            raise SpaceError(
                f"the suffix begins with {suffix[0]!r}, which may also continue a secret of {self.format!r}; "
                "begin it with a character that cannot"
            )

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


def parse_space(format: str, word_lists: Mapping[str, Sequence[str]] | None = None) -> SecretSpace:
    """Compile a secret format (grammar: `formats`).

    `word_lists` are lists that `{word:NAME}` may name beside the built-in ones; of two with one name, theirs is taken.

    >>> space = parse_space("{digit:3}-{upper:2}")
    >>> space.size, space.secret(0), b"123-AB" in space
    (676000, b'000-AA', True)

    Raises:
        SpaceError: the format is malformed, names an unknown slot or list, or its automaton would be too large.
    """
    parts, used_lists = parse_format(format, {**BUILTIN_WORD_LISTS, **(word_lists or {})})
    chain = Chain(format, parts)
    if not chain.is_deterministic():
        chain = Chain(format, [Concatenation(tuple(parts))])
    links = chain.links()[::-1]
    offsets = accumulate((link.automaton.n_states for link in links[:-1]), initial=0)
    return SecretSpace(format=format, word_lists=used_lists, _links=links, _offsets=tuple(offsets))
