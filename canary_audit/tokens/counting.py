"""Exact numbers of canonical token paths.

Spaces reach 144 bits and more, so a number is a row of 32-bit limbs, kept in float64: a sum of up to 2^21 of them is
exact, and the matrix products run at full speed.
"""

from dataclasses import dataclass

import numpy as np

from canary_audit.models.interface import BoolArray, FloatArray, IntArray

_BASE = 2.0**32
_ROWS_AT_ONCE = 64
"""Rows of a Boolean matrix turned into float64 at once: few enough for the cache."""


@dataclass(frozen=True, kw_only=True)
class PathGraph:
    """A layered graph: a node is a text state with the left class of the last token, an edge a token.

    Nodes of a text state are `first_node[state]:first_node[state + 1]`, edges out of it
    `first_edge[state]:first_edge[state + 1]`. A node may take an edge if `canonical[left[node], right[edge]]`. Edges
    lead to higher text states.
    """

    canonical: BoolArray
    left: IntArray
    """Shape (n_nodes,)."""
    right: IntArray
    """Shape (n_edges,)."""
    target: IntArray
    """Shape (n_edges,): the node an edge leads to."""
    first_node: IntArray
    first_edge: IntArray
    ends: BoolArray
    """Shape (n_states,): is the text complete?"""


def count_paths(graph: PathGraph, n_bits: int) -> FloatArray:
    """Number of paths from each node to the end of the text, as limbs, least first; shape (n_nodes, n_limbs).

    `n_bits` is how long the numbers get at most; where paths turn out to be more, the last limb holds the excess.
    """
    counts = np.zeros((len(graph.left), n_bits // 32 + 2))
    for state in range(len(graph.ends) - 1, -1, -1):
        nodes = slice(graph.first_node[state], graph.first_node[state + 1])
        edges = slice(graph.first_edge[state], graph.first_edge[state + 1])
        if graph.ends[state]:
            counts[nodes, 0] = 1.0
        elif nodes.start < nodes.stop and edges.start < edges.stop:
            columns, which = np.unique(graph.right[edges], return_inverse=True)
            below = counts[graph.target[edges]]
            sums = np.stack([np.bincount(which, limb).astype(np.float64) for limb in below.T], axis=1)
            counts[nodes] = _carried(_product(graph.canonical, graph.left[nodes], columns, _carried(sums)))
    return counts


def as_integer(limbs: FloatArray) -> int:
    """The number that a row of limbs stands for."""
    return sum(int(limb) << (32 * place) for place, limb in enumerate(limbs))


def as_floats(counts: FloatArray) -> FloatArray:
    """The nearest floats; infinity where they are too large for one."""
    with np.errstate(over="ignore"):
        floats: FloatArray = np.ldexp(counts, 32 * np.arange(counts.shape[1])).sum(axis=1)
        return floats


def _product(matrix: BoolArray, rows: IntArray, columns: IntArray, values: FloatArray) -> FloatArray:
    """`matrix[rows, columns] @ values` without the whole of it in float64."""
    whole = len(columns) == matrix.shape[1]
    blocks = []
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        block = matrix[rows[begin : begin + _ROWS_AT_ONCE]]
        blocks.append((block if whole else block[:, columns]).astype(np.float64) @ values)
    return np.concatenate(blocks)


def _carried(values: FloatArray) -> FloatArray:
    """The same numbers with limbs below 2^32, except for the last."""
    for place in range(values.shape[1] - 1):
        carry = np.floor(values[:, place] / _BASE)
        values[:, place] -= carry * _BASE
        values[:, place + 1] += carry
    return values
