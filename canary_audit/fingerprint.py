"""Fingerprints: which model exactly was audited, told from its files alone."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from canary_audit.errors import ModelError

_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """One digest of a model folder, and the files behind it."""

    digest: str
    """SHA-256 over the lines `SHA-256, two spaces, path, newline` of all files in the order of their paths; hex."""
    files: dict[str, str]
    """Path below the folder, with slashes -> SHA-256, in the order of paths."""


def fingerprint_directory(path: Path) -> Fingerprint:
    """Fingerprint every file of a model folder: weights, configuration, tokenizer, templates, adapters, code.

    Only hidden files and folders, whose names begin with a dot, are left out: no loader reads them. A README counts, so
    a fingerprint can change although the model does not, but not the other way round. In a folder without hidden files
    `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints the same digest.

    Raises:
        ModelError: there is no such folder, it holds no safetensors weights, or something in it cannot be told apart
            from its surroundings: a link that leads out of it, a linked folder, a device, an unreadable file.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder")
    names = sorted(file.relative_to(path).as_posix() for file in _visible_files(path))
    _require_safetensors(path, names)
    return fingerprint_files({name: _sha256(path, name) for name in names})


def fingerprint_model(folder: Path, adapter: Path | None = None) -> Fingerprint:
    """Fingerprint a model folder, and the adapter that is merged into it as a second one.

    With an adapter, names begin with `model/` and `adapter/`, as if both folders lay in one; the digest is its.

    Raises:
        ModelError: see `fingerprint_directory`.
    """
    if adapter is None:
        return fingerprint_directory(folder)
    return fingerprint_files(
        {
            f"{name}/{file}": sha256
            for name, root in (("adapter", adapter), ("model", folder))
            for file, sha256 in fingerprint_directory(root).files.items()
        }
    )


def fingerprint_files(files: dict[str, str]) -> Fingerprint:
    """The digest over names and hashes that are known already, in the order given."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in files.items())
    return Fingerprint(digest=hashlib.sha256(lines.encode()).hexdigest(), files=files)


def _visible_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if Path(folder, name).is_symlink():
                raise ModelError(f"{Path(folder, name)}: a linked folder; copy it into the model folder")
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _require_safetensors(path: Path, names: Iterable[str]) -> None:
    suffixes = {Path(name).suffix.lower() for name in names}
    if ".safetensors" in suffixes:
        return
    if suffixes & _PICKLED:
        raise ModelError(
            f"{path}: holds its weights as pickle, which can run code when it is read; safetensors only: "
            "save the model again with safe_serialization"
        )
    raise ModelError(f"{path}: no *.safetensors file; a model folder holds its weights as safetensors")


def _sha256(root: Path, name: str) -> str:
    path = root / name
    if not name.isprintable():
        raise ModelError(f"{root}: a file is named {name!r}; rename it, a name must be printable")
    if not any(path.resolve().is_relative_to(home) for home in _homes(root)):
        raise ModelError(f"{path}: a link that leads out of the model folder; copy the model with its links resolved")
    if not path.is_file():
        raise ModelError(f"{path}: neither a regular file nor a link to one")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        _unreadable(error)


def _homes(root: Path) -> tuple[Path, ...]:
    """Where links of a model folder may lead: into it, and of a snapshot in the hub's cache also to the blobs there."""
    real = root.resolve()
    return (real, real.parents[1] / "blobs") if real.parent.name == "snapshots" else (real,)


def _unreadable(error: OSError) -> NoReturn:
    raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from None
