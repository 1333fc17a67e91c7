"""Back-end for the built-in LSTM: a prefix is its hidden and cell state."""

from collections.abc import Sequence

import torch
from torch import Tensor

from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.networks import LstmForCausalLM, LstmState
from canary_audit.models.passes import Chunk, ForwardPasses
from canary_audit.models.scoring import child_log_probs, prompt_ids


class RecurrentModel:
    """An LSTM as a `LanguageModel`; its state is a pair of tensors of shape (n_layers, n_rows, hidden_size).

    Args:
        network: in evaluation mode; read, never changed, so it may go on training afterwards.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.
    """

    def __init__(self, network: LstmForCausalLM, *, batch_rows: int = 512) -> None:
        self.network = network
        self.notices: list[str] = []
        self._passes = ForwardPasses(batch_rows, self.notices)

    @property
    def batch_rows(self) -> int:
        """Rows of one forward pass, at most; fewer than at first where memory ran out."""
        return self._passes.batch_rows

    @torch.inference_mode()
    def root(self, prompt: Sequence[int], children: Children) -> tuple[LstmState, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for an empty prompt."""
        outputs, state = self.network.read(prompt_ids(self.network, prompt))
        return state, self._passes.run(1, children, lambda chunk: self._score(outputs, chunk))

    @torch.inference_mode()
    def step(
        self, state: LstmState, parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[LstmState, FloatArray]:
        """See `LanguageModel.step`."""
        device = self.network.device
        states: list[LstmState] = []

        def read(chunk: Chunk) -> FloatArray:
            own = slice(chunk.start, chunk.stop)
            index = torch.from_numpy(parents[own]).to(device)
            before = (state[0].index_select(1, index), state[1].index_select(1, index))
            outputs, after = self.network.read(torch.from_numpy(tokens[own]).to(device)[:, None], before)
            scores = self._score(outputs, chunk)
            states.append(after)
            return scores

        log_probs = self._passes.run(len(parents), children, read)
        if len(states) == 1:
            return states[0], log_probs
        hidden, cell = (torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        return (hidden, cell), log_probs

    def _score(self, outputs: Tensor, chunk: Chunk) -> FloatArray:
        last = outputs[:, -1]
        if len(chunk.asked) < len(last):
            last = last.index_select(0, torch.from_numpy(chunk.asked).to(last.device))
        return child_log_probs(self.network.lm_head(last), chunk)
