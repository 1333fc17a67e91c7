"""Back-end for causal transformers: a prefix is a path in a tree of keys and values.

All rows of a batch have read equally many tokens, so there is no padding, no attention mask and no position ids, and
none of the errors that come with them.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.passes import Chunk, ForwardPasses
from canary_audit.models.past import Level, Past, passed, path_cache, prompt_cache
from canary_audit.models.scoring import child_log_probs, context_tokens, prompt_ids, require_room


class TransformerModel:
    """A causal transformer as a `LanguageModel`; its state is a `Past`.

    Args:
        network: in evaluation mode, in any precision; read, never changed, so it may go on training afterwards.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.

    Raises:
        ModelError: the network's past is not the keys and values of its tokens (see `why_not_keys_and_values`).
    """

    def __init__(self, network: PreTrainedModel, *, batch_rows: int = 512) -> None:
        reason = why_not_keys_and_values(network)
        if reason:
            raise ModelError(f"{type(network).__name__}: {reason}, so prefixes cannot share it")
        self.network = network
        self.notices: list[str] = []
        self._passes = ForwardPasses(batch_rows, self.notices)
        self._limit = context_tokens(network)
        self._sliding = DynamicCache(config=network.config).is_sliding

    @property
    def batch_rows(self) -> int:
        """Rows of one forward pass, at most; fewer than at first where memory ran out."""
        return self._passes.batch_rows

    @torch.inference_mode()
    def root(self, prompt: Sequence[int], children: Children) -> tuple[Past, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for an empty prompt, or one longer than the context."""
        input_ids = prompt_ids(self.network, prompt)
        require_room(len(prompt), self._limit)
        cache = prompt_cache(self._sliding)
        log_probs = self._passes.run(1, children, lambda chunk: self._read(input_ids, cache, chunk))
        return Past(prompt=passed(cache)), log_probs

    @torch.inference_mode()
    def step(self, state: Past, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Past, FloatArray]:
        """See `LanguageModel.step`; raises `ModelError` past the end of the context."""
        require_room(state.n_tokens + 1, self._limit)
        level = Level(parents=parents)

        def read(chunk: Chunk) -> FloatArray:
            own = slice(chunk.start, chunk.stop)
            cache = path_cache(state, parents[own], self._sliding, self.network.device)
            scores = self._read(torch.from_numpy(tokens[own]).to(self.network.device)[:, None], cache, chunk)
            level.write(chunk.start, passed(cache))
            return scores

        log_probs = self._passes.run(len(parents), children, read)
        return state.grown(level), log_probs

    def _read(self, input_ids: Tensor, cache: Cache, chunk: Chunk) -> FloatArray:
        """Read tokens of shape (n_rows, n_tokens) into `cache`; score the children of the last ones."""
        wanted = torch.zeros(input_ids.shape, dtype=torch.bool)
        wanted[torch.from_numpy(chunk.asked), -1] = True
        logits = self.network(
            input_ids=input_ids, cache=cache, use_cache=True, logits_to_keep=wanted.to(input_ids.device)
        ).logits
        if logits.ndim != 2 or len(logits) != len(chunk.asked):
            raise ModelError(f"{type(self.network).__name__} cannot give the logits of chosen rows alone")
        return child_log_probs(logits, chunk)


def why_not_keys_and_values(network: PreTrainedModel) -> str | None:
    """Why a causal network's past is more, or less, than the keys and values of every token; None if it is just that.

    A layer with a sliding window qualifies: its keys and values are kept beyond the window, where transformers masks
    them.
    """
    accepted = inspect.signature(network.forward).parameters
    if not {"cache", "logits_to_keep"} <= set(accepted):
        return "its forward pass takes no cache of keys and values"
    config = network.config.get_text_config(decoder=True)
    if getattr(config, "attention_chunk_size", None) is not None:
        return "its attention works in chunks"
    plain = {DynamicLayer, DynamicSlidingWindowLayer}
    other = {type(layer).__name__ for layer in DynamicCache(config=network.config).layers if type(layer) not in plain}
    if other:
        return f"its cache holds {', '.join(sorted(other))}, not just keys and values of tokens"
    return None
