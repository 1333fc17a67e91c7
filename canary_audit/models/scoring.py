"""From logits to the log-probabilities of the tokens that were asked for; shared by the back-ends that run here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray

LARGEST_LOG_PROB_NATS = 1e-6
"""A log-probability may pass zero by rounding, and by no more."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows `start` to `stop` of a step, and the children of those rows."""

    start: int
    stop: int
    asked: IntArray
    """Rows with children, in order, counted from `start`: shape (n_asked,)."""
    places: IntArray
    """For each child, the index of its row in `asked`: shape (n_children,)."""
    tokens: IntArray
    """Token of each child: shape (n_children,)."""


def chunks(n_rows: int, batch_rows: int, children: Children) -> Iterator[Chunk]:
    """Cut a step of `n_rows` rows into forward passes of at most `batch_rows`.

    The children of the chunks, one chunk after the other, are `children` in their own order.

    Raises:
        ValueError: there are no rows, or the children are not ordered by row, or name rows or tokens that cannot exist.
    """
    rows = children.rows
    if n_rows < 1:
        raise ValueError("a step needs at least one row")
    if rows.shape != children.tokens.shape or (np.diff(rows) < 0).any():
        raise ValueError("children need one row and one token each, ordered by row")
    if len(rows) and (rows[0] < 0 or rows[-1] >= n_rows or children.tokens.min() < 0):
        raise ValueError(f"children outside the {n_rows} rows of the step, or with a negative token")
    for start in range(0, n_rows, batch_rows):
        stop = min(start + batch_rows, n_rows)
        first, last = np.searchsorted(rows, [start, stop])
        own = rows[first:last] - start
        is_new = np.diff(own, prepend=-1) > 0
        yield Chunk(
            start=start,
            stop=stop,
            asked=own[is_new],
            places=np.cumsum(is_new) - 1,
            tokens=children.tokens[first:last],
        )


def prompt_chunk(network: PreTrainedModel, prompt: Sequence[int], children: Children) -> tuple[Tensor, Chunk]:
    """The prompt's tokens, shape (1, n_tokens), on the network's device, and the one chunk that reads them.

    Raises:
        ModelError: the prompt is empty, or the network is in training mode.
    """
    if not prompt:
        raise ModelError("the prompt is empty: the model needs at least one token, such as the one before a document")
    if network.training:
        raise ModelError("the network is in training mode, where dropout makes its scores random: call eval() first")
    (chunk,) = chunks(1, 1, children)
    return torch.tensor([list(prompt)], device=network.device), chunk


def child_log_probs(logits: Tensor, chunk: Chunk) -> FloatArray:
    """Log-probabilities in nats, float64, of the chunk's children; `logits` is overwritten.

    `logits` has shape (n_asked, vocab_size). The sum over the vocabulary is taken in fp32, with the largest logit of
    each row moved to zero, in place: at 4,096 rows and 50,000 tokens a copy would be 800 MB.

    Raises:
        ModelError: a value cannot be a log-probability.
    """
    if not len(chunk.tokens):
        return np.empty(0)
    scores = logits.float()
    scores -= scores.amax(dim=-1, keepdim=True)
    places = torch.from_numpy(chunk.places).to(scores.device)
    asked = scores[places, torch.from_numpy(chunk.tokens).to(scores.device)]
    totals = scores.exp_().sum(dim=-1)
    log_probs: FloatArray = asked.cpu().double().numpy() - np.log(totals.cpu().double().numpy())[chunk.places]
    check_log_probs(log_probs)
    return log_probs


def check_log_probs(log_probs: FloatArray) -> None:
    """Refuse numbers that no trained model can give.

    Raises:
        ModelError: a value is not a number, infinite, or above zero by more than rounding; says how many are.
    """
    faults = {
        "not a number (the logits hold NaN or +infinity)": np.isnan(log_probs),
        "minus infinity (the model rules the token out)": np.isneginf(log_probs),
        f"above {LARGEST_LOG_PROB_NATS:g} nats (a probability above one)": log_probs > LARGEST_LOG_PROB_NATS,
    }
    for fault, wrong in faults.items():
        if wrong.any():
            raise ModelError(
                f"{int(wrong.sum())} of {len(log_probs)} log-probabilities are {fault}; "
                "the model is damaged or overflows, and cannot be audited"
            )
