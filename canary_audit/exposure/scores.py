"""What chosen secrets cost: their negative log-likelihoods, or bounds where a token lies outside a model's window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.keep import KeepAll, KeepOwn
from canary_audit.models.interface import BoolArray, FloatArray, LanguageModel
from canary_audit.models.windowed import AtMost, windowed
from canary_audit.search import SearchResult, search
from canary_audit.tokens.trie import TrieWalk
from canary_audit.tokens.walk import TokenWalk

Path = tuple[int, ...]
WholeCosts = Callable[[Sequence[Path]], FloatArray]
"""Costs in nats of leaves, each at the price of one question: some servers score whole texts."""


@dataclass(frozen=True, kw_only=True)
class PathScores:
    """Costs of several leaves; arrays have shape (n_paths,)."""

    costs_nats: FloatArray
    censored: BoolArray
    """True where a token lay outside the model's window: the leaf then costs this or more."""


def score_paths(walk: TokenWalk, model: LanguageModel, paths: Sequence[Path]) -> FloatArray:
    """Costs in nats, shape (n_paths,), of the leaves with these tokens; shared beginnings are read once.

    From a windowed model, a path with an unseen token has the least it can cost; `path_scores` tells which.
    """
    return path_scores(walk, model, paths).costs_nats


def path_scores(walk: TokenWalk, model: LanguageModel, paths: Sequence[Path], *, siblings: bool = False) -> PathScores:
    """Costs of the leaves with these tokens.

    Only the steps that a window hides are censored: what follows an unseen token is asked like anything else.

    Args:
        siblings: ask, with every step, for all tokens beside it. Where a prefix has one price for all its children,
            and answers are remembered, searches of the same tree then pay for none of these prefixes again.

    Raises:
        ModelError: the model gave impossible numbers.
        BudgetSpentError: from the model, whose questions have a price.
    """
    window = windowed(model)
    bounded = AtMost(window) if window else None
    distinct = sorted(set(paths))
    score = _on_the_walk if siblings else _on_their_own
    result, leaves = score(walk, bounded or model, distinct)
    censored = {path: bounded is not None and _is_censored(bounded, result, leaf) for path, leaf in leaves.items()}
    return PathScores(
        costs_nats=np.array([result.leaves.costs_nats[leaves[path]] for path in paths]),
        censored=np.array([censored[path] for path in paths], dtype=bool),
    )


def whole_scores(costs_of: WholeCosts, paths: Sequence[Path]) -> PathScores:
    """Costs of the leaves with these tokens, each asked for whole."""
    costs = costs_of(paths)
    return PathScores(costs_nats=costs, censored=np.zeros(len(costs), dtype=bool))


def _on_their_own(walk: TokenWalk, model: LanguageModel, paths: list[Path]) -> tuple[SearchResult, dict[Path, int]]:
    """A search among these paths alone, and the leaf of each."""
    result = search(
        TrieWalk(walk.prompt, paths, walk.secret), model, thresholds_nats=np.array([np.inf]), keep=KeepAll()
    )
    return result, {result.path(leaf): leaf for leaf in range(len(result.leaves.costs_nats))}


def _on_the_walk(walk: TokenWalk, model: LanguageModel, paths: list[Path]) -> tuple[SearchResult, dict[Path, int]]:
    """A search of the whole tree that follows these paths only, and the leaf of each."""
    result = search(walk, model, thresholds_nats=np.full(len(paths), np.inf), keep=KeepOwn(), own_paths=paths)
    return result, {paths[result.leaves.lanes[leaf]]: int(leaf) for leaf in np.flatnonzero(result.leaves.own)}


def _is_censored(bounded: AtMost, result: SearchResult, leaf: int) -> bool:
    return any(bounded.is_assumed(level, row, token) for level, (row, token) in enumerate(result.steps_to(leaf)))
