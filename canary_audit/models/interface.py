"""What the search asks of a language model, and nothing more.

A back-end answers two calls. Both return only the log-probabilities of the tokens that were asked for,
normalized over the full vocabulary, so nothing vocabulary-wide has to leave a GPU or a server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Children:
    """The (row, token) pairs whose log-probabilities are wanted, ordered by row.

    `rows[i]` is the row of the batch whose next token is asked about, `tokens[i]` that token; both have shape
    (n_children,).
    """

    rows: IntArray
    tokens: IntArray


class LanguageModel(Protocol):
    """A model that scores next tokens.

    The state is opaque to the caller: a batch of rows, one a prefix, that only `step` can read. A transformer keeps its
    KV cache in it, a recurrent model its hidden state, a table the prefixes themselves.
    """

    def root(self, prompt: Sequence[int], children: Children) -> tuple[Any, FloatArray]:
        """Read `prompt` into a state of one row; return it and the children's log-probabilities in nats."""

    def step(self, state: Any, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Any, FloatArray]:
        """Extend prefixes by one token each.

        Row i of the new state is row `parents[i]` of `state` followed by `tokens[i]`; both have shape (n_rows,).
        Returns the new state and the children's log-probabilities in nats, shape (n_children,), float64.
        """


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """What can be said of the tokens outside a model's window; arrays have shape (n_rows,), in nats, -inf for none."""

    most_each: FloatArray
    """Log-probability that no token outside the window exceeds."""
    most_all: FloatArray
    """Logarithm of what all tokens outside the window can have together, at most."""


class WindowedModel(LanguageModel, Protocol):
    """A model that answers for its likeliest tokens only: the log-probability of any other child is -infinity."""

    def unseen(self, state: Any) -> Unseen:
        """Bounds on the tokens outside the window, for each row of a state that `root` or `step` returned."""
