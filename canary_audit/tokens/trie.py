"""A walk over an explicit set of secrets, for scoring just those."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from canary_audit.errors import SpaceError
from canary_audit.tokens.walk import LEAF, Branch


class TrieWalk:
    """An explicit set of token paths that share their beginnings.

    Args:
        prompt: tokens the model reads before the first choice.
        paths: distinct token paths, none a prefix of another.
        spell: turns a path into its secret.
    """

    root = 0

    def __init__(
        self, prompt: Sequence[int], paths: Iterable[Sequence[int]], spell: Callable[[Sequence[int]], bytes]
    ) -> None:
        self.prompt = tuple(prompt)
        self._spell = spell
        self._children: list[dict[int, int]] = [{}]
        self._below: list[int] = [0]
        self.size = 0
        for path in paths:
            self._insert(path)
        self._branches: dict[int, Branch] = {}

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        branch = self._branches.get(state)
        if branch is None:
            edges = self._children[state]
            states = np.array(list(edges.values()), dtype=np.int64)
            counts = [1 if child == LEAF else self._below[child] for child in edges.values()]
            branch = self._branches[state] = Branch(
                tokens=np.array(list(edges), dtype=np.int64), states=states, completions=np.array(counts, dtype=float)
            )
        return branch

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""
        return self._spell(path)

    def _insert(self, path: Sequence[int]) -> None:
        *inner, last = path
        state = 0
        visited = [0]
        for token in inner:
            child = self._children[state].get(token)
            if child == LEAF:
                raise SpaceError("one secret's tokens begin another's; add a suffix that ends the secret")
            if child is None:
                child = len(self._children)
                self._children[state][token] = child
                self._children.append({})
                self._below.append(0)
            state = child
            visited.append(state)
        if last in self._children[state]:
            raise SpaceError("two secrets have the same tokens, or one's tokens begin another's")
        self._children[state][last] = LEAF
        self.size += 1
        for node in visited:
            self._below[node] += 1
