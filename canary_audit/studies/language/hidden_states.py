"""What a network holds in mind before each token of its training rows: the input of its output projection.

Taken where it enters the projection, so one way serves the built-in recurrent network and every causal transformers
model. The logits of one batch are all that is ever held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canary_audit.errors import ModelError
from canary_audit.training.stream import TokenRows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS_PER_BATCH: Final = 4_096
_LOGITS_PER_BATCH: Final = 1 << 27
"""Half a gigabyte in fp32."""


@dataclass(frozen=True, kw_only=True)
class HiddenStates:
    """Predicted tokens of some rows, in order, with what the network held in mind; arrays of n_tokens entries."""

    states: NDArray[np.float32]
    """Input of the output projection from which the token was predicted, shape (n_tokens, width)."""
    tokens: NDArray[np.int64]
    """The token that came."""
    top: NDArray[np.int64]
    """The token that the network held likeliest."""
    rows: NDArray[np.int64]
    """Row of the token."""
    columns: NDArray[np.int64]
    """Its column, from 1."""

    def __len__(self) -> int:
        return len(self.tokens)


def hidden_states(network: "PreTrainedModel", rows: TokenRows, chosen: Sequence[int]) -> HiddenStates:
    """Read the chosen rows, which ascend, in evaluation mode; the network's mode is left as it was.

    Raises:
        ModelError: the network is no causal language model, or has no output projection of its own.
    """
    projection = network.get_output_embeddings()
    if network.config.is_encoder_decoder or projection is None:
        raise ModelError(f"{type(network).__name__} has no hidden state before each token of a row: use a causal model")
    caught: list[Tensor] = []
    hook = projection.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    was_training = network.training
    network.eval()
    parts: list[tuple[NDArray[Any], ...]] = []
    try:
        with torch.inference_mode():
            for batch in _batches(network, rows, chosen):
                caught.clear()
                parts.append(_read(network, rows, batch, caught))
    finally:
        hook.remove()
        network.train(was_training)
    states, tokens, top, own_rows, columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return HiddenStates(states=states, tokens=tokens, top=top, rows=own_rows, columns=columns)


def _batches(network: "PreTrainedModel", rows: TokenRows, chosen: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    vocab_size: int = network.config.get_text_config(decoder=True).vocab_size
    n_rows = max(1, min(_TOKENS_PER_BATCH, _LOGITS_PER_BATCH // vocab_size) // rows.context_tokens)
    for start in range(0, len(chosen), n_rows):
        yield np.asarray(chosen[start : start + n_rows], dtype=np.int64)


def _read(
    network: "PreTrainedModel", rows: TokenRows, batch: NDArray[np.int64], caught: list[Tensor]
) -> tuple[NDArray[Any], ...]:
    """States, tokens, likeliest tokens, rows and columns of one batch; rows are padded on the right, which no causal
    network sees from the left."""
    width = int(rows.lengths[batch].max())
    cells = rows.tokens[batch, : width + 1].astype(np.int64)
    logits = network(input_ids=torch.from_numpy(cells[:, :-1]).to(network.device)).logits
    is_real = np.arange(width) < rows.lengths[batch][:, None]
    top = logits.argmax(dim=-1).cpu().numpy()[is_real]
    states = caught[0].float().cpu().numpy()[is_real]
    places, columns = is_real.nonzero()
    return states, cells[:, 1:][is_real], top, batch[places], columns + 1
