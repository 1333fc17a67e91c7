"""What a simulated server serves: next-token log-probabilities and a vocabulary, whatever computes them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from canary_audit.models.interface import FloatArray
from canary_audit.models.table import TableModel
from canary_audit.vocabulary import ByteVocabulary, Vocabulary, vocabulary_of

Rows = Callable[[tuple[int, ...]], FloatArray]
"""Tokens -> log-probabilities of what follows each of their prefixes, shape (n_tokens, vocab_size), nats."""

_MEMO_NUMBERS = 1 << 23
_PRINTABLE = np.arange(32, 127)


class SimulatedModel:
    """A model as a server sees it: tokens in, log-distributions out; remembers what it was asked lately.

    `text_start` are the tokens a server puts before a text (not before token ids); `end` is the token that ends a text.
    One that `remembers` nothing may answer the same question twice with different numbers.
    """

    def __init__(
        self,
        rows: Rows,
        vocabulary: Vocabulary,
        *,
        text_start: Sequence[int] = (),
        end: int | None = None,
        context_tokens: int = 100_000,
        remembers: bool = True,
    ) -> None:
        self.rows = rows
        self.vocabulary = vocabulary
        self.text_start = tuple(text_start)
        self.end = end
        self.context_tokens = context_tokens
        self.remembers = remembers
        self.n_asked = 0
        """Token lists that were computed, not remembered."""
        self._memo: OrderedDict[tuple[int, ...], FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def vocab_size(self) -> int:
        return self.vocabulary.size

    def all_log_probs(self, tokens: Sequence[int]) -> FloatArray:
        """What follows each prefix of `tokens`: row i belongs to `tokens[: i + 1]`; shape (n_tokens, vocab_size)."""
        key = tuple(tokens)
        with self._lock:
            if not self.remembers:
                return self.rows(key)
            if key not in self._memo:
                self._memo[key] = self.rows(key)
                self.n_asked += 1
                while len(self._memo) > 1 and len(self._memo) * len(key) * self.vocab_size > _MEMO_NUMBERS:
                    self._memo.popitem(last=False)
            self._memo.move_to_end(key)
            return self._memo[key]

    def next_log_probs(self, tokens: Sequence[int]) -> FloatArray:
        """What follows `tokens`, shape (vocab_size,)."""
        return self.all_log_probs(tokens)[-1]

    def changed(self, rows: Rows, *, remembers: bool = True) -> "SimulatedModel":
        """The same tokens with other numbers."""
        return SimulatedModel(
            rows,
            self.vocabulary,
            text_start=self.text_start,
            end=self.end,
            context_tokens=self.context_tokens,
            remembers=remembers,
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of a text as a server reads it."""
        return [*self.text_start, *self.vocabulary.encode(text.encode())]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; what is not UTF-8 is replaced, as servers do."""
        return b"".join(map(self.vocabulary.spelled, tokens)).decode("utf-8", errors="replace")


class TwoModels(SimulatedModel):
    """A server that scores what it reads with one model, and what it writes with another."""

    def __init__(self, *, read: SimulatedModel, written: SimulatedModel) -> None:
        super().__init__(
            read.rows, read.vocabulary, text_start=read.text_start, end=read.end, context_tokens=read.context_tokens
        )
        self._written = written

    def next_log_probs(self, tokens: Sequence[int]) -> FloatArray:
        return self._written.next_log_probs(tokens)


def table_model(table: TableModel) -> SimulatedModel:
    """A table over bytes, served.

    A token that a state rules out leads back to the start state: the table then stands behind any prompt that ends so.
    """

    def rows(tokens: tuple[int, ...]) -> FloatArray:
        states, state = [], table.start
        for token in tokens:
            possible = table.log_probs[state, token] > -np.inf
            state = int(table.transitions[state, token]) if possible else table.start
            states.append(state)
        return table.log_probs[states]

    return SimulatedModel(rows, ByteVocabulary())


def folder_model(folder: Path, *, double: bool = True) -> SimulatedModel:
    """A causal model from a folder, served: one full forward pass for each token list, in fp64 unless told."""
    from canary_audit.models.load import load_model

    loaded = load_model(folder)
    return network_model(loaded.network.double() if double else loaded.network, loaded.tokenizer)


def network_model(network, tokenizer) -> SimulatedModel:
    """A causal network and its tokenizer, served."""
    import torch

    def rows(tokens: tuple[int, ...]) -> FloatArray:
        with torch.inference_mode():
            logits = network(torch.tensor([tokens])).logits[0].double()
            return torch.log_softmax(logits, dim=-1).numpy()

    return SimulatedModel(
        rows,
        vocabulary_of(tokenizer),
        text_start=tokenizer("")["input_ids"],
        end=tokenizer.eos_token_id,
        context_tokens=min(tokenizer.model_max_length, 100_000),
    )


def prose_table(rng: np.random.Generator, *, spread: float = 1.0) -> TableModel:
    """A table in which every byte can follow every other, printable ones far likelier: no log-probability is -inf.

    The state is the last byte. `spread` is the standard deviation of the logits, in nats.
    """
    logits = rng.normal(0.0, spread, (256, 256))
    logits[:, _PRINTABLE] += 12.0
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return TableModel(log_probs, np.tile(np.arange(256), (256, 1)))
