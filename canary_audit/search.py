"""One search: the level loop behind exposure and extraction.

A node is a prefix of secrets, its cost the negative log-likelihood of its tokens in nats. Costs never fall along a
path, so a node's cost bounds all its leaves from below: a node dearer than a threshold can be dropped with
everything under it. Level by level, all kept nodes are expanded in one batch of the model; thresholds and a keep rule
(`keep.py`) decide what stays, and so whether the search enumerates, counts, samples or extracts.

Several searches run side by side as *lanes*, each with its own threshold and its own keep decisions; a prefix that
several lanes keep is given to the model once.

A windowed model takes part in the same loop: a child outside its window is never reached, and what may hide below it
is bounded instead (`models/windowed.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.forecast import step_histogram
from canary_audit.keep import Keep, Level
from canary_audit.models.interface import BoolArray, FloatArray, IntArray, LanguageModel
from canary_audit.models.windowed import Outside, windowed
from canary_audit.tokens.fan import Fan, fan_out
from canary_audit.tokens.walk import LEAF, TokenWalk

_POSITIVE_LOG_PROB = 1e-6
"""Rounding may lift a log-probability above zero by this much; more is a broken model."""
_NO_LIMIT = float(np.finfo(np.float64).max)
"""No threshold is higher: it lets all pass but an unseen child, whose cost is infinite."""


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Complete secrets within their lane's threshold; arrays have shape (n_leaves,)."""

    lanes: IntArray
    costs_nats: FloatArray
    weights: FloatArray
    own: BoolArray
    """True where the leaf is its lane's own secret."""
    levels: IntArray
    parents: IntArray
    tokens: IntArray


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found."""

    leaves: Leaves
    cheapest_dropped_nats: FloatArray
    """Shape (n_lanes,): least cost of a node within the threshold that was not expanded, or of one that may hide below
    an unseen token; infinity if there is none."""
    unseen_leaves: FloatArray
    """Shape (n_lanes,): leaves within the threshold that may hide below unseen tokens of the nodes expanded, at most;
    by weight, and 0 unless the model is windowed."""
    whole: BoolArray
    """Shape (n_lanes,): was every node expanded that the lane reached? Its leaves are then all that the model shows."""
    tree_size: FloatArray
    """Shape (n_lanes,): nodes expanded, by weight: where nodes were sampled, an unbiased estimate of the whole
    tree's.
    """
    steps: FloatArray
    """Shape (n_levels, n_bins): what the steps of each level cost, as `forecast.step_histogram`."""
    nodes: int
    """Prefixes the model was asked about."""
    calls: int
    """Batched model calls."""
    complete: bool
    """False if the node budget ran out: the leaves are then a part only."""
    trail: tuple[tuple[IntArray, IntArray], ...]
    """Per level below the root, the parent row and the token of each expanded node."""

    def path(self, leaf: int) -> tuple[int, ...]:
        """Tokens of one leaf, the prompt left out."""
        return tuple(token for _, token in self.steps_to(leaf))

    def steps_to(self, leaf: int) -> tuple[tuple[int, int], ...]:
        """From the root to one leaf: the row that each step begins at, counted within its level, and its token."""
        row = int(self.leaves.parents[leaf])
        found = [(row, int(self.leaves.tokens[leaf]))]
        for parents, tokens in reversed(self.trail[: int(self.leaves.levels[leaf])]):
            token, row = int(tokens[row]), int(parents[row])
            found.append((row, token))
        return tuple(reversed(found))

    def leaf(self, path: Sequence[int]) -> int | None:
        """The leaf of these tokens, or None if it was not reached."""
        row = 0
        for token, (parents, tokens) in zip(path[:-1], self.trail, strict=False):
            found = np.flatnonzero((parents == row) & (tokens == token))
            if not len(found):
                return None
            row = int(found[0])
        leaves = self.leaves
        (found,) = np.nonzero((leaves.levels == len(path) - 1) & (leaves.parents == row) & (leaves.tokens == path[-1]))
        return int(found[0]) if len(found) else None


def search(
    walk: TokenWalk,
    model: LanguageModel,
    *,
    thresholds_nats: FloatArray,
    keep: Keep,
    own_paths: Sequence[Sequence[int]] | None = None,
    max_nodes: int | None = None,
) -> SearchResult:
    """Search the tree of `walk` under `model`, one lane per threshold.

    Args:
        thresholds_nats: shape (n_lanes,); a lane sees only nodes and leaves of at most this cost. Infinity: no limit.
        keep: chooses which inner nodes of a level are expanded.
        own_paths: each lane's own secret as tokens, so that its leaf can be told apart.
        max_nodes: give up, with `complete=False`, before the model is asked about more prefixes than this.

    Raises:
        ModelError: a log-probability is NaN, positive, or infinite where the model is not windowed.
        BudgetSpentError: from the model, whose questions have a price.
    """
    n_lanes = len(thresholds_nats)
    thresholds_nats = np.minimum(thresholds_nats, _NO_LIMIT)
    window = windowed(model)
    outside = Outside(window, n_lanes) if window else None
    own_tokens = _pad(own_paths or [()] * n_lanes)
    entries = _Entries(
        lanes=np.arange(n_lanes),
        rows=np.zeros(n_lanes, dtype=np.int64),
        weights=np.ones(n_lanes),
        own=np.full(n_lanes, own_paths is not None),
    )
    costs = np.zeros(1)
    fan = fan_out(walk, np.array([walk.root]))
    state, log_probs = model.root(walk.prompt, fan.children)
    found: list[Leaves] = []
    trail: list[tuple[IntArray, IntArray]] = []
    cheapest_dropped = np.full(n_lanes, np.inf)
    whole = np.ones(n_lanes, dtype=bool)
    tree_size = np.ones(n_lanes)
    steps: list[FloatArray] = []
    nodes = calls = 1
    while True:
        if outside:
            _count_outside(outside, state, entries, fan, log_probs, costs, thresholds_nats)
        step_costs = -_checked(log_probs, may_be_unseen=outside is not None)
        steps.append(step_histogram(step_costs, fan.shares))
        costs = costs[fan.rows] + step_costs
        reached = _reach(entries, fan, costs, thresholds_nats, own_tokens, len(trail))
        at_leaf = fan.states[reached.rows] == LEAF
        found.append(_leaves(reached, at_leaf, fan, costs, len(trail)))
        entries, dropped = _keep_inner(reached.take(~at_leaf), fan, costs, thresholds_nats, keep, len(trail) + 1)
        np.minimum.at(cheapest_dropped, *dropped)
        whole[dropped[0]] = False
        expanded, rows = np.unique(entries.rows, return_inverse=True)
        complete = max_nodes is None or nodes + len(expanded) <= max_nodes
        if not complete:
            np.minimum.at(cheapest_dropped, entries.lanes, costs[entries.rows])
            whole[entries.lanes] = False
        if not len(expanded) or not complete:
            break
        entries = replace(entries, rows=rows)
        tree_size += np.bincount(entries.lanes, weights=entries.weights, minlength=n_lanes)
        parents, tokens = fan.rows[expanded], fan.tokens[expanded]
        trail.append((parents, tokens))
        costs = costs[expanded]
        fan = fan_out(walk, fan.states[expanded])
        state, log_probs = model.step(state, parents, tokens, fan.children)
        nodes += len(expanded)
        calls += 1
    return SearchResult(
        leaves=_join(found),
        cheapest_dropped_nats=np.minimum(cheapest_dropped, outside.nearest_nats) if outside else cheapest_dropped,
        unseen_leaves=outside.leaves if outside else np.zeros(n_lanes),
        whole=whole,
        tree_size=tree_size,
        steps=np.array(steps),
        nodes=nodes,
        calls=calls,
        complete=complete,
        trail=tuple(trail),
    )


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """(lane, row) pairs: which lanes hold which nodes. Arrays have shape (n_entries,), ordered by lane."""

    lanes: IntArray
    rows: IntArray
    weights: FloatArray
    own: BoolArray
    """Does the lane's own secret begin with this node?"""

    def take(self, chosen: IntArray | BoolArray) -> "_Entries":
        return _Entries(
            lanes=self.lanes[chosen], rows=self.rows[chosen], weights=self.weights[chosen], own=self.own[chosen]
        )


