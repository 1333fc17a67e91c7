"""Run directories: files that are whole or absent, one process at a time, and stages whose hashes form a chain.

A stage is done when its record is there, its inputs are the same, and its outputs still hash to what it wrote: no
status field can go stale. The names of its inputs tie the stages together. A name with a file suffix or a slash, such
as `ledger.json` or `data/planted.txt`, is a file that an earlier stage wrote into the run directory, and its digest is
the SHA-256 of that file. Every other name, such as `config` or `version`, is a digest of the caller's own making.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from canary_audit.errors import RunError

_STAGES = "stages"
_STAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.part")


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What a stage read and wrote."""

    stage: str
    inputs: Mapping[str, str]
    """Name -> digest; see the module for the names that are files."""
    outputs: Mapping[str, str]
    """Path below the run directory, with slashes -> SHA-256."""


class RunDirectory:
    """A run directory, held by this process for as long as the context lasts.

    Entering creates the folder, locks it, and removes what an interrupted write left behind.

    Raises:
        RunError: on entering, if another process holds it, or it cannot be created.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            if self.root.is_symlink():
                raise RunError(f"{self.root}: is a symbolic link; name the folder it stands for")
            (self.root / _STAGES).mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_leftovers(self.root)
        except BlockingIOError:
            self._unlock()
            raise RunError(
                f"{self.root}: another process is using this run directory; wait until it ends, or use another --out"
            ) from None
        except OSError as error:
            self._unlock()
            raise RunError(f"{self.root}: cannot be used as a run directory: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def path(self, *names: str) -> Path:
        """The path of a file or folder below the root, whether or not it exists.

        Raises:
            RunError: it would lie outside: an absolute name, `..`, a NUL, or a symbolic link that leads out.
        """
        return _inside(self.root, *names)

    def hashes(self, *names: str) -> dict[str, str]:
        """Name -> SHA-256 of files below the root, ready to be inputs of a stage."""
        return {name: sha256_file(self.path(name)) for name in names}

    def is_done(self, stage: str, inputs: Mapping[str, str]) -> bool:
        """Whether the stage was recorded with these inputs, and every output is there and unchanged."""
        try:
            record = self.stage_record(stage)
            return record.inputs == inputs and self.hashes(*record.outputs) == record.outputs
        except RunError:  # no record, a damaged one, or an output gone: the stage has to run again
            return False

    def record(self, stage: str, inputs: Mapping[str, str], outputs: Sequence[Path]) -> None:
        """Record a finished stage in `stages/STAGE.json`; a folder among `outputs` stands for the files in it.

        Raises:
            RunError: an output is missing or outside the run directory, or an input file has changed meanwhile.
        """
        for name in filter(_names_a_file, inputs):
            if sha256_file(self.path(name)) != inputs[name]:
                raise RunError(f"{self.path(name)}: changed while stage {stage!r} was reading it; run it again")
        files = (file for output in outputs for file in _files_of(output))
        written = self.hashes(*sorted(self._relative(file) for file in files))
        record = StageRecord(stage=stage, inputs=inputs, outputs=written)
        write_atomic(self._record_path(stage), _record_text(record).encode())

    def stage_record(self, stage: str) -> StageRecord:
        """What a stage recorded.

        Raises:
            RunError: it has no record, or the record is damaged.
        """
        return _read_record(self._record_path(stage))

    def _record_path(self, stage: str) -> Path:
        if not _STAGE.fullmatch(stage):
            raise RunError(f"{stage!r}: a stage is named by 1 to 40 of a-z, 0-9 and '-'")
        return self.path(_STAGES, f"{stage}.json")

    def _relative(self, path: Path) -> str:
        absolute = path.absolute()
        if not absolute.is_relative_to(self.root):
            raise RunError(f"{path}: an output of a stage must lie in the run directory {self.root}")
        return absolute.relative_to(self.root).as_posix()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def verify_chain(root: Path) -> list[str]:
    """Recompute every hash that the stages of a run recorded; return what is wrong, nothing if all is intact.

    Every record must be as it was written; every output must hash to what its stage wrote; every input that is a file
    must have been written by some stage, and be what this stage read.

    Raises:
        RunError: `root` is not a run directory.
    """
    root = root.absolute()
    paths = sorted((root / _STAGES).glob("*.json"))
    if not paths:
        raise RunError(f"{root}: not a run directory: it holds no stage records; `canary-audit run` writes them")
    records, findings = [], []
    for path in paths:
        try:
            records.append(_read_record(path))
        except RunError as error:
            findings.append(str(error))
    written = {name for record in records for name in record.outputs}
    return findings + [finding for record in records for finding in _check_stage(root, record, written)]


def _check_stage(root: Path, record: StageRecord, written: Set[str]) -> Iterator[str]:
    for name, recorded in record.outputs.items():
        yield from _check_file(root, name, recorded, f"stage {record.stage} wrote {name}")
    for name in filter(_names_a_file, record.inputs):
        yield from _check_file(root, name, record.inputs[name], f"stage {record.stage} read {name}")
        if name not in written:
            yield f"stage {record.stage} read {name}, but no stage recorded that it wrote it"


def _check_file(root: Path, name: str, recorded: str, deed: str) -> Iterator[str]:
    try:
        found = sha256_file(_inside(root, name))
    except RunError as error:
        yield f"{deed}: {error}"
        return
    if found != recorded:
        yield f"{deed} with SHA-256 {recorded}, but the file now has {found}"


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that, whatever happens, either the whole of it or the earlier one is there.

    Raises:
        RunError: it cannot be written; the earlier file, if any, is unharmed.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            _write_all(descriptor, content)
            temporary.replace(path)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror} ({len(content)} bytes needed); an earlier file is unharmed"
        ) from None


def _write_all(descriptor: int, content: bytes) -> None:
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file's content, hex.

    Raises:
        RunError: it is missing, not a regular file, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path}: not a regular file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: str) -> str:
    """SHA-256 over a sequence of texts, hex; each is preceded by its length, so no two sequences read alike."""
    encoded = [part.encode() for part in parts]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in encoded)).hexdigest()


def derive_seed(seed: int, stage: str, index: int = 0) -> int:
    """A 63-bit seed for draw number `index` of a stage; all randomness of a run but its key comes from here."""
    return int(digest(str(seed), stage, str(index))[:16], 16) >> 1


def _inside(root: Path, *names: str) -> Path:
    for name in names:
        parts = PurePosixPath(name).parts
        if "\0" in name or ".." in parts or parts[:1] == ("/",):
            raise RunError(f"{name!r}: not a path inside the run directory {root}")
    path = root.joinpath(*names)
    if not path.resolve().is_relative_to(root.resolve()):
        raise RunError(f"{path}: a symbolic link leads out of the run directory; remove it")
    return path


def _names_a_file(name: str) -> bool:
    return "/" in name or PurePosixPath(name).suffix != ""


def _files_of(output: Path) -> list[Path]:
    if not output.is_dir():
        return [output]
    return [path for path in output.rglob("*") if not path.is_dir()]


def _remove_leftovers(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in filter(_LEFTOVER.fullmatch, files):
            with contextlib.suppress(FileNotFoundError):
                Path(folder, name).unlink()


def _record_text(record: StageRecord) -> str:
    """A record closes with its own digest, so that a changed byte of it shows."""
    body = {"stage": record.stage, "inputs": dict(record.inputs), "outputs": dict(record.outputs)}
    return json.dumps({**body, "sha256": digest(canonical_json(body))}, sort_keys=True, indent=2) + "\n"


def _read_record(path: Path) -> StageRecord:
    """Read a record, byte for byte as `_record_text` wrote it."""
    try:
        text = path.read_bytes().decode()
        raw = json.loads(text)
        record = StageRecord(stage=path.stem, inputs=dict(raw["inputs"]), outputs=dict(raw["outputs"]))
        intact = _record_text(record) == text
    except OSError as error:
        raise RunError(f"{path}: the stage record cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise RunError(f"{path}: the stage record is damaged; run the stage again")
    return record
