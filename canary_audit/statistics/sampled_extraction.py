"""What texts that a model wrote say about a secret: how often it comes out, and whether chance could have written it.

A secret that the model never saw is one of the space's, all equally likely and independent of the texts. The chance
that it lies within d edits of them is then the number of the space's secrets that do, over |R|. That number is counted,
or bounded from above, so the p-value holds whatever the model writes, and for as many texts as one likes.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import ResultError
from canary_audit.matching import SEPARATORS
from canary_audit.results import Maybe, NotAvailable, SampledExtraction
from canary_audit.spaces import SecretSpace
from canary_audit.statistics.discoverable import samples_needed
from canary_audit.statistics.intervals import clopper_pearson

_CONFIDENCE = 0.95
_BETWEEN_TEXTS = 0xFF
"""Stands in no UTF-8 text, so no secret reaches from one text into the next."""
_CHUNK_BYTES = 4_096
"""Of text that is counted at once; it bounds the memory, because a large automaton has many states under way."""
_MOST_WORK = 2_000_000_000
"""Entries of tables of ways that may be filled: half a minute."""
_EXACT = 2.0**53
"""Whole numbers up to here are exact, and so are their sums."""
_ROUNDING = 1e-9
"""More than sums of larger ones can be off."""

_Ways = NDArray[np.float64]
"""Ways to be at a place of the text after so many edits; shape (edits + 1, length)."""


def sampled_extraction(hits: int, n_samples: int, *, greedy: bool) -> SampledExtraction:
    """Samples that hold a secret, with the interval of the chance of one; without samples it is 0 to 1.

    Raises:
        ResultError: the counts are impossible.
    """
    low, high = clopper_pearson(hits, n_samples, _CONFIDENCE) if n_samples or hits else (0.0, 1.0)
    return SampledExtraction(n_samples=n_samples, hits=hits, rate_low=low, rate_high=high, greedy=greedy)


def samples_for_even_odds(hits: int, n_samples: int) -> Maybe:
    """Samples after which the secret has come out with probability one half, if the share that held it is its chance.

    Not available where none held it: the chance is then known from above only.

    Raises:
        ResultError: the counts are impossible.
    """
    if not hits:
        return NotAvailable(not_available="no continuation held it, so its chance is known from above only")
    if not 0 < hits <= n_samples:
        raise ResultError(f"{hits} hits in {n_samples} samples are impossible")
    return samples_needed(math.log(n_samples / hits))


def written_p_value(n_written: int, space_size: int) -> float:
    """Chance that a never-inserted secret is one of `n_written`, n / |R|, at most 1: the p-value of one that was.

    `n_written` is the number of secrets that lie as close to the texts as this one, itself included, or more. Assumes
    that the secret is uniform in the space and independent of the texts. Then P(p <= a) <= a: of all that have p <= a
    take the farthest from the texts; p <= a says that the secrets as close as it are at most a |R|, and all others with
    p <= a are among them. |R| may exceed what a float holds.

    Raises:
        ResultError: nothing was counted, not even the secret itself.
    """
    if n_written < 1:
        raise ResultError(f"{n_written} secrets of {space_size} were written, but one was seen")
    return min(n_written, space_size) / space_size


def count_written(space: SecretSpace, texts: Sequence[bytes]) -> int:
    """Number of different secrets of the space that stand in the texts, exact."""
    edges: dict[int, tuple[bool, Mapping[int, int]]] = {}
    written: set[bytes] = set()
    for text in texts:
        for start in range(len(text)):
            written.update(text[start:end] for end in _ends(space, edges, text, start))
    return len(written)


def _ends(
    space: SecretSpace, known: dict[int, tuple[bool, Mapping[int, int]]], text: bytes, start: int
) -> Iterator[int]:
    """Where secrets end that begin at `start`; `known` keeps what was asked of the automaton."""
    state = space.start
    for place in range(start, len(text)):
        if state not in known:
            known[state] = space.accepts(state), space.edges(state)
        target = known[state][1].get(text[place])
        if target is None:
            return
        state = target
        if space.accepts(state):
            yield place + 1


def count_nearly_written(space: SecretSpace, bare_texts: Sequence[bytes], edits: int) -> int:
    """At least the number of different secrets that, without separators, are within `edits` of a piece of the texts.

    Counts ways rather than secrets: walks through the automaton of the space and, beside it, through the text, in which
    a byte is shared, replaced, put in or left out. Several ways may spell one secret, so the count is an upper bound;
    at 0 edits it is exact if all secrets have one length and no separators. Texts are without separators, as
    `matching.bare` makes them, and a piece that stands in several is walked once. Where that takes too long the whole
    space is the bound.
    """
    total, work = 0.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for text, begins in _chunks(bare_texts, space.max_length + edits):
            walk = _Walk(space, text, begins, edits)
            total += walk.count(_MOST_WORK - work)
            work += walk.work
    if work > _MOST_WORK or not total < space.size:  # also where more ways than a float holds gave no number
        return space.size
    return min(space.size, math.ceil(total if total < _EXACT else total * (1 + _ROUNDING)))


def _chunks(texts: Sequence[bytes], reach: int) -> Iterator[tuple[bytes, list[int]]]:
    """Texts joined to longer ones, with the places where a secret may begin: one of equal pieces of `reach` bytes."""
    seen: set[bytes] = set()
    chunk, begins = bytearray(), list[int]()
    for text in texts:
        for start in range(len(text)):
            piece = text[start : start + reach]
            if piece not in seen:
                seen.add(piece)
                begins.append(len(chunk) + start)
        chunk += text + bytes([_BETWEEN_TEXTS])
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk), begins
            chunk, begins = bytearray(), []
    if begins:
        yield bytes(chunk), begins


class _Walk:
    """One chunk of text beside the automaton, state after state: every edge leads to a lower one.

    A chunk ends between texts, which nothing crosses, so every place that is reached has a byte after it.
    """

    def __init__(self, space: SecretSpace, text: bytes, begins: Sequence[int], edits: int) -> None:
        self.work = 0
        self._space = space
        self._codes = np.frombuffer(text, dtype=np.uint8)
        start = np.zeros((edits + 1, len(text)))
        start[0, list(begins)] = 1.0
        self._ways: dict[int, _Ways] = {space.start: start}
        self._pending = [-space.start]

    def count(self, most_work: int) -> float:
        """Ways to spell a secret; it stops once it has taken more than `most_work`."""
        total = 0.0
        while self._pending and self.work <= most_work:
            state = -heapq.heappop(self._pending)
            ways = self._ways.pop(state)
            if self._space.accepts(state):
                total += float(ways.sum())
            if state != self._space.start:
                self._skip_text(ways)
            places = np.flatnonzero(ways.any(axis=0))
            if len(places):
                self._follow(state, ways[:, places], places)
        return total

    def _skip_text(self, ways: _Ways) -> None:
        """Leave out a byte of the text. Before the first byte of a secret that would only begin it elsewhere."""
        inside = self._codes[:-1] != _BETWEEN_TEXTS
        for before, after in pairwise(ways):
            after[1:] += before[:-1] * inside

    def _follow(self, state: int, ways: _Ways, places: NDArray[np.int64]) -> None:
        """Spell one more byte of the secret."""
        codes = self._codes[places]
        inside = codes != _BETWEEN_TEXTS
        following = places[inside] + 1
        for target, labels in self._targets(state).items():
            if target not in self._ways:
                self._ways[target] = np.zeros((len(ways), len(self._codes)))
                heapq.heappush(self._pending, -target)
            reached = self._ways[target]
            self.work += reached.size + ways.size
            if n_separators := len(labels) - len(written := labels.translate(None, SEPARATORS)):
                reached[:, places] += n_separators * ways
            is_written = np.zeros(256, dtype=np.bool_)
            is_written[list(written)] = True
            shared = is_written[codes]
            reached[:, places[shared] + 1] += ways[:, shared]
            if len(ways) > 1:
                reached[1:, following] += (ways[:-1] * (len(written) - shared))[:, inside]
                reached[1:, places] += len(written) * ways[:-1]

    def _targets(self, state: int) -> dict[int, bytearray]:
        """States that may follow, each with the bytes that lead there."""
        targets: dict[int, bytearray] = {}
        for byte, target in self._space.edges(state).items():
            targets.setdefault(target, bytearray()).append(byte)
        return targets
