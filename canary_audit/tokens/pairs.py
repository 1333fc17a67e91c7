"""Which pairs of adjacent tokens are canonical: they encode to themselves, worked out for all pairs at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.models.interface import BoolArray, IntArray
from canary_audit.tokens.merging import MergeTrees, merge_profiles, number, stay_apart
from canary_audit.tokens.splits import Cut, Shapes


@dataclass(frozen=True, kw_only=True)
class PairTable:
    """Canonical pairs, by class: tokens of one class behave alike."""

    left: IntArray
    """Class of each left token, shape (n_left_tokens,)."""
    right: IntArray
    """Class of each right token, shape (n_right_tokens,)."""
    canonical: BoolArray
    """Shape (n_left_classes, n_right_classes)."""


def build_pairs(
    trees: MergeTrees,
    words: Sequence[bytes],
    *,
    lefts: Sequence[int],
    rights: Sequence[int],
    alphabet: bytes,
) -> PairTable:
    """Decide all pairs of a token of `lefts` and a token of `rights`.

    Two tokens in one pre-token are canonical if no merge joins them; with a cut between them they always are; with a
    cut inside one of them they never are.

    Args:
        words: what each token of the vocabulary spells.
        alphabet: the bytes that occur in the text.
    """
    left_profiles, right_profiles, merges = merge_profiles(trees, lefts, rights)
    shapes = Shapes(trees.rules.splits, alphabet)
    left_keys, left = number([(p, shapes.of(words[t])) for p, t in zip(left_profiles, lefts, strict=True)])
    right_keys, right = number([(p, shapes.of(words[t])) for p, t in zip(right_profiles, rights, strict=True)])
    canonical = stay_apart(merges, [profile for profile, _ in left_keys], [profile for profile, _ in right_keys])
    _apply_cuts(canonical, shapes, [shape for _, shape in left_keys], [shape for _, shape in right_keys])
    return PairTable(left=left, right=right, canonical=canonical)


def _apply_cuts(canonical: BoolArray, shapes: Shapes, lefts: Sequence[bytes], rights: Sequence[bytes]) -> None:
    """Overrule the merges where the pre-tokenizer cuts."""
    left_shapes, left_of = number(lefts)
    right_shapes, right_of = number(rights)
    rows = [np.flatnonzero(left_of == place)[:, None] for place in range(len(left_shapes))]
    columns = [np.flatnonzero(right_of == place) for place in range(len(right_shapes))]
    for row, left in zip(rows, left_shapes, strict=True):
        for column, right in zip(columns, right_shapes, strict=True):
            cut = shapes.cut(left, right)
            if cut is not Cut.NONE:
                canonical[row, column] = cut is Cut.BETWEEN
