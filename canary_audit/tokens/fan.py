"""The children of many states of a walk, side by side in arrays."""

from dataclasses import dataclass

import numpy as np

from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.tokens.walk import TokenWalk


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Children of all nodes of a level, one after the other; arrays have shape (n_children,)."""

    rows: IntArray
    """Which node each is a child of."""
    tokens: IntArray
    states: IntArray
    completions: FloatArray
    first: IntArray
    """Shape (n_nodes,): where each node's children begin."""
    n_children: IntArray
    """Shape (n_nodes,)."""

    @property
    def children(self) -> Children:
        """What is asked of the model."""
        return Children(rows=self.rows, tokens=self.tokens)

    @property
    def shares(self) -> FloatArray:
        """Each child's part of the secrets below its node."""
        below: FloatArray = np.add.reduceat(self.completions, self.first)
        return self.completions / np.repeat(below, self.n_children)


def fan_out(walk: TokenWalk, states: IntArray) -> Fan:
    """Children of each state; states that occur often are looked up once."""
    distinct, which = np.unique(states, return_inverse=True)
    branches = [walk.children(int(state)) for state in distinct]
    sizes = np.array([len(branch.tokens) for branch in branches])
    offsets = np.cumsum(sizes) - sizes
    n_children = sizes[which]
    first = np.cumsum(n_children) - n_children
    rows = np.repeat(np.arange(len(states)), n_children)
    source = np.arange(len(rows)) + np.repeat(offsets[which] - first, n_children)
    return Fan(
        rows=rows,
        tokens=np.concatenate([branch.tokens for branch in branches])[source],
        states=np.concatenate([branch.states for branch in branches])[source],
        completions=np.concatenate([branch.completions for branch in branches])[source],
        first=first,
        n_children=n_children,
    )
