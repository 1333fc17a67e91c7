"""A small Llama written as a GGUF file, the way llama.cpp's converter does it, and ways to spoil it."""

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

N_HEADS, N_KV_HEADS = 4, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), "12", "123", "Ġn", "Ġno"]
MERGES = ["1 2", "12 3", "Ġ n", "Ġn o"]
HYPERPARAMETERS = {
    "llama.context_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 24,
    "llama.embedding_length": 16,
    "llama.attention.head_count": N_HEADS,
    "llama.attention.head_count_kv": N_KV_HEADS,
    "llama.rope.dimension_count": 4,
    "llama.vocab_size": len(TOKENS),
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama(tied=True):
    """A randomly initialized network of these sizes."""
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KV_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return LlamaForCausalLM(config).eval()


def tensors_of(network):
    """GGUF name -> array, with the rows of queries and keys in llama.cpp's order."""
    found = {}
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and network.config.tie_word_embeddings:
            continue
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            layer, stem = stem.removeprefix("model.layers.").split(".", 1)
            renamed = f"blk.{layer}.{NAMES[stem]}.weight"
        else:
            renamed = f"{NAMES[stem]}.weight"
        found[renamed] = _in_llama_cpp_order(renamed, tensor.float().numpy())
    return found


def _in_llama_cpp_order(name, array):
    heads = N_HEADS if ".attn_q." in name else N_KV_HEADS if ".attn_k." in name else 0
    if not heads:
        return array
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def write_gguf(path, tensors, *, changes=None, split="smollm", tokenizer="gpt2", architecture="llama"):
    """Write a GGUF file; a changed hyperparameter of None is left out."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**HYPERPARAMETERS, **(changes or {})}.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_string("tokenizer.ggml.model", tokenizer)
    writer.add_string("tokenizer.ggml.pre", split)
    writer.add_array("tokenizer.ggml.tokens", TOKENS)
    writer.add_array("tokenizer.ggml.token_type", [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_array("tokenizer.ggml.merges", MERGES)
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
