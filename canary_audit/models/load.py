"""Models in and out of a local folder, without running anything the folder contains.

Only safetensors weights are read, code that comes with a model is refused, nothing is looked up on a network, and a
checkpoint that does not fill the network exactly is an error: transformers would fill the gap with random weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from canary_audit.errors import ModelError, RunError
from canary_audit.models.folder import check_folder, n_stored_weights
from canary_audit.models.interface import LanguageModel
from canary_audit.models.networks import LstmForCausalLM
from canary_audit.models.recurrent import RecurrentModel
from canary_audit.models.transformer import TransformerModel

_LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers raises for a damaged or foreign folder: it has no error of its own."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to be audited."""

    language_model: LanguageModel
    tokenizer: PreTrainedTokenizerFast
    network: PreTrainedModel
    n_parameters: int
    dtype: str
    kind: str
    """Architecture: the `model_type` of its config.json."""
    prompt_token: int | None
    """Token that stands before a document: beginning-of-text, else end-of-text; None if the tokenizer has neither."""


def language_model(network: PreTrainedModel, *, batch_rows: int = 4096) -> LanguageModel:
    """The back-end for a network: the LSTM's own, or the one for transformers.

    Raises:
        ModelError: the network's past cannot be shared by prefixes.
    """
    if isinstance(network, LstmForCausalLM):
        return RecurrentModel(network, batch_rows=batch_rows)
    return TransformerModel(network, batch_rows=batch_rows)


def load_model(path: Path, *, device: str = "cpu", batch_rows: int = 4096) -> LoadedModel:
    """Load a causal language model and its tokenizer from a folder, in fp32 and evaluation mode.

    Raises:
        ModelError: the folder is missing, damaged, not safetensors, brings code, has tensors missing, unexpected or of
            another shape, holds weights that are not finite, or is a model that no back-end serves.
    """
    check_folder(path)
    network = _load_network(path).to(device)
    tokenizer = _load_tokenizer(path)
    return LoadedModel(
        language_model=language_model(network, batch_rows=batch_rows),
        tokenizer=tokenizer,
        network=network,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        dtype=str(network.dtype).removeprefix("torch."),
        kind=network.config.model_type,
        prompt_token=tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
    )


def save_model(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer's files into the folder `path`.

    `load_model` gives back bit-equal logits.

    Raises:
        RunError: the files cannot be written.
    """
    try:
        with _quiet_transformers():
            network.save_pretrained(path)
            tokenizer.save_pretrained(path)
    except Exception as error:  # the tokenizers library raises bare Exception for a full disk too
        raise RunError(f"{path}: the model cannot be written: {_first_line(error)}") from error


def _load_network(path: Path) -> PreTrainedModel:
    try:
        with _quiet_transformers():
            _require_proportion(path)
            network, info = AutoModelForCausalLM.from_pretrained(
                str(path.resolve()),
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # so that they are named below; they are refused all the same
                output_loading_info=True,
            )
    except _LOADING_ERRORS as error:
        raise ModelError(f"{path}: the model cannot be loaded: {_first_line(error)}") from error
    _require_complete(path, info)
    _require_finite(path, network)
    return network.eval()


def _require_proportion(path: Path) -> None:
    """The network is not far larger than its weights: transformers would allocate it before it finds them missing."""
    config = AutoConfig.from_pretrained(str(path.resolve()), trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    n_needed, n_stored = sum(parameter.numel() for parameter in empty.parameters()), n_stored_weights(path)
    if n_needed > 2 * n_stored:
        raise ModelError(f"{path}: config.json describes {n_needed:,} weights, the files hold {n_stored:,}")


def _require_complete(path: Path, info: dict[str, Any]) -> None:
    """Every tensor of the network came out of the file, and every tensor of the file went into the network."""
    for kind, found in info.items():
        if found:
            names = sorted(str(item[0] if isinstance(item, tuple) else item) for item in found)
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise ModelError(
                f"{path}: the weights do not fit config.json: {kind.replace('_', ' ')}: {listed}; "
                "transformers would go on with random weights in their place"
            )


def _require_finite(path: Path, network: PreTrainedModel) -> None:
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: tensor {name} holds NaN or infinity; the model is damaged")


def _load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"{path}: there is no tokenizer.json; convert the tokenizer to the tokenizers library's format"
        )
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception, and nothing narrower
        raise ModelError(f"{file}: not a tokenizer: {_first_line(error)}") from None
    try:
        with _quiet_transformers():
            return AutoTokenizer.from_pretrained(str(path.resolve()), trust_remote_code=False, local_files_only=True)
    except _LOADING_ERRORS as error:
        raise ModelError(f"{path}: the tokenizer cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice from transformers: what it would report is checked here, and raised."""
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
