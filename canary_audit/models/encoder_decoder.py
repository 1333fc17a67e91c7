"""Back-end for encoder-decoders (T5, BART, Marian): the decoder is scored, given a source text that is read once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from canary_audit.errors import ModelError
from canary_audit.models.interface import Children, FloatArray, IntArray
from canary_audit.models.passes import Chunk, ForwardPasses
from canary_audit.models.past import KeysAndValues, Level, Past, Source, passed, path_cache
from canary_audit.models.scoring import child_log_probs, context_tokens, prompt_ids, require_room


class EncoderDecoderModel:
    """An encoder-decoder as a `LanguageModel` of its output, given `context`; its state is a `Past` with a source.

    The decoder starts from the network's `decoder_start_token_id`; the prompt follows, and may be empty.

    Args:
        network: in evaluation mode, in any precision; read, never changed, so it may go on training afterwards.
        context: tokens of the source text, its end-of-sequence token included if the network was trained with one.
        batch_rows: rows of one forward pass, at most. It decides the shapes of the products, and so the last bits.

    Raises:
        ModelError: there is no context, or the network names no token to start from.
    """

    def __init__(self, network: PreTrainedModel, *, context: Sequence[int], batch_rows: int = 512) -> None:
        name = type(network).__name__
        if not context:
            raise ModelError(f"{name} writes from a source text: give the tokens of one as its context")
        start = network.config.decoder_start_token_id
        if start is None:
            raise ModelError(f"{name}: config.json has no decoder_start_token_id, the token its output starts from")
        self.network = network
        self.context = tuple(context)
        self.notices: list[str] = []
        self._start: int = start
        self._passes = ForwardPasses(batch_rows, self.notices)
        self._limit = context_tokens(network)

    @property
    def batch_rows(self) -> int:
        """Rows of one forward pass, at most; fewer than at first where memory ran out."""
        return self._passes.batch_rows

    @torch.inference_mode()
    def root(self, prompt: Sequence[int], children: Children) -> tuple[Past, FloatArray]:
        """See `LanguageModel.root`; raises `ModelError` for a prompt or a context longer than the network's."""
        input_ids = prompt_ids(self.network, [self._start, *prompt])
        require_room(input_ids.shape[1], self._limit)
        require_room(len(self.context), self._limit, "the source text reaches")
        encoded = self.network.get_encoder()(input_ids=prompt_ids(self.network, self.context)).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        log_probs = self._passes.run(1, children, lambda chunk: self._read(input_ids, encoded, cache, chunk))
        source = Source(encoded=encoded, layers=passed(cache.cross_attention_cache))
        return Past(prompt=passed(cache.self_attention_cache), source=source), log_probs

    @torch.inference_mode()
    def step(self, state: Past, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Past, FloatArray]:
        """See `LanguageModel.step`; raises `ModelError` past the end of the context."""
        require_room(state.n_tokens + 1, self._limit)
        source = state.source
        if source is None:
            raise ValueError("the state comes from another back-end: it holds no source text")
        level = Level(parents=parents)

        def read(chunk: Chunk) -> FloatArray:
            own = slice(chunk.start, chunk.stop)
            cache = EncoderDecoderCache(
                path_cache(state, parents[own], [False] * len(state.prompt), self.network.device),
                _shared_cache(source.layers, chunk.stop - chunk.start),
            )
            input_ids = torch.from_numpy(tokens[own]).to(self.network.device)[:, None]
            scores = self._read(input_ids, source.encoded, cache, chunk)
            level.write(chunk.start, passed(cache.self_attention_cache))
            return scores

        log_probs = self._passes.run(len(parents), children, read)
        return state.grown(level), log_probs

    def _read(self, input_ids: Tensor, encoded: Tensor, cache: EncoderDecoderCache, chunk: Chunk) -> FloatArray:
        """Read tokens of shape (n_rows, n_tokens) into `cache`; score the children of the last ones."""
        logits = self.network(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.expand(len(input_ids), -1, -1)),
            decoder_input_ids=input_ids,
            cache=cache,
            use_cache=True,
        ).logits
        return child_log_probs(logits[torch.from_numpy(chunk.asked).to(logits.device), -1], chunk)


def _shared_cache(layers: Sequence[KeysAndValues], n_rows: int) -> Cache:
    """The source's keys and values, seen from `n_rows` rows without a copy."""
    shared = Cache(layers=[DynamicLayer() for _ in layers])
    for layer, (keys, values) in zip(shared.layers, layers, strict=True):
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = (tensor.expand(n_rows, -1, -1, -1) for tensor in (keys, values))
    return shared
