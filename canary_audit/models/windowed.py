"""What hides outside the window of a model that answers for its likeliest tokens only.

A child outside the window has log-probability -infinity. Two bounds are known of such children: none exceeds
`Unseen.most_each`, and together they have at most `Unseen.most_all`. From these follow the least that a secret below
one of them can cost, and how many such secrets can be as likely as a threshold asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel, WindowedModel

_ROUNDING_NATS = 1e-9
"""An unseen token that ties with the threshold must not be lost to the last bits of its bound."""
_MOST_LOG = 700.0
"""Numbers beyond its exponential are infinite."""
_LEAST_LOG_PROB = -700.0
"""Assumed of a token that the bounds leave nothing for: any finite value bounds its cost from below."""


def windowed(model: LanguageModel) -> WindowedModel | None:
    """The model, if it answers for its likeliest tokens only; None if it answers for every token.

    This is the one place that tells the two apart. A wrapper has `unseen` only if the model inside has it.
    """
    return cast(WindowedModel, model) if hasattr(model, "unseen") else None


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """The children outside the window, all those of a node together; arrays have shape (n_nodes,)."""

    n_children: IntArray
    secrets: FloatArray
    """How many secrets lie below them."""
    log_most_each: FloatArray
    """No child has more, in nats; neither bound alone is always the tighter one."""
    log_most_all: FloatArray
    """Together they have at most this, in nats."""

    @property
    def nearest_nats(self) -> FloatArray:
        """No unseen child costs less than this, shape (n_nodes,); infinity where there is none."""
        return np.where(self.n_children > 0, -self.log_most_each, np.inf)

    def most_leaves(self, nodes: IntArray, slack_nats: FloatArray) -> FloatArray:
        """How many secrets below unseen children can cost at most `slack_nats` beyond their node, at most.

        As many as there are, and as many as their probability allows: each must have exp(-slack) of the node's. Both
        arguments and the answer have shape (n_entries,); `nodes` may repeat.
        """
        slack = slack_nats + _ROUNDING_NATS
        log_fitting = np.clip(slack + self.log_most_all[nodes], -_MOST_LOG, _MOST_LOG)
        fitting = np.minimum(self.secrets[nodes], np.floor(np.exp(log_fitting)))
        return np.where(self.nearest_nats[nodes] <= slack, fitting, 0.0)


class Outside:
    """What a search on a windowed model could not see, lane by lane."""

    def __init__(self, model: WindowedModel, n_lanes: int) -> None:
        self._model = model
        self.leaves: FloatArray = np.zeros(n_lanes)
        """Leaves within the lane's threshold that unseen tokens may hide, at most; by weight."""
        self.nearest_nats: FloatArray = np.full(n_lanes, np.inf)
        """Least that a node below an unseen token can cost, where that is within the lane's threshold."""

    def hidden(self, state: Any, children: Children, log_probs: FloatArray, completions: FloatArray) -> Hidden:
        """What is hidden below the nodes just asked about.

        Args:
            log_probs: the answers, shape (n_children,).
            completions: secrets below each child, shape (n_children,).
        """
        bounds = self._model.unseen(state)
        rows, n_nodes = children.rows, len(bounds.most_each)
        outside = np.isneginf(log_probs)
        n_children = np.bincount(rows[outside], minlength=n_nodes)
        with np.errstate(divide="ignore"):
            log_all_of_each = np.log(n_children) + bounds.most_each
        return Hidden(
            n_children=n_children,
            secrets=np.bincount(rows[outside], weights=completions[outside], minlength=n_nodes).astype(np.float64),
            log_most_each=np.minimum(bounds.most_each, bounds.most_all),
            log_most_all=np.minimum(bounds.most_all, log_all_of_each),
        )

    def add(
        self,
        hidden: Hidden,
        *,
        lanes: IntArray,
        nodes: IntArray,
        weights: FloatArray,
        costs_nats: FloatArray,
        thresholds_nats: FloatArray,
    ) -> None:
        """Count what is hidden for the lanes that hold these nodes.

        Args:
            lanes, nodes, weights: shape (n_entries,); which lanes hold which nodes, and for how many each stands.
            costs_nats: shape (n_nodes,).
            thresholds_nats: shape (n_lanes,).
        """
        slack = thresholds_nats[lanes] - costs_nats[nodes]
        leaves = weights * hidden.most_leaves(nodes, slack)
        self.leaves += np.bincount(lanes, weights=leaves, minlength=len(self.leaves))
        nearest = hidden.nearest_nats[nodes]
        within = nearest <= slack
        np.minimum.at(self.nearest_nats, lanes[within], (costs_nats[nodes] + nearest)[within])


class AtMost:
    """A windowed model in which every unseen token has the most it can have: all costs are bounds from below.

    It answers for every token, so a search may go on behind an unseen one: that prefix is text like any other.
    """

    def __init__(self, model: WindowedModel) -> None:
        self._model = model
        self._outside: list[tuple[IntArray, IntArray]] = []

    def root(self, prompt: Sequence[int], children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.root`."""
        state, log_probs = self._model.root(prompt, children)
        return state, self._assumed(state, children, log_probs)

    def step(self, state: Any, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.step`."""
        following, log_probs = self._model.step(state, parents, tokens, children)
        return following, self._assumed(following, children, log_probs)

    def is_assumed(self, level: int, row: int, token: int) -> bool:
        """Whether this child of a row of the `level`-th call, counted from 0, was outside the window."""
        rows, tokens = self._outside[level]
        return bool(((rows == row) & (tokens == token)).any())

    def _assumed(self, state: Any, children: Children, log_probs: FloatArray) -> FloatArray:
        outside = np.isneginf(log_probs)
        self._outside.append((children.rows[outside], children.tokens[outside]))
        bounds = self._model.unseen(state)
        most = np.clip(np.minimum(bounds.most_each, bounds.most_all), _LEAST_LOG_PROB, 0.0)
        return np.where(outside, most[children.rows], log_probs)
