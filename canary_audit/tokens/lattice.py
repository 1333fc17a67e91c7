"""Which tokens may stand where in a text: the product of a vocabulary's trie and a text's automaton."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.models.interface import IntArray
from canary_audit.tokens.ragged import ranges
from canary_audit.tokens.text import NOWHERE, WholeText

_STATES_AT_ONCE = 4_096


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """Edges (text state, word, text state), ordered by the first and then by the word.

    `words` and `ends` have shape (n_edges,); the edges of `state` are `first[state]:first[state + 1]`.
    """

    words: IntArray
    """Which of the words, by its place in the list given."""
    ends: IntArray
    first: IntArray
    """Shape (n_states + 1,)."""


def build_lattice(text: WholeText, words: Sequence[bytes]) -> Lattice:
    """All ways to go on with one of `words`, none of them empty, from every state of `text`."""
    trie = _Trie(words)
    blocks = [
        trie.readings(text, np.arange(begin, min(begin + _STATES_AT_ONCE, text.n_states)))
        for begin in range(0, text.n_states, _STATES_AT_ONCE)
    ]
    origins, found, ends = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.lexsort((found, origins))
    return Lattice(
        words=found[order],
        ends=ends[order],
        first=np.searchsorted(origins[order], np.arange(text.n_states + 1)),
    )


class _Trie:
    """Words as a tree of bytes, in arrays. Node 0 is the root; edge i leads to node i + 1, and edges are ordered by
    the node they leave.
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        letters = np.frombuffer(b"".join(words), dtype=np.uint8).astype(np.int64)
        offsets = np.cumsum(lengths) - lengths
        nodes = np.zeros(len(words), dtype=np.int64)
        edges = [np.zeros(0, dtype=np.int64)]
        n_nodes = 1
        for depth in range(int(lengths.max(initial=0))):
            inside = np.flatnonzero(lengths > depth)
            keys, which = np.unique(nodes[inside] * 256 + letters[offsets[inside] + depth], return_inverse=True)
            nodes[inside] = n_nodes + which
            n_nodes += len(keys)
            edges.append(keys)
        parents, self._bytes = np.divmod(np.concatenate(edges), 256)
        self._first_edge = np.searchsorted(parents, np.arange(n_nodes + 1))
        self._words = np.argsort(nodes, kind="stable")
        self._first_word = np.searchsorted(nodes[self._words], np.arange(n_nodes + 1))

    def readings(self, text: WholeText, origins: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """(origin, word, end) of each word that can be read from a state in `origins`."""
        found = [(np.zeros(0, dtype=np.int64),) * 3]
        here, nodes = origins, np.zeros(len(origins), dtype=np.int64)
        while len(nodes):
            owners, edges = ranges(self._first_edge[nodes], self._first_edge[nodes + 1] - self._first_edge[nodes])
            targets = text.following[here[owners], text.column[self._bytes[edges]]]
            possible = targets != NOWHERE
            origins, here, nodes = origins[owners[possible]], targets[possible].astype(np.int64), edges[possible] + 1
            owners, places = ranges(self._first_word[nodes], self._first_word[nodes + 1] - self._first_word[nodes])
            found.append((origins[owners], self._words[places], here[owners]))
        first, second, third = zip(*found, strict=True)
        return np.concatenate(first), np.concatenate(second), np.concatenate(third)
