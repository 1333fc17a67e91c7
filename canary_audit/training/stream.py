"""Documents in, rows of tokens out: what exactly reaches the loss.

A document is a start token, its own tokens and an end token. Where a tokenizer has one token for both, two documents
that meet in a row share it. A document that fits into a row is never cut, so a canary that is a document of its own is
always predicted whole and right after a boundary. Rows are filled greedily, in the order of the documents:

- one that fits goes to the open row with the least room that still holds it, or to a new row;
- a longer one starts in the open row with the most room and goes on in new rows. Each of those begins with the last
  token of the row before, so every token but a row's first start token is predicted exactly once.

Which row a document lands in therefore depends on the documents before it, and on nothing else.
"""

import hashlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import DataError, ModelError
from canary_audit.models.tokenizer import document_end, document_start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DOCUMENTS_PER_CALL = 512
_SMALL_VOCABULARY = 65_536


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Rows of equal width, padded on the right with end tokens."""

    tokens: NDArray[np.unsignedinteger[Any]]
    """Shape (n_rows, context_tokens + 1); column 0 is only read, the others are read and predicted."""
    lengths: NDArray[np.int32]
    """Predicted tokens of each row, shape (n_rows,); row i ends with column `lengths[i]`."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """Tokens that reach the loss in one epoch."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def context_tokens(self) -> int:
        """Most tokens a row predicts."""
        return int(self.tokens.shape[1]) - 1

    def select(self, rows: NDArray[np.int64]) -> "TokenRows":
        """The given rows, in the given order; a row may be taken repeatedly."""
        return TokenRows(tokens=self.tokens[rows], lengths=self.lengths[rows])

    def joined(self, other: "TokenRows") -> "TokenRows":
        """These rows followed by those of `other`, which must be as wide."""
        return TokenRows(
            tokens=np.concatenate([self.tokens, other.tokens]), lengths=np.concatenate([self.lengths, other.lengths])
        )

    def sha256(self) -> str:
        """Digest of all rows; the same on every platform."""
        found = hashlib.sha256(repr(self.tokens.shape).encode())
        found.update(self.tokens.astype("<u4").tobytes())
        found.update(self.lengths.astype("<u4").tobytes())
        return found.hexdigest()


def pack_documents(documents: Iterable[str], tokenizer: "PreTrainedTokenizerFast", context_tokens: int) -> TokenRows:
    """Tokenize documents and pack them into rows of `context_tokens` predicted tokens, as the module describes.

    Documents are read once, as a stream; only their tokens are kept, two bytes each for vocabularies up to 65,536.
    Text that spells a special token is tokenized as ordinary text. Documents without tokens are left out.

    Raises:
        DataError: there is no token to train on.
        ModelError: the tokenizer has no token that ends a document.
    """
    packer = _Packer(
        context_tokens, start_token(tokenizer), end_token(tokenizer), small=len(tokenizer) <= _SMALL_VOCABULARY
    )
    for tokens in _tokenized(documents, tokenizer):
        if tokens:
            packer.add(tokens)
    rows = packer.rows()
    if not rows.n_rows:
        raise DataError("the training data holds no text: every document is empty; check [data] source and text_field")
    return rows


def start_token(tokenizer: "PreTrainedTokenizerFast") -> int:
    """The token that stands before a document, or `ModelError`."""
    return _required(document_start(tokenizer))


def end_token(tokenizer: "PreTrainedTokenizerFast") -> int:
    """The token that stands after a document, or `ModelError`."""
    return _required(document_end(tokenizer))


def _required(token: int | None) -> int:
    if token is None:
        raise ModelError("the tokenizer has no end-of-text token; documents cannot be told apart without one")
    return token


def _tokenized(documents: Iterable[str], tokenizer: "PreTrainedTokenizerFast") -> Iterator[list[int]]:
    """Tokens of each document; batches keep the tokenizer's own threads busy and memory flat."""
    stream = iter(documents)
    while batch := list(islice(stream, _DOCUMENTS_PER_CALL)):
        encoded = tokenizer(
            batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        yield from encoded["input_ids"]


class _Packer:
    """Fills rows; every open row ends with an end token."""

    def __init__(self, context_tokens: int, start: int, end: int, *, small: bool) -> None:
        self._width = context_tokens + 1
        self._start = start
        self._end = end
        self._typecode = "H" if small else "I"
        self._cells = array(self._typecode)
        self._lengths: list[int] = []
        self._open: list[deque[int]] = [deque() for _ in range(self._width)]
        """Rows by the room they have left; the one that has waited longest comes first."""

    def add(self, tokens: Sequence[int]) -> None:
        """Place one document, cut at row ends only if no row could hold it."""
        predicted = array(self._typecode, [*tokens, self._end])
        context = self._width - 1
        fits = len(predicted) <= context
        if self._start != self._end:
            predicted.insert(0, self._start)  # an open row ends with the end token only
        rooms = range(len(predicted), context + 1) if fits else range(context, 0, -1)
        row = self._open_row(rooms)
        if row is None:
            row = self._new_row(self._start)
            predicted = predicted[self._start != self._end :]
        start = self._write(row, predicted[: context - self._lengths[row]])
        while start < len(predicted):
            row = self._new_row(predicted[start - 1])
            start += self._write(row, predicted[start : start + context])
        if room := context - self._lengths[row]:
            self._open[room].append(row)

    def rows(self) -> TokenRows:
        """All rows so far."""
        cells = np.frombuffer(self._cells, dtype=np.dtype(self._typecode)) if self._cells else np.empty(0, np.uint16)
        return TokenRows(tokens=cells.reshape(-1, self._width).copy(), lengths=np.array(self._lengths, dtype=np.int32))

    def _open_row(self, rooms: Iterable[int]) -> int | None:
        """An open row with the first of `rooms` that any has."""
        for room in rooms:
            if self._open[room]:
                return self._open[room].popleft()
        return None

    def _new_row(self, first: int) -> int:
        self._cells.extend([first] + [self._end] * (self._width - 1))
        self._lengths.append(0)
        return len(self._lengths) - 1

    def _write(self, row: int, tokens: "array[int]") -> int:
        begin = row * self._width + 1 + self._lengths[row]
        self._cells[begin : begin + len(tokens)] = tokens
        self._lengths[row] += len(tokens)
        return len(tokens)
