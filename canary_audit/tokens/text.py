"""The bytes a walk may spell: what is left of the prefix, then a secret, then the suffix."""

import numpy as np

from canary_audit.spaces import SecretSpace

NOWHERE = -1
"""Next state of a byte that cannot follow."""


class WholeText:
    """Byte automaton of what is left of the prefix, then a secret, then the suffix.

    States are numbered so that every edge leads to a higher one: the rest of the prefix, the space, the suffix.

    Attributes:
        start: state before the first byte.
        n_states: number of states.
        alphabet: the bytes that occur.
        column: shape (256,), the column of each byte in `following`; the last, empty one for other bytes.
        following: shape (n_states, n_columns), the next state, or `NOWHERE`.
        ends: shape (n_states,), is the whole text complete?
        leaves: shape (n_states,), is the secret complete, and sure not to go on?
    """

    def __init__(self, tail: bytes, space: SecretSpace, suffix: bytes) -> None:
        first, n_inside = len(tail), space.n_states
        self.n_states = first + n_inside + len(suffix)
        inside = first + np.arange(n_inside)[::-1]  # the space numbers its states from the ends to the start
        entry = int(inside[space.start])
        self.start = 0 if tail else entry
        steps = [(state, byte, state + 1 if state + 1 < first else entry) for state, byte in enumerate(tail)]
        accepting = np.zeros(self.n_states, dtype=bool)
        for state in range(n_inside):
            here = int(inside[state])
            accepting[here] = space.accepts(state)
            steps += [(here, byte, int(inside[target])) for byte, target in dict(space.edges(state)).items()]
        steps += self._suffix_steps(suffix, np.flatnonzero(accepting).tolist(), first + n_inside)
        self._fill(steps)
        last = np.arange(self.n_states) == self.n_states - 1
        self.ends = last if suffix else accepting
        self.leaves = np.arange(self.n_states) >= first + n_inside
        if space.prefix_free:
            self.leaves |= accepting

    @staticmethod
    def _suffix_steps(suffix: bytes, accepting: list[int], first: int) -> list[tuple[int, int, int]]:
        if not suffix:
            return []
        entries = [(state, suffix[0], first) for state in accepting]
        return entries + [(first + place, byte, first + place + 1) for place, byte in enumerate(suffix[1:])]

    def _fill(self, steps: list[tuple[int, int, int]]) -> None:
        origins, letters, targets = np.array(steps, dtype=np.int64).reshape(-1, 3).T
        distinct = np.unique(letters)
        self.alphabet = bytes(distinct.tolist())
        self.column = np.full(256, len(distinct), dtype=np.int64)
        self.column[distinct] = np.arange(len(distinct))
        self.following = np.full((self.n_states, len(distinct) + 1), NOWHERE, dtype=np.int32)
        self.following[origins, self.column[letters]] = targets
