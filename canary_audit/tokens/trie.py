"""A walk over an explicit set of secrets, for scoring just those."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from canary_audit.errors import SpaceError
from canary_audit.models.interface import BoolArray, IntArray
from canary_audit.tokens.walk import LEAF, Branch

_PAST_END = -1


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
        self._fill(prompt, padded(list(paths)), spell)

    @classmethod
    def of_rows(cls, prompt: Sequence[int], rows: IntArray, spell: Callable[[Sequence[int]], bytes]) -> "TrieWalk":
        """The same of paths in one array, filled up with -1; shape (n_paths, longest)."""
        walk = cls.__new__(cls)
        walk._fill(prompt, rows, spell)
        return walk

    def _fill(self, prompt: Sequence[int], rows: IntArray, spell: Callable[[Sequence[int]], bytes]) -> None:
        self.prompt = tuple(prompt)
        self._spell = spell
        self.size = len(rows)
        self._tokens, self._states, self._completions, self._first = _levels(_sorted_rows(rows))

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        edges = slice(self._first[state], self._first[state + 1])
        return Branch(
            tokens=self._tokens[edges],
            states=self._states[edges],
            completions=self._completions[edges].astype(np.float64),
        )

    def secret(self, path: Sequence[int]) -> bytes:
        """The secret that a leaf's tokens spell."""
        return self._spell(path)


def padded(rows: Sequence[Sequence[int]]) -> IntArray:
    """Rows of tokens as one array, filled up with -1; shape (n_rows, longest)."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    table = np.full((len(rows), int(lengths.max(initial=0))), _PAST_END, dtype=np.int64)
    n_tokens = int(lengths.sum())
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.fromiter(
        (token for row in rows for token in row), dtype=np.int64, count=n_tokens
    )
    return table


def _sorted_rows(rows: IntArray) -> IntArray:
    """Rows in the order of their tokens."""
    return rows[np.lexsort(rows.T[::-1])] if rows.size else rows


def _levels(rows: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Tokens, target states and leaves below of all edges, level by level, and each state's first edge.

    Inner states are numbered level by level too, in the order of the edges that lead to them.
    """
    nothing = np.zeros(0, dtype=np.int64)
    tokens, states, completions, first = [nothing], [nothing], [nothing], [np.zeros(1, dtype=np.int64)]
    node = np.zeros(len(rows), dtype=np.int64)
    n_states, n_edges = 1, 0
    for level in range(rows.shape[1]):
        inside = rows[:, level] != _PAST_END
        rows, node = rows[inside], node[inside]
        column = rows[:, level]
        starts = np.ones(len(rows), dtype=bool)
        starts[1:] = (column[1:] != column[:-1]) | (node[1:] != node[:-1])
        begin = np.flatnonzero(starts)
        below = np.diff(np.append(begin, len(rows)))
        is_leaf = _leaf_edges(rows, level, begin, below)
        target = np.where(is_leaf, LEAF, n_states + np.cumsum(~is_leaf) - 1)
        _, n_children = np.unique(node[begin], return_counts=True)
        first.append(n_edges + np.cumsum(n_children))
        tokens.append(column[begin])
        states.append(target)
        completions.append(below)
        n_states += int((~is_leaf).sum())
        n_edges += len(begin)
        node = np.repeat(target, below)
    return np.concatenate(tokens), np.concatenate(states), np.concatenate(completions), np.concatenate(first)


def _leaf_edges(rows: IntArray, level: int, begin: IntArray, below: IntArray) -> BoolArray:
    """Which edges of a level complete a path."""
    deepest = level + 1 == rows.shape[1]
    is_leaf = np.ones(len(begin), dtype=bool) if deepest else rows[begin, level + 1] == _PAST_END
    if (below[is_leaf] > 1).any():
        raise SpaceError(
            "two secrets have the same tokens, or one's tokens begin another's; add a suffix that ends the secret"
        )
    return is_leaf
