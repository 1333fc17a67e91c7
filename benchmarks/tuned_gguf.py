"""A fine-tuned Llama as a GGUF file: the metadata of the file it started from, and its own weights in fp32."""

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from canary_audit.models.load import load_model

_PARTS = {
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
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_SKIPPED = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def write_tuned_gguf(original: Path, folder: Path, path: Path) -> None:
    """Write the weights of the model in `folder`, which was trained from the one in the GGUF file `original`."""
    reader = gguf.GGUFReader(original)
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith(_SKIPPED):
            kind = field.types[0]
            sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type)
    for name, weights in _tensors(folder).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """GGUF name -> weights."""
    network = load_model(folder).network
    config = network.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for name, tensor in network.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        if stem in _WHOLE:
            tensors[f"{_WHOLE[stem]}.weight"] = tensor.float().numpy()
        else:
            layer, part = stem.removeprefix("model.layers.").split(".", 1)
            renamed = _PARTS[part]
            weights = tensor.float().numpy()
            tensors[f"blk.{layer}.{renamed}.weight"] = _interleaved(weights, heads.get(renamed))
    return tensors


def _interleaved(weights: NDArray[np.float32], n_heads: int | None) -> NDArray[np.float32]:
    """Rows of queries and keys, whose halves of a head llama.cpp keeps in turns."""
    if n_heads is None:
        return weights
    halves = weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, weights.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))
