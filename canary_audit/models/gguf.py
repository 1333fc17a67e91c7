"""GGUF files (llama.cpp), converted once into a safetensors folder in fp32.

What transformers would pass over in silence is refused here: tensors and hyperparameters it does not know, sizes that
the file cannot hold, and a way of splitting text that it would replace by GPT-2's.
"""

import importlib.util
import io
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Split
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.gguf import GgufHeader, read_gguf_metadata

from canary_audit.errors import ModelError
from canary_audit.models.foreign import first_line, reading_foreign_files
from canary_audit.models.weights import listed, require_complete, require_finite
from canary_audit.rundir import sha256_file

_SOURCE_FILE = "source.json"
"""In a converted folder: which GGUF file it comes from, `{"gguf_sha256": ...}`."""

_ARCHITECTURE = "llama"
_NEEDED = (
    "context_length",
    "block_count",
    "feed_forward_length",
    "embedding_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
_UNDERSTOOD = (*_NEEDED, "attention.head_count_kv", "rope.dimension_count", "rope.freq_base", "vocab_size")
_LAYER_PARTS = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)
_LONGEST_HEADER_BYTES = 64 << 20
"""A vocabulary of 10^6 tokens with its merges takes about half of it."""
_ALONE = "model.gguf"

_LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT_2_WORDS = ByteLevel(add_prefix_space=False)
_SPLITS: dict[str, PreTokenizer] = {
    "gpt-2": _GPT_2_WORDS,
    "smollm": pre_tokenizers.Sequence([Digits(individual_digits=True), _GPT_2_WORDS]),
    "llama-bpe": pre_tokenizers.Sequence(
        [Split(Regex(_LLAMA_3_WORDS), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    ),
}
"""`tokenizer.ggml.pre` -> how text is split before merges apply; digits decide how secrets are tokenized."""


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the model in a GGUF file into `folder`; nothing is done if it is there already.

    The folder appears when it is complete, so a killed conversion leaves none.

    Raises:
        ModelError: the file is damaged or of a kind that is not served; `folder` holds something else; the package gguf
            is not installed.
        RunError: the file cannot be read.
    """
    sha256 = sha256_file(file)
    if folder.exists():
        if converted_from(folder) != sha256:
            raise ModelError(f"{folder}: is there already, and is no conversion of {file.name}; remove it")
        return
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{file}: GGUF files need the package gguf: pip install 'canary-audit[gguf]'")
    metadata, n_weights = _read_header(file)
    with reading_foreign_files(f"{file}: cannot be converted"), _new_folder(folder) as new:
        with tempfile.TemporaryDirectory() as alone:  # transformers would also read what lies beside the file
            Path(alone, _ALONE).symlink_to(file.resolve())
            network, tokenizer = _read_network(Path(alone), n_weights), _read_tokenizer(Path(alone), metadata)
        network.save_pretrained(new)
        tokenizer.save_pretrained(new)
        (new / _SOURCE_FILE).write_text(json.dumps({"gguf_sha256": sha256}) + "\n")


def converted_from(folder: Path) -> str | None:
    """SHA-256 of the GGUF file that a folder was converted from; None if it was not."""
    try:
        recorded = json.loads((folder / _SOURCE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return str(recorded["gguf_sha256"]) if isinstance(recorded, dict) and "gguf_sha256" in recorded else None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name only in the end; another process may be first, with the same content."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as place:
        new = Path(place, "model")
        new.mkdir()
        yield new
        if not folder.exists():
            new.rename(folder)


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The file's metadata and number of weights, checked against its size and against what is understood here."""
    with reading_foreign_files(f"{file}: not a whole GGUF file"):
        header = GgufHeader.from_file(str(file))
        metadata: dict[str, Any]
        metadata, names = read_gguf_metadata(str(file))
        end = max((header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
        if end > file.stat().st_size:
            raise ModelError(f"{file}: cut short: its tensors end at byte {end:,}; download it again")
        if header.data_start > _LONGEST_HEADER_BYTES:
            raise ModelError(f"{file}: its header has {header.data_start:,} bytes; that is no language model's")
        _require_understood(file, metadata, names)
    return metadata, sum(math.prod(tensor.shape) for tensor in header.tensors)


def _require_understood(file: Path, metadata: Mapping[str, Any], tensors: Sequence[str]) -> None:
    """Nothing in the file would be passed over by transformers, and no hyperparameter replaced by a default."""
    if metadata["general.architecture"] != _ARCHITECTURE:
        raise ModelError(
            f"{file}: architecture {metadata['general.architecture']!r}: only {_ARCHITECTURE!r} is converted here; "
            "audit the safetensors model that the file was made from"
        )
    given = {key.removeprefix(f"{_ARCHITECTURE}.") for key in metadata if key.startswith(f"{_ARCHITECTURE}.")}
    expected = _tensor_names(min(metadata.get(f"{_ARCHITECTURE}.block_count", 0), len(tensors)))
    misfits = {
        "hyperparameters are missing": set(_NEEDED) - given,
        "hyperparameters are not understood": given - set(_UNDERSTOOD),
        "tensors are missing": expected - {"output.weight"} - set(tensors),
        "tensors are not understood": set(tensors) - expected,
        "tensors are there twice": {name for name, count in Counter(tensors).items() if count > 1},
    }
    for complaint, names in misfits.items():
        if names:
            raise ModelError(
                f"{file}: {complaint}: {listed(names)}; audit the safetensors model that the file was made from"
            )
    _require_known_tokenizer(file, metadata)


def _tensor_names(n_layers: int) -> set[str]:
    """Of a Llama; without `output.weight` the embedding is the output layer too."""
    layers = {f"blk.{layer}.{part}.weight" for layer in range(n_layers) for part in _LAYER_PARTS}
    return layers | {"token_embd.weight", "output_norm.weight", "output.weight"}


def _require_known_tokenizer(file: Path, metadata: Mapping[str, Any]) -> None:
    model, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2" or split not in _SPLITS:
        raise ModelError(
            f"{file}: its tokenizer ({model!r}, splitting text as {split!r}) is not one of {', '.join(_SPLITS)}, all "
            "'gpt2'; audit the safetensors model that the file was made from"
        )


def _read_network(folder: Path, n_weights: int) -> PreTrainedModel:
    """The weights, dequantized, in a network whose configuration knows nothing of quantization."""
    _require_size(folder, n_weights)
    with redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
        found, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            gguf_file=_ALONE,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are named below; they are refused all the same
            output_loading_info=True,
        )
    require_complete(folder, info)
    require_finite(folder, found.state_dict())
    values = found.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        values.pop(key, None)
    network = LlamaForCausalLM(type(found.config).from_dict(values))
    network.load_state_dict(found.state_dict())
    return network


def _require_size(folder: Path, n_weights: int) -> None:
    """The network has as many weights as the file: transformers would allocate it before it finds them missing."""
    config = AutoConfig.from_pretrained(str(folder), gguf_file=_ALONE, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        empty = LlamaForCausalLM(config)
    n_needed = sum(parameter.numel() for parameter in empty.parameters())
    if n_needed != n_weights:
        raise ValueError(f"it describes a network of {n_needed:,} weights and holds {n_weights:,}")


def _read_tokenizer(folder: Path, metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer, with the way of splitting text that the file names: transformers knows few of them."""
    try:
        found = AutoTokenizer.from_pretrained(
            str(folder), gguf_file=_ALONE, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the tokenizers library raises bare Exception, and nothing narrower
        raise ValueError(f"its tokenizer is damaged: {first_line(error)}") from error
    tokenizer = found.backend_tokenizer
    tokenizer.pre_tokenizer = _SPLITS[metadata["tokenizer.ggml.pre"]]
    tokenizer.model.ignore_merges = metadata["tokenizer.ggml.pre"] == "llama-bpe"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=metadata[f"{_ARCHITECTURE}.context_length"],
        chat_template=found.chat_template,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in found.special_tokens_map.items() if isinstance(token, str)},
    )
