"""Models in and out of a local folder, without running anything the folder contains.

Only safetensors weights are read, code that comes with a model is refused, nothing is looked up on a network, and a
checkpoint that does not fill the network exactly is an error: transformers would fill the gap with random weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from canary_audit.errors import ModelError, RunError
from canary_audit.models.adapter import check_adapter, merge_adapter
from canary_audit.models.back_end import BackEnd, language_model
from canary_audit.models.devices import require_device
from canary_audit.models.folder import SETTINGS, check_folder, check_settings, stored_sizes
from canary_audit.models.foreign import first_line, quiet_transformers, reading_foreign_files
from canary_audit.models.tokenizer import document_start
from canary_audit.models.weights import require_complete, require_finite

Dtype = Literal["float32", "bfloat16"]

_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be audited."""

    language_model: BackEnd
    tokenizer: PreTrainedTokenizerFast
    network: PreTrainedModel
    n_parameters: int
    dtype: str
    kind: str
    """Architecture: the `model_type` of its config.json."""
    prompt_token: int | None
    """Token that stands before a document, see `document_start`; none before what an encoder-decoder writes, whose
    back-end knows where to start."""


def load_model(
    path: Path,
    *,
    device: str = "cpu",
    dtype: Dtype = "float32",
    batch_rows: int | None = None,
    adapter: Path | None = None,
    context: str | None = None,
) -> LoadedModel:
    """Load a language model and its tokenizer from a folder, in evaluation mode.

    Args:
        dtype: what the weights are converted to, whatever they are stored in.
        batch_rows: rows of one forward pass, at most; None for as many as free memory allows.
        adapter: folder of a PEFT adapter, merged into the weights.
        context: source text that an encoder-decoder writes from; causal models have none.

    Raises:
        ModelError: the folder is missing, damaged, not safetensors, brings code, has tensors missing, unexpected or of
            another shape, holds weights that are not finite, or is a model that no back-end serves; the same of the
            adapter; there is no such device.
    """
    require_device(device)
    check_folder(path)
    tokenizer = _load_tokenizer(path)
    if adapter is None:
        network = _load_network(path, getattr(torch, dtype))
    else:
        check_adapter(adapter)
        _require_same_tokenizer(adapter, tokenizer)
        network = merge_adapter(_load_network(path, torch.float32), adapter).to(getattr(torch, dtype))
    network = network.to(device)
    return LoadedModel(
        language_model=language_model(
            network, batch_rows=batch_rows, context=None if context is None else tokenizer.encode(context)
        ),
        tokenizer=tokenizer,
        network=network,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        dtype=str(network.dtype).removeprefix("torch."),
        kind=network.config.model_type,
        prompt_token=None if network.config.is_encoder_decoder else document_start(tokenizer),
    )


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, without the model.

    Raises:
        ModelError: see `load_model`.
    """
    check_folder(path)
    return _load_tokenizer(path)


def load_tokenizer_alone(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder that need not hold weights: all there is here of a served model.

    Raises:
        ModelError: there is no such folder, no tokenizer in it, or its settings ask for code.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder; a tokenizer is a folder with tokenizer.json")
    check_settings(path, [name for name in SETTINGS if (path / name).exists()])
    return _load_tokenizer(path)


def save_model(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer's files into the folder `path`.

    `load_model` gives back bit-equal logits.

    Raises:
        RunError: the files cannot be written.
    """
    try:
        with quiet_transformers():
            network.save_pretrained(path)
            tokenizer.save_pretrained(path)
    except Exception as error:  # the tokenizers library raises bare Exception for a full disk too
        raise RunError(f"{path}: the model cannot be written: {first_line(error)}") from error


def _load_network(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    with reading_foreign_files(f"{path}: the model cannot be loaded"):
        config = AutoConfig.from_pretrained(str(path.resolve()), trust_remote_code=False, local_files_only=True)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        _require_proportion(path, config, kind)
        network, info = kind.from_pretrained(
            str(path.resolve()),
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that they are named below; they are refused all the same
            output_loading_info=True,
        )
    require_complete(path, info)
    require_finite(path, network.state_dict())
    return network.eval()


def _require_proportion(path: Path, config: Any, kind: Any) -> None:
    """The network is not far larger than its weights: transformers would allocate it before it finds them missing."""
    sizes = stored_sizes(path)
    for name in _LAYER_COUNTS:
        n_layers = getattr(config, name, 0)
        if isinstance(n_layers, int) and n_layers > len(sizes):
            raise ModelError(f"{path}: config.json describes {n_layers:,} layers, the files hold {len(sizes)} tensors")
    with torch.device("meta"):
        empty = kind.from_config(config, trust_remote_code=False)
    n_needed, n_stored = sum(parameter.numel() for parameter in empty.parameters()), sum(sizes.values())
    if n_needed > 2 * n_stored:
        raise ModelError(f"{path}: config.json describes {n_needed:,} weights, the files hold {n_stored:,}")


def _load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"{path}: there is no tokenizer.json; convert the tokenizer to the tokenizers library's format"
        )
    _read_tokenizer(file)
    with reading_foreign_files(f"{path}: the tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(str(path.resolve()), trust_remote_code=False, local_files_only=True)


def _read_tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception, and nothing narrower
        raise ModelError(f"{file}: not a tokenizer: {first_line(error)}") from None


def _require_same_tokenizer(adapter: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Trainers save the tokenizer beside an adapter; it must be the one of the base model."""
    file = adapter / "tokenizer.json"
    if file.exists() and _read_tokenizer(file).get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"{file}: another vocabulary than the base model's; merge the adapter into the base with that tokenizer, "
            "and audit the merged model"
        )