def _count_outside(
    outside: Outside,
    state: Any,
    entries: _Entries,
    fan: Fan,
    log_probs: FloatArray,
    costs: FloatArray,
    thresholds: FloatArray,
) -> None:
    """Bound what hides below the unseen children of the nodes just asked about; `costs` are the nodes' own."""
    hidden = outside.hidden(state, fan.children, log_probs, fan.completions)
    outside.add(
        hidden,
        lanes=entries.lanes,
        nodes=entries.rows,
        weights=entries.weights,
        costs_nats=costs,
        thresholds_nats=thresholds,
    )


def _reach(
    entries: _Entries, fan: Fan, costs: FloatArray, thresholds: FloatArray, own_tokens: IntArray, level: int
) -> _Entries:
    """Each lane's children within its threshold; rows now number children."""
    n_children = fan.n_children[entries.rows]
    origin = np.repeat(np.arange(len(entries.rows)), n_children)
    start = np.cumsum(n_children) - n_children
    child = np.arange(len(origin)) + np.repeat(fan.first[entries.rows] - start, n_children)
    within = costs[child] <= thresholds[entries.lanes[origin]]
    origin, child = origin[within], child[within]
    lanes = entries.lanes[origin]
    own_token = own_tokens[lanes, level] if level < own_tokens.shape[1] else np.full(len(lanes), -1)
    own = entries.own[origin] & (fan.tokens[child] == own_token)
    return _Entries(lanes=lanes, rows=child, weights=entries.weights[origin], own=own)


