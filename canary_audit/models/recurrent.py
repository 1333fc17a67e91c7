"""Back-end for the built-in LSTM: a prefix is its hidden and cell state."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.networks import LstmForCausalLM, LstmState
from canary_audit.models.scoring import Chunk, child_log_probs, chunks, prompt_chunk


class RecurrentModel:
    """An LSTM as a `LanguageModel`; its state is a pair of tensors of shape (n_layers, n_rows, hidden_size).

    Args:
        network: in evaluation mode; read, never changed, so it may go on training afterwards.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.
    """

    def __init__(self, network: LstmForCausalLM, *, batch_rows: int = 4096) -> None:
        self.network = network
        self.batch_rows = batch_rows

    @torch.inference_mode()
    def root(self, prompt: Sequence[int], children: Children) -> tuple[LstmState, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for an empty prompt."""
        input_ids, chunk = prompt_chunk(self.network, prompt, children)
        return self._read(input_ids, None, chunk)

    @torch.inference_mode()
    def step(
        self, state: LstmState, parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[LstmState, FloatArray]:
        """See `LanguageModel.step`."""
        device = self.network.device
        states, log_probs = [], []
        for chunk in chunks(len(parents), self.batch_rows, children):
            own = slice(chunk.start, chunk.stop)
            index = torch.from_numpy(parents[own]).to(device)
            before = (state[0].index_select(1, index), state[1].index_select(1, index))
            after, scores = self._read(torch.from_numpy(tokens[own]).to(device)[:, None], before, chunk)
            states.append(after)
            log_probs.append(scores)
        if len(states) == 1:
            return states[0], log_probs[0]
        hidden, cell = (torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        return (hidden, cell), np.concatenate(log_probs)

    def _read(self, input_ids: Tensor, before: LstmState | None, chunk: Chunk) -> tuple[LstmState, FloatArray]:
        outputs, after = self.network.read(input_ids, before)
        last = outputs[:, -1]
        if len(chunk.asked) < len(last):
            last = last.index_select(0, torch.from_numpy(chunk.asked).to(last.device))
        return after, child_log_probs(self.network.lm_head(last), chunk)
