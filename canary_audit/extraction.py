"""Extraction: the likeliest secrets of a space, from prefix and format alone (Carlini et al. 2019, section 5).

The paper runs Dijkstra's search over the tree of prefixes. Two beam searches find the same leaves in far fewer model
calls, and prove it: a leaf no dearer than every node that was dropped is where Dijkstra's search would have found it.
The first beam is narrow and finds good secrets; the second is as wide as allowed, but drops at once what is dearer than
the list the first one found, so it is only as wide as the proof needs.

Through the window of a model that answers for its likeliest tokens only, this is a best-first search inside the top k;
what hides outside counts as dropped, so a certificate means what it always does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from canary_audit.errors import BudgetSpentError
from canary_audit.keep import KeepCheapest
from canary_audit.models.interface import LanguageModel
from canary_audit.search import SearchResult, search
from canary_audit.tokens.walk import LEAF, TokenWalk

_MARGIN_NATS = 1e-3
"""Far more than a score moves from one batch shape to another."""


@dataclass(frozen=True, kw_only=True)
class ExtractedSecret:
    """One secret that came out. Its text stays in memory: reports name canaries by id."""

    secret: bytes
    nll_nats: float
    certified: bool
    """True if no secret outside the list can be more likely than this one."""
    nodes: int
    """Prefixes the model was asked about, in both beams, until this secret came out as it stands here."""
    calls: int


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """The likeliest secrets, likeliest first, and what the whole search cost."""

    secrets: tuple[ExtractedSecret, ...]
    nodes: int
    calls: int


def extract(
    walk: TokenWalk,
    model: LanguageModel,
    n_secrets: int,
    *,
    max_width: int,
    nodes_left: Callable[[], int] | None = None,
) -> ExtractionReport:
    """The `n_secrets` likeliest secrets of the space, by beams of at most `max_width` nodes a level.

    Fewer come out, or none, where a model hides the tokens they are made of, or where no more can be paid for.

    Args:
        nodes_left: how many more prefixes may be asked about; None if they cost nothing. Beams are then only as wide as
            that allows.

    Raises:
        ModelError: the model gave impossible numbers.
    """
    settled: dict[bytes, ExtractedSecret] = {}
    nodes = calls = 0
    try:
        for result in _passes(walk, model, n_secrets, max_width, nodes_left):
            nodes += result.nodes
            calls += result.calls
            best = _best_leaves(walk, result, n_secrets, nodes, calls)
            settled = {item.secret: _earlier(settled.get(item.secret), item) for item in best}
    except BudgetSpentError:
        pass  # what the narrow beam found stands as it is
    return ExtractionReport(secrets=tuple(settled.values()), nodes=nodes, calls=calls)


def _passes(
    walk: TokenWalk,
    model: LanguageModel,
    n_secrets: int,
    max_width: int,
    nodes_left: Callable[[], int] | None,
) -> Iterator[SearchResult]:
    """A narrow beam, and, unless it has proved all it found, a wide one bounded by the dearest secret of its list."""
    width = min(max(2, n_secrets + n_secrets // 2), _affordable(walk, max_width, nodes_left))
    narrow = search(walk, model, thresholds_nats=np.array([np.inf]), keep=KeepCheapest(width))
    yield narrow
    best = np.sort(narrow.leaves.costs_nats)[:n_secrets]
    dearest = float(best[-1]) if len(best) == n_secrets else np.inf
    max_width = _affordable(walk, max_width, nodes_left)
    could_find_more = not narrow.whole[0] and dearest > narrow.cheapest_dropped_nats[0]
    if could_find_more and width < max_width:
        yield search(walk, model, thresholds_nats=np.array([dearest + _MARGIN_NATS]), keep=KeepCheapest(max_width))


def _affordable(walk: TokenWalk, max_width: int, nodes_left: Callable[[], int] | None) -> int:
    """Widest beam that can be paid for; one node a level is always tried, because a canary's own path is paid for."""
    return max_width if nodes_left is None else max(1, min(max_width, nodes_left() // _depth(walk)))


def _depth(walk: TokenWalk) -> int:
    """Tokens of one secret, taken where most secrets are."""
    depth, state = 0, walk.root
    while state != LEAF:
        branch = walk.children(state)
        state = int(branch.states[np.argmax(branch.completions)])
        depth += 1
    return depth


def _best_leaves(
    walk: TokenWalk, result: SearchResult, n_secrets: int, nodes: int, calls: int
) -> Iterator[ExtractedSecret]:
    """The cheapest leaves of one pass."""
    costs = result.leaves.costs_nats
    for leaf in np.argsort(costs, kind="stable")[:n_secrets]:
        yield ExtractedSecret(
            secret=walk.secret(result.path(int(leaf))),
            nll_nats=float(costs[leaf]),
            certified=bool(costs[leaf] <= result.cheapest_dropped_nats[0]),
            nodes=nodes,
            calls=calls,
        )


def _earlier(before: ExtractedSecret | None, now: ExtractedSecret) -> ExtractedSecret:
    """A secret certified by the first beam cost no more than that beam."""
    return before if before is not None and before.certified else now
