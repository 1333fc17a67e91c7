"""The two networks this package can train itself: a recurrent one and a small Llama.

Both are transformers models, so one training loop, one file format and one loader serve them and any other causal
language model.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from canary_audit.config import ModelConfig
from canary_audit.errors import ConfigError

LstmState = tuple[Tensor, Tensor]
"""Hidden and cell state, each of shape (n_layers, n_rows, hidden_size)."""


class LstmConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is untyped to mypy
    """Size of an `LstmForCausalLM`; `dropout` acts on the recurrent outputs, in training only."""

    model_type: ClassVar[str] = "canary-audit-lstm"

    vocab_size: int = 512
    hidden_size: int = 128
    num_hidden_layers: int = 1
    dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | None = 0
    tie_word_embeddings: bool = False


class LstmForCausalLM(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped to mypy
    """Embedding, LSTM, dropout, output projection."""

    config_class = LstmConfig
    base_model_prefix = ""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.lstm = nn.LSTM(size, size, config.num_hidden_layers, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.lm_head = nn.Linear(size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # torch's own initialization. Small embeddings, orthogonal recurrence and an open forget gate were tried:
        # each ended within 0.07 bits per character of it, and above.
        if isinstance(module, nn.Embedding | nn.LSTM | nn.Linear):
            module.reset_parameters()

    def read(self, input_ids: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """Read tokens of shape (n_rows, n_tokens) from `state` (zeros if None).

        Returns the outputs after each token, shape (n_rows, n_tokens, hidden_size), before dropout and projection, and
        the state after the last.
        """
        outputs, after = self.lstm(self.embed_tokens(input_ids), state)
        return outputs, after

    def forward(self, input_ids: Tensor) -> CausalLMOutput:
        """Logits of the token after each token: (n_rows, n_tokens) -> `.logits` of (n_rows, n_tokens, vocab_size)."""
        outputs, _ = self.read(input_ids)
        return CausalLMOutput(logits=self.lm_head(self.dropout(outputs)))


AutoConfig.register(LstmConfig.model_type, LstmConfig)
AutoModelForCausalLM.register(LstmConfig, LstmForCausalLM)


def build_network(config: ModelConfig, vocab_size: int, dropout: float, seed: int) -> PreTrainedModel:
    """A freshly initialized network in fp32, on the CPU, whose weights are a function of the seed alone.

    `vocab_size` is that of the trained tokenizer, which may have fewer entries than `config.vocab_size`. `dropout` acts
    on the outputs of the LSTM, and on the attention weights of the Llama, which has no other. The global random state
    stays as it was.

    Raises:
        ConfigError: the Llama's hidden size cannot be split into that many heads.
    """
    if config.kind == "llama" and config.hidden_size % (2 * config.heads):
        raise ConfigError(
            f"[model] hidden_size {config.hidden_size} with {config.heads} heads: a head needs an even number of "
            "dimensions; choose a hidden_size that is a multiple of twice the heads"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.kind == "lstm":
            return LstmForCausalLM(_lstm_config(config, vocab_size, dropout))
        return LlamaForCausalLM(_llama_config(config, vocab_size, dropout))


def _lstm_config(config: ModelConfig, vocab_size: int, dropout: float) -> LstmConfig:
    return LstmConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        dropout=dropout,
    )


def _llama_config(config: ModelConfig, vocab_size: int, dropout: float) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=_gated_size(config.hidden_size),
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.context_tokens,
        attention_dropout=dropout,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,  # a padding id would freeze the embedding of <|endoftext|> at zero
        tie_word_embeddings=False,  # ghost clipping refuses tied weights, and a small vocabulary saves little by tying
        use_cache=False,
    )


def _gated_size(hidden_size: int) -> int:
    """8/3 of the hidden size, rounded up to a multiple of 8: a gated layer's three matrices then weigh as much as the
    two of a plain layer of four times the hidden size (Shazeer 2020, "GLU Variants Improve Transformer")."""
    return -(-8 * hidden_size // 24) * 8
