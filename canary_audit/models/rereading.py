"""Back-end for any causal network: a prefix is its tokens, and every step reads them again from the start.

Slow, and right whatever the network remembers. It serves architectures whose memory prefixes cannot share (state-space
and linear-attention models, hybrids), and it is the oracle that `transformer.py` is tested against.
"""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.passes import Chunk, ForwardPasses
from canary_audit.models.scoring import child_log_probs, context_tokens, prompt_ids, require_room


class RereadingModel:
    """A causal network as a `LanguageModel`; its state is an array of tokens, shape (n_rows, n_tokens).

    Rows of a step are equally long, so nothing is padded. Rows that are asked about no children are not read.

    Args:
        network: in evaluation mode, in any precision; read, never changed, so it may go on training afterwards.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.
        reason: why the network is read this way, for `notices`.
    """

    def __init__(self, network: PreTrainedModel, *, batch_rows: int = 512, reason: str | None = None) -> None:
        self.network = network
        self.notices = [f"every prefix is read again from its start, which is slow: {reason}"] if reason else []
        self._passes = ForwardPasses(batch_rows, self.notices)
        self._limit = context_tokens(network)
        accepted = inspect.signature(network.forward).parameters
        self._options = {"use_cache": False, "logits_to_keep": 1}
        self._options = {name: value for name, value in self._options.items() if name in accepted}

    @property
    def batch_rows(self) -> int:
        """Rows of one forward pass, at most; fewer than at first where memory ran out."""
        return self._passes.batch_rows

    def root(self, prompt: Sequence[int], children: Children) -> tuple[IntArray, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for an empty prompt, or one longer than the context."""
        state = prompt_ids(self.network, prompt).cpu().numpy()
        return state, self._score(state, children)

    def step(
        self, state: IntArray, parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[IntArray, FloatArray]:
        """See `LanguageModel.step`; raises `ModelError` past the end of the context."""
        extended = np.column_stack([state[parents], tokens])
        return extended, self._score(extended, children)

    @torch.inference_mode()
    def _score(self, sequences: IntArray, children: Children) -> FloatArray:
        require_room(sequences.shape[1], self._limit)

        def read(chunk: Chunk) -> FloatArray:
            if not len(chunk.asked):
                return np.empty(0)
            rows = torch.from_numpy(sequences[chunk.start : chunk.stop][chunk.asked]).to(self.network.device)
            return child_log_probs(self.network(input_ids=rows, **self._options).logits[:, -1], chunk)

        return self._passes.run(len(sequences), children, read)
