"""Has a served model learned its language? Held-out rows are scored whole, where the endpoint does that."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from canary_audit.config import DataConfig
from canary_audit.data.sources import read_documents
from canary_audit.endpoints.dialect import Dialect, Request
from canary_audit.endpoints.offers import Offer
from canary_audit.endpoints.served import Asker
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.models.token_scores import text_tokens
from canary_audit.models.tokenizer import document_start
from canary_audit.results import LanguageCheck, NotAvailable
from canary_audit.training.evaluate import language_check, unigram_bits_per_char
from canary_audit.training.stream import TokenRows
from canary_audit.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_ROW_TOKENS = 64
"""Enough to tell a model that knows its language from one that knows token frequencies, and cheap to send."""


def served_language(
    asker: Asker,
    offer: Offer,
    tokenizer: "PreTrainedTokenizerFast | None",
    validation: Path | None,
    *,
    n_rows: int,
) -> LanguageCheck:
    """Loss on `n_rows` rows of held-out text, spread evenly over it, against its own token frequencies.

    Raises:
        EndpointError: the endpoint fails.
        BudgetSpentError: the budget does not cover it.
    """
    if validation is None:
        return _unknown("no held-out text was given (--validation)")
    if not n_rows:
        return _unknown("no held-out rows were asked for ([endpoint] held_out_rows)")
    if tokenizer is None or offer.tier in {"top-k", "text-only"}:
        return _unknown(f"an endpoint of tier {offer.tier} does not score whole texts")
    rows = _rows(read_documents(validation, DataConfig(source=validation.name)), tokenizer)
    requests = list(islice(_askable(offer.dialect, rows), n_rows))
    if not requests:
        return _unknown("the endpoint scores no document of the held-out text")
    scores = asker.ask([request for _, request in requests])
    scored = [row for row, _ in requests]
    vocabulary = vocabulary_of(tokenizer)
    n_chars = max(1, sum(len(_text(vocabulary, row)) for row in scored))
    return language_check(
        -sum(float(row.sum()) for row in scores) / math.log(2) / n_chars,
        unigram_bits_per_char(_table(rows), _table(scored), n_chars=n_chars, vocab_size=len(tokenizer)),
    )


def _rows(documents: Iterable[str], tokenizer: "PreTrainedTokenizerFast") -> list[list[int]]:
    """Beginnings of documents, each behind the token that stands before a document; those of a token or none are left
    out."""
    start = document_start(tokenizer)
    lead = [] if start is None else [start]
    most = min(_ROW_TOKENS, int(tokenizer.model_max_length) - 1)
    rows = [[*lead, *tokens[:most]] for tokens in text_tokens(tokenizer, list(documents))]
    return [row for row in rows if len(row) > 1]


def _askable(dialect: Dialect, rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Request[FloatArray]]]:
    """Rows that the endpoint can score, drawn from all over the text; some servers refuse parts of characters."""
    for place in np.random.default_rng(0).permutation(len(rows)):
        try:
            request = dialect.score(rows[place], 1)
        except EndpointError:
            continue
        yield rows[place], request


def _table(rows: Sequence[list[int]]) -> TokenRows:
    """Rows of unlike length as one table."""
    lengths = np.array([len(row) - 1 for row in rows], dtype=np.int32)
    tokens = np.zeros((len(rows), int(lengths.max()) + 1), dtype=np.uint32)
    for cells, row in zip(tokens, rows, strict=True):
        cells[: len(row)] = row
    return TokenRows(tokens=tokens, lengths=lengths)


def _text(vocabulary: Vocabulary, row: Sequence[int]) -> str:
    """What the predicted tokens spell; a character cut off at the end does not count."""
    return b"".join(map(vocabulary.spelled, row[1:])).decode(errors="ignore")


def _unknown(why: str) -> LanguageCheck:
    unknown = NotAvailable(not_available=why)
    return language_check(unknown, unknown)