def _leaves(reached: _Entries, at_leaf: BoolArray, fan: Fan, costs: FloatArray, level: int) -> Leaves:
    children = reached.rows[at_leaf]
    return Leaves(
        lanes=reached.lanes[at_leaf],
        costs_nats=costs[children],
        weights=reached.weights[at_leaf],
        own=reached.own[at_leaf],
        levels=np.full(len(children), level),
        parents=fan.rows[children],
        tokens=fan.tokens[children],
    )


def _keep_inner(
    inner: _Entries, fan: Fan, costs: FloatArray, thresholds: FloatArray, keep: Keep, depth: int
) -> tuple[_Entries, tuple[IntArray, FloatArray]]:
    """The entries a keep rule leaves, and (lane, cost) of those it dropped."""
    inner_costs = costs[inner.rows]
    level = Level(
        depth=depth,
        lanes=inner.lanes,
        costs_nats=inner_costs,
        weights=inner.weights,
        completions=fan.completions[inner.rows],
        slack_nats=thresholds[inner.lanes] - inner_costs,
        own=inner.own,
    )
    kept, weights = keep(level)
    dropped = np.ones(len(inner.lanes), dtype=bool)
    dropped[kept] = False
    return replace(inner.take(kept), weights=weights), (inner.lanes[dropped], inner_costs[dropped])


def _join(parts: list[Leaves]) -> Leaves:
    return Leaves(
        lanes=np.concatenate([part.lanes for part in parts]),
        costs_nats=np.concatenate([part.costs_nats for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        own=np.concatenate([part.own for part in parts]),
        levels=np.concatenate([part.levels for part in parts]),
        parents=np.concatenate([part.parents for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
    )


def _pad(paths: Sequence[Sequence[int]]) -> IntArray:
    """Paths as one array of shape (n_lanes, longest), filled with -1."""
    padded = np.full((len(paths), max(map(len, paths), default=0)), -1, dtype=np.int64)
    for lane, path in enumerate(paths):
        padded[lane, : len(path)] = path
    return padded


def _checked(log_probs: FloatArray, *, may_be_unseen: bool) -> FloatArray:
    """Log-probabilities that can be true: finite, or -infinity where unseen, and, within rounding, not positive."""
    possible = np.isfinite(log_probs)
    if may_be_unseen:
        possible |= np.isneginf(log_probs)
    if not possible.all() or log_probs.max(initial=-1.0) > _POSITIVE_LOG_PROB:
        raise ModelError(
            "the model gave a log-probability that is NaN, infinite or positive; its numbers cannot be used: "
            "check the weights for NaN and the precision for overflow"
        )
    return np.minimum(log_probs, 0.0)
