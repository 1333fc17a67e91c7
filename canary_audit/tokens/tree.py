"""The tree of canonical token paths of a text: the product of its automaton, the vocabulary and the last token."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from canary_audit.models.interface import BoolArray, IntArray
from canary_audit.tokens.counting import PathGraph, as_floats, as_integer, count_paths
from canary_audit.tokens.framing import Framing
from canary_audit.tokens.lattice import Lattice, build_lattice
from canary_audit.tokens.merging import MergeTrees
from canary_audit.tokens.pairs import build_pairs
from canary_audit.tokens.text import WholeText
from canary_audit.tokens.walk import LEAF, Branch


class TokenTree:
    """Canonical paths that go on after the `stable` tokens of a text, to the end of `suffix`.

    A state is a text state with the class of the token before it. What can never be completed is left out.

    Attributes:
        stable: tokens before the root.
        root: state at the start.
        n_paths: number of paths, exact.
    """

    def __init__(self, framing: Framing, trees: MergeTrees, stable: tuple[int, ...], suffix: bytes) -> None:
        self.stable = stable
        words = [framing.vocabulary.spelled(token) for token in range(framing.vocabulary.size)]
        text = WholeText(framing.head[sum(len(words[token]) for token in stable) :], framing.space, suffix)
        lattice = _usable(_lattice(text, words), trees)
        at_start = slice(lattice.first[text.start], lattice.first[text.start + 1])
        graph, self._text_of = _graph(trees, words, text, lattice, at_start)
        counts = count_paths(graph, framing.space.size.bit_length())
        follows = _follows(trees, words, text, stable, lattice.words[at_start])
        first = graph.target[at_start][follows]
        self.n_paths = as_integer(counts[first].sum(axis=0))
        self.root = len(counts)
        self._graph, self._tokens = graph, lattice.words
        self._completions = as_floats(counts)
        completable: BoolArray = np.any(counts > 0.0, axis=1)
        self._alive = completable[graph.target]
        self._first_edges: IntArray = at_start.start + np.flatnonzero(follows & self._alive[at_start])
        leaves = text.leaves[self._text_of]
        self._completions[leaves] = 1.0
        self._states = np.where(leaves, LEAF, np.arange(self.root))[graph.target]

    def children(self, state: int) -> Branch:
        """Children of an inner state."""
        edges = self._edges(state)
        return Branch(
            tokens=self._tokens[edges],
            states=self._states[edges],
            completions=self._completions[self._graph.target[edges]],
        )

    def has(self, path: Sequence[int]) -> bool:
        """Is this a leaf's path?"""
        state = self.root
        for token in path:
            edge = None if state == LEAF else self._edge(state, token)
            if edge is None:
                return False
            state = int(self._states[edge])
        return state == LEAF

    def _edge(self, state: int, token: int) -> int | None:
        """The edge out of `state` with this token; None if there is none that can be completed."""
        if state == self.root:
            found = self._first_edges[self._tokens[self._first_edges] == token]
            return int(found[0]) if len(found) else None
        graph, text_state = self._graph, self._text_of[state]
        first, end = graph.first_edge[text_state], graph.first_edge[text_state + 1]
        edge = int(first + np.searchsorted(self._tokens[first:end], token))
        if edge == end or self._tokens[edge] != token or not self._alive[edge]:
            return None
        return edge if graph.canonical[graph.left[state], graph.right[edge]] else None

    def _edges(self, state: int) -> IntArray:
        """Edges out of a state that can be completed, by token."""
        if state == self.root:
            return self._first_edges
        graph, text_state = self._graph, self._text_of[state]
        first, end = graph.first_edge[text_state], graph.first_edge[text_state + 1]
        allowed = graph.canonical[graph.left[state]][graph.right[first:end]] & self._alive[first:end]
        edges: IntArray = first + np.flatnonzero(allowed)
        return edges


def _lattice(text: WholeText, words: Sequence[bytes]) -> Lattice:
    """Which tokens may stand where, by their bytes alone."""
    fitting = [token for token, word in enumerate(words) if word and not word.translate(None, text.alphabet)]
    spelling = np.array(fitting, dtype=np.int64)
    lattice = build_lattice(text, [words[token] for token in fitting])
    return replace(lattice, words=spelling[lattice.words])


def _usable(lattice: Lattice, trees: MergeTrees) -> Lattice:
    """Leave out tokens that no text has: those that merging never gives."""
    tokens, which = np.unique(lattice.words, return_inverse=True)
    kept = np.array([trees.occurs(token) for token in tokens.tolist()], dtype=bool)[which]
    return Lattice(
        words=lattice.words[kept],
        ends=lattice.ends[kept],
        first=np.concatenate([[0], np.cumsum(kept)])[lattice.first],
    )


def _graph(
    trees: MergeTrees, words: Sequence[bytes], text: WholeText, lattice: Lattice, at_start: slice
) -> tuple[PathGraph, IntArray]:
    """The graph of canonical pairs, and the text state of each node. The start is no node: nothing leads to it."""
    lefts, left_place = np.unique(lattice.words, return_inverse=True)
    inner = np.ones(len(lattice.words), dtype=bool)
    inner[at_start] = False
    rights, right_place = np.unique(lattice.words[inner], return_inverse=True)
    pairs = build_pairs(trees, words, lefts=lefts.tolist(), rights=rights.tolist(), alphabet=text.alphabet)
    right = np.zeros(len(inner), dtype=np.int64)
    right[inner] = pairs.right[right_place]
    n_left = len(pairs.canonical)
    nodes, target = np.unique(lattice.ends * n_left + pairs.left[left_place], return_inverse=True)
    text_of, left = np.divmod(nodes, n_left)
    graph = PathGraph(
        canonical=pairs.canonical,
        left=left,
        right=right,
        target=target,
        first_node=np.searchsorted(text_of, np.arange(text.n_states + 1)),
        first_edge=lattice.first,
        ends=text.ends,
    )
    return graph, text_of


def _follows(
    trees: MergeTrees, words: Sequence[bytes], text: WholeText, stable: tuple[int, ...], tokens: IntArray
) -> BoolArray:
    """Which tokens may come first, after the stable ones; shape of `tokens`.

    A last stable token that merging never gives is one that the tokenizer looks for in the text before all else.
    """
    if not stable or not trees.forms(stable[-1]):
        return np.ones(len(tokens), dtype=bool)
    pairs = build_pairs(trees, words, lefts=stable[-1:], rights=tokens.tolist(), alphabet=text.alphabet)
    follows: BoolArray = pairs.canonical[0, pairs.right]
    return follows
