"""Which back-end serves a network, and why."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from canary_audit.errors import ModelError
from canary_audit.models.encoder_decoder import EncoderDecoderModel
from canary_audit.models.interface import Children, FloatArray, LanguageModel
from canary_audit.models.memory import rows_for_memory
from canary_audit.models.networks import LstmForCausalLM
from canary_audit.models.recurrent import RecurrentModel
from canary_audit.models.rereading import RereadingModel
from canary_audit.models.transformer import TransformerModel, why_not_keys_and_values

_ORDINARY_TOKENS = 64
"""Of prompt and secret together."""

_TRIAL_TOLERANCE_NATS = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Two orders of the same sums differ by less in these precisions; a mixed-up row or position, by more."""
_TRIAL_TOLERANCE_HALF_NATS = 1.0

_TRIAL_ERRORS = (ModelError, RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError)
"""What a network raises that takes other arguments than those it names."""


class BackEnd(LanguageModel, Protocol):
    """A `LanguageModel` that runs here."""

    notices: list[str]
    """What a report should say about how the network was read; grows when memory runs out."""

    @property
    def network(self) -> PreTrainedModel: ...

    @property
    def batch_rows(self) -> int: ...


def language_model(
    network: PreTrainedModel, *, batch_rows: int | None = None, context: Sequence[int] | None = None
) -> BackEnd:
    """The back-end for a network.

    The built-in LSTM has its own. A transformer that remembers keys and values is read through a tree of them, after a
    trial on a few tokens shows that this agrees with reading from the start; any other causal network is read from the
    start at every step, and `notices` says why. (No trial in training mode: dropout would make both sides random.)

    Args:
        batch_rows: rows of one forward pass, at most; None for as many as free memory allows behind a prompt of
            ordinary length.
        context: source text of an encoder-decoder, as tokens.

    Raises:
        ModelError: an encoder-decoder without a context, or a context for another network.
    """
    if batch_rows is None:
        batch_rows = rows_for_memory(network, _ORDINARY_TOKENS)
    if network.config.is_encoder_decoder:
        return EncoderDecoderModel(network, context=context or (), batch_rows=batch_rows)
    if context is not None:
        raise ModelError(f"{type(network).__name__} has no encoder: a context is for encoder-decoders only")
    if isinstance(network, LstmForCausalLM):
        return RecurrentModel(network, batch_rows=batch_rows)
    reason = why_not_keys_and_values(network)
    if reason is None:
        model = TransformerModel(network, batch_rows=batch_rows)
        reason = None if network.training else _why_trial_fails(model)
        if reason is None:
            return model
    return RereadingModel(network, batch_rows=batch_rows, reason=f"{type(network).__name__}: {reason}")


def _why_trial_fails(model: TransformerModel) -> str | None:
    """Score two steps through the tree and from the start; why the tree cannot be trusted, None if it can."""
    network = model.network
    expected = _trial(RereadingModel(network))
    try:
        found = _trial(model)
    except _TRIAL_ERRORS as error:
        return f"its cache of keys and values cannot be used ({type(error).__name__})"
    worst = np.abs(found - expected).max()
    if worst <= _TRIAL_TOLERANCE_NATS.get(network.dtype, _TRIAL_TOLERANCE_HALF_NATS):
        return None
    return f"through its cache of keys and values, scores differ by {worst:.2g} nats from those without"


def _trial(model: LanguageModel) -> FloatArray:
    def children(n_rows: int) -> Children:
        return Children(rows=np.arange(1, n_rows), tokens=np.arange(1, n_rows))

    state: Any
    state, _ = model.root([0, 1, 2], children(1))
    state, first = model.step(state, np.array([0, 0, 0]), np.array([1, 2, 3]), children(3))
    _, second = model.step(state, np.array([2, 0, 2, 1]), np.array([3, 2, 1, 0]), children(4))
    return np.concatenate([first, second])
