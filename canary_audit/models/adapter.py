"""PEFT adapters: checked by their files, then merged into the weights they were trained on."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from canary_audit.errors import ModelError
from canary_audit.models.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_object
from canary_audit.models.foreign import first_line, reading_foreign_files
from canary_audit.models.weights import listed, require_finite

_MERGEABLE = ("LORA", "LOHA", "LOKR", "IA3")

_REFUSED_KEYS = {
    "auto_map": "it asks to run Python code of its own; code that comes with a model is never run",
    "auto_mapping": "it names Python code to import; save the adapter with a task_type, or remove the key",
    "megatron_config": "it names Python code to import; convert the adapter to plain linear layers",
    "alora_invocation_tokens": "it acts behind certain tokens only, so it cannot be merged into the weights",
}
_PLAIN_INITIALIZATIONS = (True, False, None, "gaussian", "orthogonal")


def check_adapter(path: Path) -> None:
    """Refuse by its files alone an adapter that must not reach peft.

    Raises:
        ModelError: no folder, no safetensors weights, a method whose weights cannot be merged, or a configuration that
            names code or changes the base model.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder; an adapter is a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    config = read_object(path / ADAPTER_CONFIG)
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{path}: safetensors only: there is no {ADAPTER_WEIGHTS}; pickle files can run code and are never opened"
        )
    for key, reason in _REFUSED_KEYS.items():
        if config.get(key) is not None:
            raise ModelError(f"{path / ADAPTER_CONFIG}: {key}: {reason}")
    if config.get("peft_type") not in _MERGEABLE:
        raise ModelError(f"{path / ADAPTER_CONFIG}: peft_type: only {', '.join(_MERGEABLE)} can be merged and audited")
    if config.get("init_lora_weights") not in _PLAIN_INITIALIZATIONS:
        raise ModelError(
            f"{path / ADAPTER_CONFIG}: init_lora_weights: it changes the base model at every start; convert the "
            "adapter to plain LoRA, or merge it and audit the merged model"
        )


def base_model(path: Path) -> tuple[str, str | None]:
    """The base model an adapter names, and its revision.

    Raises:
        ModelError: it names none.
    """
    config = read_object(path / ADAPTER_CONFIG)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{path / ADAPTER_CONFIG}: names no base model; give the base model and the adapter")
    return name, revision if isinstance(revision, str) else None


def merge_adapter(network: PreTrainedModel, path: Path) -> PreTrainedModel:
    """Merge an adapter that `check_adapter` has passed into a network, which is consumed.

    Raises:
        ModelError: peft is not installed; the adapter is damaged, does not fit the network, or is not finite; peft has
            doubts about it.
    """
    if importlib.util.find_spec("peft") is None:
        raise ModelError(f"{path}: adapters need peft: pip install 'canary-audit[peft]'")
    peft = importlib.import_module("peft")
    with reading_foreign_files(f"{path}: the adapter cannot be loaded"):
        tensors = load_file(path / ADAPTER_WEIGHTS)
        require_finite(path, tensors)
        with _doubts_as_errors(), torch.random.fork_rng(devices=[]):
            config = peft.PeftConfig.from_peft_type(**read_object(path / ADAPTER_CONFIG))
            config.inference_mode = True
            adapted = peft.get_peft_model(network, config)
            _require_fit(path, peft.get_peft_model_state_dict(adapted, save_embedding_layers=False), tensors)
            peft.set_peft_model_state_dict(adapted, tensors)
            merged: PreTrainedModel = adapted.merge_and_unload()
    require_finite(path, merged.state_dict())
    return merged.eval()


@contextmanager
def _doubts_as_errors() -> Iterator[None]:
    """peft warns where it ignores a part of the configuration, and goes on with another adapter than was trained."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers, of no concern to a user
        warnings.simplefilter("error", UserWarning)
        try:
            yield
        except UserWarning as doubt:
            raise ValueError(first_line(doubt)) from doubt


def _require_fit(path: Path, needed: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """The file holds the adapter's tensors, all of them and no others, in their shapes."""
    misfits = {
        "missing": needed.keys() - found.keys(),
        "unexpected": found.keys() - needed.keys(),
        "mismatched": {name for name in needed.keys() & found.keys() if needed[name].shape != found[name].shape},
    }
    for kind, names in misfits.items():
        if names:
            raise ModelError(f"{path}: the adapter does not fit the base model: {kind} keys: {listed(names)}")
