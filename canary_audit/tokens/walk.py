"""What the search asks of a tree of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from canary_audit.models.interface import FloatArray, IntArray
from canary_audit.spaces import SecretSpace

LEAF = -1
"""State of a child that completes a secret."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The children of one state; all arrays have shape (n_children,)."""

    tokens: IntArray
    states: IntArray
    """Walk state of each child, `LEAF` where the secret is complete."""
    completions: FloatArray
    """Secrets below each child (1 for a leaf)."""


class TokenWalk(Protocol):
    """A tree of tokens over a set of secrets."""

    prompt: tuple[int, ...]
    """Tokens the model reads before the first choice."""
    root: int
    size: int
    """Number of leaves."""

    def children(self, state: int) -> Branch:
        """Children of an inner state."""

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""


class SecretWalk(TokenWalk, Protocol):
    """A tree of tokens over a whole secret space, one path a secret."""

    space: SecretSpace
    notice: str | None
    """What a report should say about how the tree was made, in one sentence; None in the ordinary case."""

    def path(self, secret: bytes) -> tuple[int, ...]:
        """Tokens of the leaf of `secret`, the prompt left out.

        Raises:
            SpaceError: `secret` is not in the space, or does not survive the tokenizer.
        """

    def paths(self, secrets: Sequence[bytes]) -> list[tuple[int, ...]]:
        """`path` of many secrets, tokenized together: several times as fast."""
