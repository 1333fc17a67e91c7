"""The bytes a walk may spell: what is left of the prefix, then a secret, then the suffix."""

from canary_audit.errors import SpaceError
from canary_audit.spaces import SecretSpace


class WholeText:
    """Byte automaton of what is left of the prefix, then a secret, then the suffix.

    States number the rest of the prefix, then the space's states, then the suffix.
    """

    def __init__(self, tail: bytes, space: SecretSpace, suffix: bytes) -> None:
        self.tail = tail
        self._space = space
        self._suffix = suffix
        self._first_suffix_state = len(tail) + space.n_states
        self.start = 0 if tail else len(tail) + space.start
        self._ends_with_secret = space.prefix_free
        self._check_suffix()

    def edges(self, state: int) -> dict[int, int]:
        """Byte -> next state."""
        if state < len(self.tail):
            following = state + 1 if state + 1 < len(self.tail) else len(self.tail) + self._space.start
            return {self.tail[state]: following}
        if state >= self._first_suffix_state:
            offset = state - self._first_suffix_state + 1
            return {self._suffix[offset]: state + 1} if offset < len(self._suffix) else {}
        inside = state - len(self.tail)
        edges = {byte: len(self.tail) + target for byte, target in self._space.edges(inside).items()}
        if self._space.accepts(inside) and self._suffix:
            edges[self._suffix[0]] = self._first_suffix_state
        return edges

    def is_end(self, state: int) -> bool:
        """Is the whole text, suffix included, complete?"""
        if self._suffix:
            return state == self._first_suffix_state + len(self._suffix) - 1
        return self._accepts(state)

    def is_leaf(self, state: int) -> bool:
        """Is the secret complete, and sure not to go on?"""
        return state >= self._first_suffix_state or (self._ends_with_secret and self._accepts(state))

    def secret_end(self, spelled: bytes) -> int:
        """Length of the secret at the start of `spelled`, which may run on into the suffix."""
        state, end = self._space.start, 0
        for position, byte in enumerate(spelled):
            following = self._space.edges(state).get(byte)
            if following is None:
                break
            state, end = following, position + 1
        return end

    def _accepts(self, state: int) -> bool:
        inside = state - len(self.tail)
        return 0 <= inside < self._space.n_states and self._space.accepts(inside)

    def _check_suffix(self) -> None:
        """The suffix must begin with a byte that cannot continue a secret, or its end would be ambiguous."""
        if self._ends_with_secret:
            return
        if not self._suffix:
            raise SpaceError(
                f"format {self._space.format!r} has secrets that begin other secrets: add a suffix that ends them"
            )
        for state in range(self._space.n_states):
            if self._space.accepts(state) and self._suffix[0] in self._space.edges(state):
                raise SpaceError(
                    f"format {self._space.format!r}: the suffix begins like the rest of a secret; "
                    "change its first character"
                )
