"""The checks that every `LanguageModel` passes, whatever is behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel

TOLERANCE_NATS = 1e-4
"""Two ways to the same log-probability may differ by rounding in fp32, and by no more."""

_N_ROWS = 6


def check_model(model: LanguageModel, vocab_size: int, prompt: Sequence[int], seed: int) -> None:
    """Check that a back-end keeps the whole promise of `LanguageModel`.

    That is what `check_steps` checks, and that a prefix scores the same whether it is stepped through or read from the
    root. `prompt` leaves room for three more tokens; every token must have a probability above zero after it.

    Raises:
        ModelError: it does not; names the broken promise.
    """
    check_steps(model, vocab_size, prompt, seed)
    tokens = np.random.default_rng(seed).integers(vocab_size, size=3)
    state, _ = model.root(prompt, _nobody())
    for depth, token in enumerate(tokens, start=1):
        state, stepped = model.step(state, _ints(0), _ints(token), _everything(1, vocab_size))
        _, read = model.root([*prompt, *tokens[:depth].tolist()], _everything(1, vocab_size))
        _require_equal(stepped, read, "stepping through a prefix differs from reading it from the root")


def check_steps(model: LanguageModel, vocab_size: int, prompt: Sequence[int], seed: int) -> None:
    """Check one prompt's steps: shapes, normalization, and that rows neither mix nor depend on their order.

    This much also holds for a model that ignores its prompt, as a table does.

    Raises:
        ModelError: a promise is broken; names it.
    """
    rng = np.random.default_rng(seed)
    root, log_probs = model.root(prompt, _everything(1, vocab_size))
    _require_normalized(log_probs, 1, vocab_size)
    _require_shape(model.root(prompt, _nobody())[1], 0)

    first_tokens = rng.integers(vocab_size, size=_N_ROWS)
    everything = _everything(_N_ROWS, vocab_size)
    first, first_log_probs = model.step(root, np.zeros(_N_ROWS, dtype=np.int64), first_tokens, everything)
    _require_normalized(first_log_probs, _N_ROWS, vocab_size)

    parents = np.concatenate([[2, 2], rng.permutation(_N_ROWS)])
    tokens = rng.integers(vocab_size, size=len(parents))
    _, log_probs = model.step(first, parents, tokens, _everything(len(parents), vocab_size))
    _require_normalized(log_probs, len(parents), vocab_size)
    table = log_probs.reshape(len(parents), vocab_size)
    _check_single_rows(model, root, first_tokens[parents], tokens, table)
    _check_order(model, first, parents, tokens, table, rng)
    _check_sparse_children(model, first, parents, tokens, table)

    _, again = model.step(root, np.zeros(_N_ROWS, dtype=np.int64), first_tokens, everything)
    _require_equal(again, first_log_probs, "an older state changed when later steps were taken from it")


def _check_single_rows(
    model: LanguageModel, root: Any, first_tokens: IntArray, tokens: IntArray, table: FloatArray
) -> None:
    """Every row of a batch scores as it does alone."""
    for row, (first, second) in enumerate(zip(first_tokens, tokens, strict=True)):
        state, _ = model.step(root, _ints(0), _ints(first), _nobody())
        _, alone = model.step(state, _ints(0), _ints(second), _everything(1, table.shape[1]))
        _require_equal(alone, table[row], "a row of a batch scores differently from the same prefix alone")


def _check_order(
    model: LanguageModel, state: Any, parents: IntArray, tokens: IntArray, table: FloatArray, rng: np.random.Generator
) -> None:
    """Permuting the rows permutes the results."""
    order = rng.permutation(len(parents))
    _, permuted = model.step(state, parents[order], tokens[order], _everything(*table.shape))
    _require_equal(permuted, table[order].ravel(), "the order of the rows changes their scores")


def _check_sparse_children(
    model: LanguageModel, state: Any, parents: IntArray, tokens: IntArray, table: FloatArray
) -> None:
    """Few children, repeated ones, rows without any, and none at all; the rows without keep a state all the same."""
    children = Children(rows=_ints(1, 1, 1, 4), tokens=_ints(5, 3, 3, 0))
    sparse, log_probs = model.step(state, parents, tokens, children)
    _require_equal(log_probs, table[children.rows, children.tokens], "asking for fewer children changes their scores")
    nobody, log_probs = model.step(state, parents, tokens, _nobody())
    _require_shape(log_probs, 0)
    everything = _everything(1, table.shape[1])
    scores = [model.step(after, _ints(0), _ints(1), everything)[1] for after in (sparse, nobody)]
    _require_equal(scores[0], scores[1], "the state of a row depends on the children that were asked for")


def _everything(n_rows: int, vocab_size: int) -> Children:
    """All tokens of all rows."""
    return Children(
        rows=np.repeat(np.arange(n_rows), vocab_size),
        tokens=np.tile(np.arange(vocab_size), n_rows),
    )


def _nobody() -> Children:
    return Children(rows=_ints(), tokens=_ints())


def _ints(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def _require_shape(log_probs: FloatArray, n_children: int) -> None:
    if log_probs.dtype != np.float64 or log_probs.shape != (n_children,):
        raise ModelError(
            f"{n_children} children were asked for, and {log_probs.dtype} of shape {log_probs.shape} came back; "
            f"float64 of shape ({n_children},) is promised"
        )


def _require_normalized(log_probs: FloatArray, n_rows: int, vocab_size: int) -> None:
    _require_shape(log_probs, n_rows * vocab_size)
    totals = np.exp(log_probs.reshape(n_rows, vocab_size)).sum(axis=1)
    worst = totals[np.abs(totals - 1).argmax()]
    if not abs(worst - 1) <= 1e-4:
        raise ModelError(f"the probabilities of all tokens sum to {worst:.6f} instead of 1")


def _require_equal(one: FloatArray, other: FloatArray, broken: str) -> None:
    _require_shape(one, len(other))
    worst = float(np.abs(one - other).max())
    if not worst <= TOLERANCE_NATS:
        raise ModelError(f"{broken} (by up to {worst:.2g} nats)")
