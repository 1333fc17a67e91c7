"""Documents in, rows of tokens out: what exactly reaches the loss.

A document is a start token, its own tokens and an end token. Where a tokenizer has one token for both, two documents
that meet in a row share it. A document that fits into a row is never cut, so a canary that is a document of its own is
always predicted whole and right after a boundary. Rows are filled greedily, in the order of the documents:

- one that fits goes to the open row with the least room that still holds it, or to a new row;
- a longer one starts in the open row with the most room and goes on in new rows. Each of those begins with the last
  token of the row before, so every token but a row's first start token is predicted exactly once.

Which row a document lands in therefore depends on the documents before it, and on nothing else.

Differential privacy protects a unit, and no row may mix what two units hold. So a planted canary has rows of its own,
behind those of all other documents: one occurrence more or less is one row more or less, and changes no other. Where
the unit is a user, every user has one row, with as much of their text as it holds.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import DataError, ModelError
from canary_audit.models.tokenizer import document_end, document_start
from canary_audit.training.packing import FewRows, Packer, RowsByRoom, RowTable

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


def pack_documents(
    documents: Iterable[str],
    tokenizer: "PreTrainedTokenizerFast",
    context_tokens: int,
    *,
    alone: Set[str] = frozenset(),
) -> TokenRows:
    """Tokenize documents and pack them into rows of `context_tokens` predicted tokens, as the module describes.

    Documents are read once, as a stream; only their tokens are kept, two bytes each for vocabularies up to 65,536.
    Text that spells a special token is tokenized as ordinary text. Documents without tokens are left out.

    Args:
        alone: texts of canaries. A document that is one of them gets rows of its own (one, if it fits), behind those of
            all other documents and in the order of its occurrences.

    Raises:
        DataError: there is no token to train on.
        ModelError: the tokenizer has no token that ends a document.
    """
    table = _row_table(tokenizer, context_tokens)
    packer = Packer(table, RowsByRoom(context_tokens))
    canaries: list[str] = []
    for tokens in _tokenized(_set_aside(documents, alone, canaries), tokenizer):
        packer.add(tokens)
    for tokens in _tokenized(canaries, tokenizer):
        Packer(table, FewRows()).add(tokens)
    return _rows_of(table)


def pack_users(
    documents: Iterable[tuple[str, str | None]], tokenizer: "PreTrainedTokenizerFast", context_tokens: int
) -> TokenRows:
    """The same for pairs of a document and its user's name: one row for each user.

    A row holds as much of its user's documents, in their order, as finds room; the rest is left out. Leaving a user out
    therefore takes away one row, and changes no other. A document without a name is a user of its own, and so is each
    occurrence of a canary. Rows are in the order in which users first appear.

    Besides the rows, a few hundred bytes are held for each name, until all is read.

    Raises:
        DataError: there is no token to train on, or no document names a user.
        ModelError: the tokenizer has no token that ends a document.
    """
    table = _row_table(tokenizer, context_tokens)
    packers: dict[str, Packer] = {}
    names: deque[str | None] = deque()
    for tokens in _tokenized(_without_names(documents, names), tokenizer):
        name = names.popleft()
        packer = packers.get(name) if name is not None else None
        if packer is None:
            packer = Packer(table, FewRows(), most_rows=1)
            if tokens and name is not None:
                packers[name] = packer
        packer.add(tokens)
    if not packers:
        raise DataError("no record of the training data names its user: check [data] user_field")
    return _rows_of(table)


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


def _set_aside(documents: Iterable[str], alone: Set[str], aside: list[str]) -> Iterator[str]:
    """The documents but those in `alone`, which are appended to `aside`."""
    for document in documents:
        if document in alone:
            aside.append(document)
        else:
            yield document


def _without_names(documents: Iterable[tuple[str, str | None]], names: deque[str | None]) -> Iterator[str]:
    """The texts; the name of each is appended to `names` as its text is read."""
    for text, name in documents:
        names.append(name)
        yield text


def _tokenized(documents: Iterable[str], tokenizer: "PreTrainedTokenizerFast") -> Iterator[list[int]]:
    """Tokens of each document; batches keep the tokenizer's own threads busy and memory flat."""
    stream = iter(documents)
    while batch := list(islice(stream, _DOCUMENTS_PER_CALL)):
        encoded = tokenizer(
            batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )
        yield from encoded["input_ids"]


def _row_table(tokenizer: "PreTrainedTokenizerFast", context_tokens: int) -> RowTable:
    small = len(tokenizer) <= _SMALL_VOCABULARY
    return RowTable(context_tokens, start_token(tokenizer), end_token(tokenizer), small=small)


def _rows_of(table: RowTable) -> TokenRows:
    if not table.n_rows:
        raise DataError("the training data holds no text: every document is empty; check [data] source and text_field")
    tokens, lengths = table.arrays()
    return TokenRows(tokens=tokens, lengths=lengths)
