"""Has the model learned its language? Loss on held-out text, against what token frequencies alone would give."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from canary_audit.results import LanguageCheck, Maybe
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.stream import TokenRows, pack_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_TOKENS_PER_BATCH = 4_096
"""With a vocabulary of 50,000 their logits are 0.8 GB."""

LEARNED_SHARE = 0.9
"""A model has learned its language if its loss is below this share of the baseline's.

On the quickstart's data an untrained network stands at 1.17 (it is near the uniform distribution), one that knows token
frequencies only at 1, the LSTM at 0.99 after 40 steps, at 0.66 after one epoch and at 0.49 after eight.
"""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Validation text, tokenized."""

    rows: TokenRows
    n_chars: int

    @classmethod
    def of(cls, documents: Iterable[str], tokenizer: "PreTrainedTokenizerFast", context_tokens: int) -> "HeldOut":
        """Tokenize documents."""
        texts = list(documents)
        return cls(rows=pack_documents(texts, tokenizer, context_tokens), n_chars=sum(map(len, texts)))

    def check(self, network: torch.nn.Module, training: TokenRows, vocab_size: int) -> LanguageCheck:
        """Has the network learned the language of this text?"""
        return language_check(
            validation_bits_per_char(network, self.rows, self.n_chars),
            unigram_bits_per_char(training, self.rows, n_chars=self.n_chars, vocab_size=vocab_size),
        )


def validation_bits_per_char(network: torch.nn.Module, rows: TokenRows, n_chars: int) -> float:
    """Bits the network spends on held-out rows, a character of their text; the tokens between documents are paid for
    too.

    The network's mode is left as it was. Rows are scored in batches of one fixed shape, so the value repeats exactly.
    """
    was_training = network.training
    device = next(network.parameters()).device
    network.eval()
    nats = 0.0
    n_rows = max(1, _TOKENS_PER_BATCH // rows.context_tokens)
    with torch.inference_mode():
        for start in range(0, rows.n_rows, n_rows):
            batch = batch_of(rows, slice(start, start + n_rows), device)
            nats += row_losses_nats(network, *batch).double().sum().item()
    network.train(was_training)
    return nats / math.log(2) / n_chars


def unigram_bits_per_char(training: TokenRows, validation: TokenRows, *, n_chars: int, vocab_size: int) -> float:
    """Bits a character of the held-out rows under the training rows' token frequencies, with add-one smoothing."""
    counts = _token_counts(training, vocab_size) + 1
    bits = -np.log2(counts / counts.sum())
    return float(_token_counts(validation, vocab_size) @ bits) / n_chars


def language_check(validation_bits: Maybe, baseline_bits: Maybe) -> LanguageCheck:
    """Compare the two, in bits per character; a model that could not be measured counts as not having learned."""
    learned = (
        isinstance(validation_bits, float)
        and isinstance(baseline_bits, float)
        and validation_bits < LEARNED_SHARE * baseline_bits
    )
    return LanguageCheck(
        validation_bits_per_char=validation_bits, baseline_bits_per_char=baseline_bits, learned=learned
    )


def _token_counts(rows: TokenRows, vocab_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How often each token is predicted, shape (vocab_size,)."""
    predicted = np.arange(rows.context_tokens) < rows.lengths[:, None]
    return np.bincount(rows.tokens[:, 1:][predicted], minlength=vocab_size)
