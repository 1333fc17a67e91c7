"""Tiny random networks of many architectures, and the plainest way to score with one."""

import numpy as np
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MambaConfig,
    MambaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from canary_audit.config import ModelConfig
from canary_audit.models.interface import Children
from canary_audit.models.networks import build_network

VOCAB_SIZE = 300
PROMPT = [0, 7, 7, 31]
NOBODY = Children(rows=np.empty(0, dtype=np.int64), tokens=np.empty(0, dtype=np.int64))

SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
WINDOW = 5
"""Shorter than the prompt and two more tokens, so that it slides in every test."""


def built_in(kind, layers):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, layers=layers, context_tokens=16)
    return sharpened(build_network(config, VOCAB_SIZE, 0.3, 1))


def sharpened(network, factor=2.0):
    """Sharper distributions, so that a mixed-up row shows."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
    return network.eval()


def random(architecture, config, factor=4.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sharpened(architecture(config), factor)


CAUSAL = {
    "lstm": lambda: built_in("lstm", 1),
    "lstm-2": lambda: built_in("lstm", 2),
    "llama": lambda: built_in("llama", 1),
    "llama-2": lambda: built_in("llama", 2),
    "gpt2-tied": lambda: random(
        GPT2LMHeadModel,
        GPT2Config(
            vocab_size=VOCAB_SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
        ),
    ),
    "neox": lambda: random(GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES)),
    "mistral-window": lambda: random(MistralForCausalLM, MistralConfig(**GROUPED, sliding_window=WINDOW)),
    "gemma2-window": lambda: random(Gemma2ForCausalLM, Gemma2Config(**GROUPED, sliding_window=WINDOW)),
    "gemma3-window": lambda: random(Gemma3ForCausalLM, Gemma3TextConfig(**GROUPED, sliding_window=WINDOW)),
    "llama4-chunks": lambda: random(
        Llama4ForCausalLM,
        Llama4TextConfig(**GROUPED, intermediate_size_mlp=32, num_local_experts=2, attention_chunk_size=WINDOW),
        factor=2.0,
    ),
    "mamba": lambda: random(
        MambaForCausalLM, MambaConfig(vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2, state_size=4), 2.0
    ),
}

SEQ2SEQ_SIZES = {
    "vocab_size": VOCAB_SIZE,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 16,
    "decoder_start_token_id": 2,
    "pad_token_id": 1,
}
ENCODER_DECODERS = {
    "t5": lambda: random(
        T5ForConditionalGeneration,
        T5Config(
            vocab_size=VOCAB_SIZE,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_decoder_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
        ),
        factor=2.0,
    ),
    "bart": lambda: random(BartForConditionalGeneration, BartConfig(**SEQ2SEQ_SIZES)),
    "marian": lambda: random(MarianMTModel, MarianConfig(**SEQ2SEQ_SIZES)),
}


def all_tokens(n_rows):
    return Children(rows=np.repeat(np.arange(n_rows), VOCAB_SIZE), tokens=np.tile(np.arange(VOCAB_SIZE), n_rows))


def naive_log_probs(network, tokens):
    """Log-probabilities after the whole sequence, in one forward pass without any state."""
    with torch.inference_mode():
        logits = network(torch.tensor([tokens])).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def naive_output_log_probs(network, context, tokens):
    """The same for the decoder of an encoder-decoder."""
    decoded = torch.tensor([[network.config.decoder_start_token_id, *tokens]])
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([context]), decoder_input_ids=decoded).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()
