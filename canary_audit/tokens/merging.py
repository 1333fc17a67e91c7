"""Merge trees of a byte-pair tokenizer: how each token comes about, and which merges can fire at its ends.

Two tokens side by side in one pre-token stay apart unless some merge (a, b) fires across their border: a lies on the
right spine of the left token's merge tree, b on the left spine of the right token's, and both are still whole when the
merge's rank is due. So a pair is decided by the two spines, each node with the rank at which its parent takes it up.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from canary_audit.models.interface import BoolArray, IntArray
from canary_audit.vocabulary import MergeRules

Key = TypeVar("Key", bound=Hashable)

_NEVER = 2**62
"""Rank at which a whole token is taken up."""

Spine = tuple[tuple[int, int], ...]
"""(node, rank at which its parent takes it up), from the token itself down to a symbol."""
Profile = tuple[tuple[int, int], ...]
"""(node, number of its merges that are due before it is taken up), for the nodes that have any."""
Merge = tuple[int, int, int]
"""(rank, left, right)."""


class MergeTrees:
    """The merge tree that each token has when it stands alone."""

    def __init__(self, rules: MergeRules) -> None:
        self.rules = rules
        self._right: dict[int, Spine | None] = {}
        self._left: dict[int, Spine | None] = {}

    def forms(self, token: int) -> bool:
        """Does merging the token's own text give the token?"""
        return self.right_spine(token) is not None

    def occurs(self, token: int) -> bool:
        """May a text have this token: by merging, or as a whole pre-token?"""
        return self.rules.whole_words or self.forms(token)

    def right_spine(self, token: int) -> Spine | None:
        """What the token's right neighbour meets; None if merging never gives this token."""
        if token not in self._right:
            self._grow(token)
        return self._right[token]

    def left_spine(self, token: int) -> Spine | None:
        """What the token's left neighbour meets; None if merging never gives this token."""
        if token not in self._left:
            self._grow(token)
        return self._left[token]

    def _grow(self, token: int) -> None:
        self._right[token] = self._left[token] = ((token, _NEVER),) if token in self.rules.symbols else None
        for rank, left, right in self.rules.sources.get(token, ()):
            right_spine, left_spine = self.right_spine(left), self.left_spine(right)
            if right_spine is None or left_spine is None or self._merges_before(rank, right_spine, left_spine):
                continue
            self._right[token] = ((token, _NEVER), *_taken_up(rank, self.right_spine(right)))
            self._left[token] = ((token, _NEVER), *_taken_up(rank, self.left_spine(left)))
            return

    def _merges_before(self, rank: int, right_spine: Spine, left_spine: Spine) -> bool:
        """Does another merge fire across the border before the one of `rank`?"""
        ranks = self.rules.ranks
        for left, left_taken in right_spine:
            for right, right_taken in left_spine:
                across = ranks.get((left, right), _NEVER)
                if across < rank and across < left_taken and across <= right_taken:
                    return True
        return False


def merge_profiles(
    trees: MergeTrees, lefts: Sequence[int], rights: Sequence[int]
) -> tuple[list[Profile | None], list[Profile | None], list[Merge]]:
    """What decides whether a left and a right token of one pre-token stay apart.

    Returns the profile of each left token, that of each right token (None where merging never gives the token), and
    the merges between their nodes, by rank.
    """
    right_spines = [trees.right_spine(token) for token in lefts]
    left_spines = [trees.left_spine(token) for token in rights]
    merges = _merges_between(trees.rules, _nodes(right_spines), _nodes(left_spines))
    ranks_of_left: dict[int, list[int]] = {}
    ranks_of_right: dict[int, list[int]] = {}
    for rank, left, right in merges:
        ranks_of_left.setdefault(left, []).append(rank)
        ranks_of_right.setdefault(right, []).append(rank)
    # Of two equal merges the left one fires first: strict on the left, where it would be inside the left token.
    return (
        [_profile(spine, ranks_of_left, bisect_left) for spine in right_spines],
        [_profile(spine, ranks_of_right, bisect_right) for spine in left_spines],
        merges,
    )


def number(keys: Sequence[Key]) -> tuple[list[Key], IntArray]:
    """The distinct keys in the order of their first appearance, and the place of each key among them."""
    places: dict[Key, int] = {}
    which = [places.setdefault(key, len(places)) for key in keys]
    return list(places), np.array(which, dtype=np.int64)


def _taken_up(rank: int, spine: Spine | None) -> Spine:
    """A child's spine below its parent."""
    assert spine  # noqa: S101 - a child has merged, so it has a spine
    return ((spine[0][0], rank), *spine[1:])


def _nodes(spines: Iterable[Spine | None]) -> set[int]:
    return {node for spine in spines for node, _ in spine or ()}


def _merges_between(rules: MergeRules, lefts: set[int], rights: set[int]) -> list[Merge]:
    """Merges of such nodes, by rank."""
    return sorted(
        (rank, left, right) for (left, right), rank in rules.ranks.items() if left in lefts and right in rights
    )


def _profile(
    spine: Spine | None, ranks: Mapping[int, list[int]], n_below: Callable[[list[int], int], int]
) -> Profile | None:
    if spine is None:
        return None
    counts = ((node, n_below(ranks[node], taken)) for node, taken in spine if node in ranks)
    return tuple((node, n_due) for node, n_due in counts if n_due)


def stay_apart(
    merges: Sequence[Merge], left_profiles: Sequence[Profile | None], right_profiles: Sequence[Profile | None]
) -> BoolArray:
    """Whether no merge joins a left and a right token of these profiles in one pre-token; shape (n_left, n_right).

    Tokens that merging never gives do not occur there.
    """
    apart = np.ones((len(left_profiles), len(right_profiles)), dtype=bool)
    lefts, rights = _Members(left_profiles), _Members(right_profiles)
    for _, left, right in merges:
        rows, columns = lefts.due(left), rights.due(right)
        if len(rows) and len(columns):
            apart[rows[:, None], columns] = False
    apart[[profile is None for profile in left_profiles]] = False
    apart[:, [profile is None for profile in right_profiles]] = False
    return apart


class _Members:
    """For each node, the profiles in which its merges are due, merge by merge."""

    def __init__(self, profiles: Sequence[Profile | None]) -> None:
        found: dict[int, list[tuple[int, int]]] = {}
        for place, profile in enumerate(profiles):
            for node, n_due in profile or ():
                found.setdefault(node, []).append((-n_due, place))
        self._sorted = {node: np.array(sorted(members), dtype=np.int64) for node, members in found.items()}
        self._n_seen = dict.fromkeys(found, 0)

    def due(self, node: int) -> IntArray:
        """Profiles in which the node's next merge, in the order of ranks, is due; each call goes on by one merge."""
        members = self._sorted.get(node)
        if members is None:
            return np.zeros(0, dtype=np.int64)
        n_due = np.searchsorted(members[:, 0], -self._n_seen[node])
        self._n_seen[node] += 1
        return members[:n_due, 1]
