"""From what a user names to folders on this machine: a folder, a GGUF file, a name on the Hugging Face Hub, an adapter.

Nothing is run, and nothing but data is fetched: weights as safetensors, JSON and chat templates.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from canary_audit.errors import ModelError
from canary_audit.models.adapter import base_model
from canary_audit.models.folder import ADAPTER_CONFIG, is_model_folder
from canary_audit.models.gguf import convert_gguf, converted_from
from canary_audit.rundir import sha256_file

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FETCHED = ["*.safetensors", "*.json", "*.jinja"]
_TOKENIZER_FILES = ["tokenizer*.json", "special_tokens_map.json", "config.json"]
_CONVERTER = "gguf-1"
"""Changes whenever conversion would write another folder for the same file."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The folders a model is made of."""

    folder: Path
    adapter: Path | None = None
    """A PEFT adapter to merge into it."""


def resolve_model(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a model: of a folder itself, of a `.gguf` file its conversion, of a hub name its snapshot.

    A conversion is kept in the cache, under the file's hash. A snapshot is kept in the hub's own cache; the name of its
    folder is the commit, whatever the revision was called.

    Args:
        revision: commit, tag or branch on the hub.

    Raises:
        ModelError: there is no such folder, file or name, the hub cannot be reached, or a file cannot be converted.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"{name}: no such file")
        folder = cache_folder() / _CONVERTER / sha256_file(path)
        convert_gguf(path, folder)
        return folder
    if _HUB_NAME.fullmatch(str(name)):
        return _snapshot(str(name), revision)
    raise ModelError(f"{name}: no such folder, and not a .gguf file or a name on the Hugging Face Hub (owner/model)")


def resolve_tokenizer(name: str | Path) -> Path:
    """The local folder of a tokenizer, named as a model is; of one on the hub no weights are fetched.

    Raises:
        ModelError: see `resolve_model`.
    """
    if not Path(name).exists() and _HUB_NAME.fullmatch(str(name)):
        return _snapshot(str(name), None, _TOKENIZER_FILES)
    return resolve_model(name)


def resolve_files(name: str | Path, *, adapter: str | Path | None = None, revision: str | None = None) -> ModelFiles:
    """The folders of a model and its adapter; `name` alone may also be an adapter that says what its base is.

    Raises:
        ModelError: see `resolve_model`; an adapter names no base, or an adapter as its base.
    """
    folder = resolve_model(name, revision)
    if adapter is not None:
        return ModelFiles(folder=folder, adapter=resolve_model(adapter))
    if is_model_folder(folder) or not (folder / ADAPTER_CONFIG).is_file():
        return ModelFiles(folder=folder, adapter=None)
    return ModelFiles(folder=resolve_model(*base_model(folder)), adapter=folder)


def origin(folder: Path) -> str:
    """Where a resolved folder comes from, for a result: `owner/model@commit`, `gguf:SHA-256`, or its own name."""
    real = folder.resolve()
    if real.parent.name == "snapshots":
        return f"{real.parents[1].name.removeprefix('models--').replace('--', '/')}@{real.name}"
    sha256 = converted_from(real)
    return real.name if sha256 is None else f"gguf:{sha256}"


def cache_folder() -> Path:
    """Where conversions are kept: `$CANARY_AUDIT_CACHE`, else `canary-audit` in the user's cache."""
    if chosen := os.environ.get("CANARY_AUDIT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "canary-audit"


def _snapshot(name: str, revision: str | None, patterns: Sequence[str] = _FETCHED) -> Path:
    at = "" if revision is None else f" at revision {revision}"
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"]
        )
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(
            f"{name}{at}: there is no such folder, and the Hugging Face Hub gives no such model "
            f"({type(error).__name__}); check the name, log in if it is gated, or download it where there is a network"
        ) from error
    return Path(folder)
