"""Back-end for transformers' causal models: a prefix is its key-value cache.

All rows of a batch have read equally many tokens, so there is no padding, no attention mask and no position ids, and
none of the errors that come with them.
"""

import copy
import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.scoring import Chunk, child_log_probs, chunks, prompt_chunk


class TransformerModel:
    """A causal transformer as a `LanguageModel`; its state is a `DynamicCache`, one row a prefix.

    Args:
        network: in evaluation mode; read, never changed, so it may go on training afterwards.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.

    Raises:
        ModelError: the network keeps a past that cannot be gathered by rows or loses a part of it.
    """

    def __init__(self, network: PreTrainedModel, *, batch_rows: int = 4096) -> None:
        _require_plain_cache(network)
        self.network = network
        self.batch_rows = batch_rows
        self._context_tokens: int | None = getattr(network.config, "max_position_embeddings", None)

    @torch.inference_mode()
    def root(self, prompt: Sequence[int], children: Children) -> tuple[DynamicCache, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for an empty prompt, or one longer than the context."""
        input_ids, chunk = prompt_chunk(self.network, prompt, children)
        cache = DynamicCache(config=self.network.config)
        log_probs = self._read(input_ids, cache, chunk)
        return cache, log_probs

    @torch.inference_mode()
    def step(
        self, state: DynamicCache, parents: IntArray, tokens: IntArray, children: Children
    ) -> tuple[DynamicCache, FloatArray]:
        """See `LanguageModel.step`; raises `ModelError` past the end of the context."""
        device = self.network.device
        caches, log_probs = [], []
        for chunk in chunks(len(parents), self.batch_rows, children):
            own = slice(chunk.start, chunk.stop)
            cache = _gather(state, torch.from_numpy(parents[own]).to(device))
            log_probs.append(self._read(torch.from_numpy(tokens[own]).to(device)[:, None], cache, chunk))
            caches.append(cache)
        return _concatenate(caches), np.concatenate(log_probs)

    def _read(self, input_ids: Tensor, cache: DynamicCache, chunk: Chunk) -> FloatArray:
        """Read tokens of shape (n_rows, n_tokens) into `cache`, which grows; score the children of the last ones."""
        n_tokens = cache.get_seq_length() + input_ids.shape[1]
        if self._context_tokens is not None and n_tokens > self._context_tokens:
            raise ModelError(
                f"prompt and secret reach {n_tokens} tokens, the model was built for {self._context_tokens}: "
                "use a shorter prefix or a model with a longer context"
            )
        wanted = torch.zeros(input_ids.shape, dtype=torch.bool)
        wanted[torch.from_numpy(chunk.asked), -1] = True
        logits = self.network(
            input_ids=input_ids, cache=cache, use_cache=True, logits_to_keep=wanted.to(input_ids.device)
        ).logits
        if logits.ndim != 2 or len(logits) != len(chunk.asked):
            raise ModelError(f"{type(self.network).__name__} cannot give the logits of chosen rows alone")
        return child_log_probs(logits, chunk)


def _require_plain_cache(network: PreTrainedModel) -> None:
    """Refuse a network whose past is more, or less, than the keys and values of every token."""
    name = type(network).__name__
    accepted = inspect.signature(network.forward).parameters
    if network.config.is_encoder_decoder or not {"cache", "logits_to_keep"} <= set(accepted):
        raise ModelError(f"{name} is not a causal language model with a key-value cache, and cannot be audited")
    layers = DynamicCache(config=network.config).layers
    other = sorted({type(layer).__name__ for layer in layers if type(layer) is not DynamicLayer})
    if other:
        raise ModelError(
            f"{name} cannot be audited: its cache holds {', '.join(other)}, which keeps a window or a recurrent state "
            "instead of every token's keys and values, so prefixes cannot share it"
        )


def _gather(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A cache of the rows `index` of `cache`, which stays as it is: its tensors are never written, only replaced."""
    gathered = copy.copy(cache)
    gathered.layers = [copy.copy(layer) for layer in cache.layers]
    gathered.reorder_cache(index)
    return gathered


def _concatenate(caches: list[DynamicCache]) -> DynamicCache:
    """One cache with the rows of all, in order; takes the caches over."""
    whole, *rest = caches
    if rest:
        for place, layer in enumerate(whole.layers):
            layer.keys = torch.cat([cache.layers[place].keys for cache in caches])
            layer.values = torch.cat([cache.layers[place].values for cache in caches])
    return whole
