"""A datastore of hidden states, each with the token that followed, and the vote of the nearest among them.

As in nearest-neighbour language models (Khandelwal et al. 2020), with one thing more: a query can be put once to the
whole store and once to what is left without its own document.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.language.hidden_states import HiddenStates
from canary_audit.studies.neighbours.knn import COMPONENTS

N_VOTES: Final = 8
WINDOW: Final = 30
"""Tokens to either side of a query in its own row that are left out with its document."""
MOST_STATES: Final = 200_000
_MOST_NUMBERS: Final = 20_000_000
"""A larger store is reduced to 64 principal components."""
_DISTANCES_PER_CHUNK: Final = 1 << 24
NOBODY: Final = -1
"""The vote where nobody is left to vote."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Datastore:
    """Every entry is a predicted token of a training row."""

    entries: HiddenStates
    documents: IntArray
    """Number of the text that the entry's token is part of, shape (n_entries,): equal texts have one number."""


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Token with most votes among the 8 nearest entries, for each query; the nearest of them at a tie."""

    kept: IntArray
    """Among all entries, the query's own included."""
    excluded: IntArray
    """Without all copies of the query's text and without its surroundings in the row; -1 if nothing is left."""


def build_datastore(entries: HiddenStates, *, start: int, end: int) -> Datastore:
    """Tell the texts apart by their tokens: each ends with the token `end`, or with its row.

    Args:
        start: token that stands before a text; where it is another than `end`, it is no part of the text.
    """
    numbers: dict[bytes, int] = {}
    documents = np.empty(len(entries), dtype=np.int64)
    ends = (entries.tokens == end) | np.append(np.diff(entries.rows) != 0, True)
    first = 0
    for last in np.flatnonzero(ends).tolist():
        text = entries.tokens[first : last + 1]
        text = text[int(start != end and text[0] == start) :]
        documents[first : last + 1] = numbers.setdefault(text.tobytes(), len(numbers))
        first = last + 1
    return Datastore(entries=entries, documents=documents)


def vote(store: Datastore, queries: IntArray, k: int = N_VOTES) -> Votes:
    """Ask for the neighbours of some entries by Euclidean distance: places of entries, shape (n_queries,)."""
    states = _compact(store.entries.states)
    per_chunk = max(1, _DISTANCES_PER_CHUNK // len(states))
    chunks = [
        _vote_chunk(store, states, queries[start : start + per_chunk], k) for start in range(0, len(queries), per_chunk)
    ]
    kept, excluded = (np.concatenate([chunk[side] for chunk in chunks]) for side in range(2))
    return Votes(kept=kept, excluded=excluded)


def most_voted(tokens: IntArray) -> IntArray:
    """The most frequent token of each row, the foremost at a tie; entries of -1 have no vote: (n, k) -> (n,)."""
    counts = (tokens[:, :, None] == tokens[:, None, :]).sum(axis=2) * (tokens != NOBODY)
    chosen: IntArray = np.take_along_axis(tokens, counts.argmax(axis=1)[:, None], axis=1)[:, 0]
    return chosen


def _vote_chunk(store: Datastore, states: Any, queries: IntArray, k: int) -> tuple[IntArray, IntArray]:
    from sklearn.metrics import pairwise_distances  # noqa: PLC0415  slow to import

    entries = store.entries
    distances = pairwise_distances(states[queries], states, metric="euclidean")
    kept = most_voted(_nearest_tokens(distances, entries.tokens, k))
    is_near = np.abs(entries.columns[queries][:, None] - entries.columns) <= WINDOW
    is_near &= entries.rows[queries][:, None] == entries.rows
    distances[is_near | (store.documents[queries][:, None] == store.documents)] = np.inf
    return kept, most_voted(_nearest_tokens(distances, entries.tokens, k))


def _nearest_tokens(distances: NDArray[np.floating], tokens: IntArray, k: int) -> IntArray:
    """Tokens of the k nearest entries, nearest first; -1 in place of those infinitely far: shape (n_queries, k)."""
    k = min(k, distances.shape[1])
    places = np.argpartition(distances, k - 1, axis=1)[:, :k]
    own = np.take_along_axis(distances, places, axis=1)
    places = np.take_along_axis(places, own.argsort(axis=1, kind="stable"), axis=1)
    return np.where(np.isinf(np.take_along_axis(distances, places, axis=1)), NOBODY, tokens[places])


def _compact(states: NDArray[np.float32]) -> NDArray[np.float32]:
    if states.size <= _MOST_NUMBERS or states.shape[1] <= COMPONENTS:
        return states
    from sklearn.decomposition import PCA  # noqa: PLC0415  slow to import

    reduced: NDArray[np.float32] = PCA(COMPONENTS, svd_solver="covariance_eigh").fit_transform(states)
    return reduced.astype(np.float32)
