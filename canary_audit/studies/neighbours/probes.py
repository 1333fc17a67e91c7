"""Which tokens of the training rows are asked about: secrets, what stands before them, and ordinary text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.canaries import Canary
from canary_audit.errors import DataError
from canary_audit.studies.language.hidden_states import HiddenStates
from canary_audit.studies.language.places import CanaryTokens, canary_tokens
from canary_audit.studies.language.runs import Planted
from canary_audit.studies.neighbours.datastore import MOST_STATES
from canary_audit.training.stream import TokenRows, pack_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IntArray = NDArray[np.int64]

_ORDINARY_TOKENS: Final = 1_000
_MOST_NUMBERS: Final = 1 << 27
"""Hidden states are held in half a gigabyte at most, while they are read."""


@dataclass(frozen=True, kw_only=True)
class CanaryProbe:
    """One canary's first copy in the rows: rows and columns of some of its tokens, each of shape (n,)."""

    canary: Canary
    secret: tuple[IntArray, IntArray]
    """Tokens that overlap the secret."""
    template: tuple[IntArray, IntArray]
    """Tokens before it, without the first of all, before which nothing was read."""


@dataclass(frozen=True, kw_only=True)
class ProbedRows:
    """Training rows as the model learned them, and where its canaries are."""

    rows: TokenRows
    first_canary_row: int
    """From there on, rows hold copies of canaries and nothing else."""
    canaries: tuple[CanaryProbe, ...]
    """Those that were inserted, in ledger order."""

    def chosen(self, width: int, seed: int) -> list[int]:
        """Rows for the datastore: all that hold canaries, and as many others as there is room for, at random."""
        room = min(MOST_STATES, _MOST_NUMBERS // width) - int(self.rows.lengths[self.first_canary_row :].sum())
        order = np.random.default_rng([seed, 4]).permutation(self.first_canary_row)
        fits = np.cumsum(self.rows.lengths[order], dtype=np.int64) <= room
        return [*sorted(order[fits].tolist()), *range(self.first_canary_row, self.rows.n_rows)]

    def ordinary(self, entries: HiddenStates, seed: int) -> IntArray:
        """Places of at most 1,000 entries that belong to no canary, at random."""
        places = np.flatnonzero(entries.rows < self.first_canary_row)
        return np.sort(np.random.default_rng([seed, 5]).permutation(places)[:_ORDINARY_TOKENS])


def probed_rows(planted: Planted, tokenizer: "PreTrainedTokenizerFast", context_tokens: int) -> ProbedRows:
    """Pack the documents as for training, and find the canaries in the rows.

    Raises:
        DataError: no canary was inserted.
    """
    texts = planted.canary_texts
    rows = pack_documents(planted.documents, tokenizer, context_tokens, alone=frozenset(texts.values()))
    found = {
        canary.id: canary_tokens(tokenizer, planted.ledger.group(canary.group), planted.secrets[canary.id])
        for canary in planted.ledger.canaries
    }
    lengths = {texts[name]: len(canary.tokens) + 1 for name, canary in found.items()}  # an end token stands behind
    copies = [document for document in planted.documents if document in lengths]
    n_rows = [-(-lengths[text] // context_tokens) for text in copies]
    firsts = rows.n_rows - sum(n_rows) + np.cumsum([0, *n_rows])
    first_of = {text: int(first) for text, first in reversed(list(zip(copies, firsts, strict=False)))}
    probes = tuple(
        _probe(canary, found[canary.id], first_of[texts[canary.id]], context_tokens)
        for canary in planted.ledger.canaries
        if texts[canary.id] in first_of
    )
    if not probes:
        raise DataError("no canary is in the training data: give [[canaries]] levels of insertions")
    return ProbedRows(rows=rows, first_canary_row=int(firsts[0]), canaries=probes)


def places_of(entries: HiddenStates, tokens: tuple[IntArray, IntArray]) -> IntArray:
    """Places of entries, given rows and columns; all must be there, and rows ascend among the entries."""
    rows, columns = tokens
    places: IntArray = np.searchsorted(entries.rows, rows) + columns - 1
    return places


def _probe(canary: Canary, found: CanaryTokens, first_row: int, context_tokens: int) -> CanaryProbe:
    def cells(numbers: Sequence[int]) -> tuple[IntArray, IntArray]:
        rows, columns = np.divmod(np.array(numbers, dtype=np.int64), context_tokens)
        return first_row + rows, columns + 1

    template = [number for number in found.before if number]
    return CanaryProbe(canary=canary, secret=cells(found.secret), template=cells(template))
