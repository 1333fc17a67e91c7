"""What is refused about a model folder before transformers sees it."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from canary_audit.errors import ModelError

_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
SETTINGS = ("config.json", "tokenizer_config.json")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_REFUSED_KEYS = {
    "auto_map": "it asks to run Python code of its own; code that comes with a model is never run",
    **dict.fromkeys(
        [
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
            "experts_implementation",
            "_experts_implementation",
            "_experts_implementation_internal",
            "fusion_config",
        ],
        "it asks for a kernel of its own, which is code; remove the key",
    ),
    "transformers_weights": "it names a weight file of its own choice; rename the weights to model.safetensors",
    "quantization_config": "it is quantized; audit the model before quantization, or a dequantized copy",
}


def check_folder(path: Path) -> None:
    """Refuse by its files alone a model that must not reach transformers.

    Raises:
        ModelError: no folder, no safetensors weights, weights outside the folder, an adapter, or a configuration that
            asks for code, kernels, other weight files or quantization.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder; a model is a local folder with config.json and safetensors weights")
    if not (path / _WEIGHTS).is_file():
        _check_shards(path)
    if any(path.glob("shard-*.safetensors")):
        raise ModelError(
            f"{path}: holds a distributed checkpoint, which would be read instead of {_WEIGHTS}; export it"
        )
    if (path / ADAPTER_CONFIG).exists():  # transformers would load it on top
        raise ModelError(
            f"{path}: holds both a model and an adapter; move the adapter into a folder of its own, and name both"
        )
    check_settings(path, SETTINGS)


def check_settings(path: Path, names: Iterable[str]) -> None:
    """Refuse the settings of a model or a tokenizer that ask for code, kernels, other weight files or quantization.

    Raises:
        ModelError: one of the named files does, or is not there.
    """
    for name in names:
        config = read_object(path / name)
        for key, reason in _REFUSED_KEYS.items():
            if config.get(key) is not None:
                raise ModelError(f"{path / name}: {key}: {reason}")


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds weights of its own, as safetensors."""
    return (path / _WEIGHTS).is_file() or (path / _WEIGHTS_INDEX).is_file()


def stored_sizes(path: Path) -> dict[str, int]:
    """Tensor -> number of weights, of a folder that `check_folder` has passed, from the headers of its files.

    Raises:
        OSError, SafetensorError: a file is missing or damaged.
    """
    names = {_WEIGHTS}
    if not (path / _WEIGHTS).is_file():
        names = set(read_object(path / _WEIGHTS_INDEX)["weight_map"].values())
    sizes = {}
    for name in sorted(names):
        with safe_open(path / name, framework="pt") as tensors:
            keys = tensors.keys()
            sizes.update({key: math.prod(tensors.get_slice(key).get_shape()) for key in keys})
    return sizes


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: there is no such file, or something else in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object")
    return value


def _check_shards(path: Path) -> None:
    """An index of split weights may name safetensors files of this folder only; others might be unpickled."""
    if not (path / _WEIGHTS_INDEX).is_file():
        raise ModelError(
            f"{path}: safetensors only: there is no {_WEIGHTS}; pickle files can run code and are never opened, "
            "convert them where that is safe"
        )
    shards = read_object(path / _WEIGHTS_INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{path / _WEIGHTS_INDEX}: has no weight_map that names the files of the weights")
    for shard in shards.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise ModelError(
                f"{path / _WEIGHTS_INDEX}: safetensors only: names a file that is not one of this folder's"
            )
