"""Extraction: the likeliest secrets of a space, from prefix and format alone (Carlini et al. 2019, section 5).

The paper runs Dijkstra's search over the tree of prefixes. Beam search finds the same leaves in far fewer model
calls, and proves it: a leaf no dearer than every node the beam dropped is where Dijkstra would have found it. Each
pass doubles the beam and drops what is dearer than the best leaves already found, so a later pass is wider but not
longer than it must be.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from canary_audit.models.interface import LanguageModel
from canary_audit.search import KeepCheapest, SearchResult, search
from canary_audit.tokens import TokenWalk

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
    """Prefixes the model was asked about until this secret came out as it stands here, over all passes."""
    calls: int


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """The likeliest secrets, likeliest first, and what the whole search cost."""

    secrets: tuple[ExtractedSecret, ...]
    nodes: int
    calls: int


def extract(walk: TokenWalk, model: LanguageModel, n_secrets: int, *, max_width: int) -> ExtractionReport:
    """The `n_secrets` likeliest secrets of the space; beams double until all are certified or `max_width` is reached.

    Raises:
        ModelError: the model gave impossible numbers.
    """
    settled: dict[bytes, ExtractedSecret] = {}
    nodes = calls = 0
    for result in _passes(walk, model, n_secrets, max_width):
        nodes += result.nodes
        calls += result.calls
        best = _best_leaves(walk, result, n_secrets, nodes, calls)
        settled = {item.secret: _earlier(settled.get(item.secret), item) for item in best}
    return ExtractionReport(secrets=tuple(settled.values()), nodes=nodes, calls=calls)


def _passes(walk: TokenWalk, model: LanguageModel, n_secrets: int, max_width: int) -> Iterator[SearchResult]:
    """Beam searches of doubling width, each bounded by the dearest secret of the list before it."""
    width, bound = min(max(n_secrets, 2), max_width), np.inf
    while True:
        result = search(walk, model, thresholds_nats=np.array([bound]), keep=KeepCheapest(width))
        yield result
        costs = np.sort(result.leaves.costs_nats)[:n_secrets]
        if costs[-1] <= result.cheapest_dropped_nats[0] or width >= max_width:
            return
        width, bound = min(2 * width, max_width), float(costs[-1]) + _MARGIN_NATS


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
    """A secret certified in an earlier pass keeps that pass's cost."""
    return before if before is not None and before.certified else now
