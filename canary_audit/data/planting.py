"""Plant canaries: every occurrence becomes a document of its own, every other byte stays as it was.

Two passes over the source, neither of which holds it in memory: the first counts and refuses, the second writes.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from canary_audit.data.records import BadLine, DocumentWriter, Record
from canary_audit.data.sources import Source
from canary_audit.errors import DataError, RunError

_HEAD_CHARACTERS = 16
_DRAFT_NAME = ".{name}.0000000000000000.part"
"""Swept away by a run directory when it opens; always the same, so that a run outside of one leaves no second draft."""


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One planned insertion; `text` is prefix, secret and suffix."""

    canary_id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class PlantedData:
    """The files that planting wrote, and what they hold."""

    train: Path
    validation: Path | None
    """Held-out documents, unplanted; None where none are held out."""
    source_sha256: str
    """Of the source as used: what `sha256sum` prints for a file that was read whole and had no bad lines."""
    planted_sha256: str
    """Of the training file."""
    n_documents: int
    """Documents of the source, held-out ones included."""
    n_validation_documents: int
    n_bytes: int
    """Bytes of text in these documents, as UTF-8."""
    n_planted: int
    n_bad_lines: int
    details: Mapping[str, str]


def plant(
    source: Source, occurrences: Sequence[Occurrence], out_dir: Path, *, validation_fraction: float, seed: int
) -> PlantedData:
    """Write `train` and `validation` files into `out_dir`, in the format of the source.

    Each occurrence goes to a boundary between training documents, all boundaries and both ends equally likely. A
    document is held out with probability `validation_fraction`, by seed and index; of two or more documents at
    least one is held out (unless the fraction is 0) and at least one is not.

    Raises:
        DataError: the source cannot be read, a canary does not survive its format, or is in the data already.
        RunError: a file cannot be written; what stood there before is left as it was.
    """
    for occurrence in occurrences:
        if obstacle := source.format.obstacle(occurrence.text):
            raise DataError(
                f"canary {occurrence.canary_id} cannot be planted in {source.name}: its text {obstacle}. "
                "Change prefix, suffix or format in its [[canaries]] table"
            )
    survey = _survey(source, occurrences, validation_fraction, seed)
    train = out_dir / f"train{source.extension}"
    validation = out_dir / f"validation{source.extension}" if survey.n_validation_documents else None
    _write(source, survey, _placed(occurrences, survey, seed), train, validation)
    return PlantedData(
        train=train,
        validation=validation,
        source_sha256=survey.sha256,
        planted_sha256=_file_sha256(train),
        n_documents=survey.n_documents,
        n_validation_documents=survey.n_validation_documents,
        n_bytes=survey.n_bytes,
        n_planted=len(occurrences),
        n_bad_lines=survey.n_bad_lines,
        details=source.details,
    )


@contextmanager
def atomic_stream(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name, whole and on disk, when the block ends, and not at all if it fails.

    Only its owner may read it: training data may be private, and planted data holds the secrets.

    Raises:
        RunError: the file cannot be written.
    """
    draft = path.with_name(_DRAFT_NAME.format(name=path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123  (a mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunError(f"{path}: cannot be written: {reason}; free space there or choose another folder") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Which documents are held out: by a draw of their own, with one certain on either side."""

    fraction: float
    seed: int
    held_out: int
    """The document of the lowest draw."""
    kept: int
    """The document of the highest draw, always trained on."""

    def holds_out(self, index: int) -> bool:
        if self.fraction == 0 or index == self.kept:
            return False
        return index == self.held_out or _draw(self.seed, "validation", index) < self.fraction


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What the first pass counted."""

    sha256: str
    n_documents: int
    n_validation_documents: int
    n_bytes: int
    n_bad_lines: int
    split: _Split


class _Hash:
    """SHA-256 of the source as it streams by."""

    def __init__(self, source: Source) -> None:
        self._format = source.format
        self._sha256 = hashlib.sha256(source.format.preamble)

    def update(self, record: Record) -> None:
        self._sha256.update(record.raw)

    def hexdigest(self) -> str:
        return self._format.file_sha256() or self._sha256.hexdigest()


def _survey(source: Source, occurrences: Sequence[Occurrence], fraction: float, seed: int) -> _Survey:
    sha256, present, bad_lines = _Hash(source), _Presence(occurrences), list[BadLine]()
    lowest = highest = (0.0, 0)
    n_documents = n_bytes = n_low = 0
    for index, record in enumerate(source.records(bad_lines)):
        if canary_id := present.find(record.text):
            raise DataError(f"canary {canary_id} is already in {source.name}: change the seed or its prefix")
        draw = (_draw(seed, "validation", index), index)
        lowest, highest = (min(lowest, draw), max(highest, draw)) if index else (draw, draw)
        n_low += draw[0] < fraction
        n_documents += 1
        n_bytes += len(record.text.encode())
        sha256.update(record)
    return _Survey(
        sha256=sha256.hexdigest(),
        n_documents=n_documents,
        n_validation_documents=min(max(n_low, 1), n_documents - 1) if fraction else 0,
        n_bytes=n_bytes,
        n_bad_lines=len(bad_lines),
        split=_Split(fraction=fraction, seed=seed, held_out=lowest[1], kept=highest[1]),
    )


class _Presence:
    """Finds planned texts in documents. Texts with the same head are looked for only where that head occurs."""

    def __init__(self, occurrences: Sequence[Occurrence]) -> None:
        self._by_head: dict[str, dict[str, str]] = {}
        for occurrence in occurrences:
            head = occurrence.text[:_HEAD_CHARACTERS]
            self._by_head.setdefault(head, {})[occurrence.text] = occurrence.canary_id

    def find(self, document: str) -> str | None:
        """Id of a canary whose text the document holds."""
        for head, texts in self._by_head.items():
            if head in document:
                for text, canary_id in texts.items():
                    if text in document:
                        return canary_id
        return None


def _placed(occurrences: Sequence[Occurrence], survey: _Survey, seed: int) -> deque[tuple[int, str]]:
    """(number of training documents before it, text) for each occurrence, in the order they are written."""
    n_boundaries = survey.n_documents - survey.n_validation_documents + 1
    boundaries = [int(_draw(seed, "position", index) * n_boundaries) for index in range(len(occurrences))]
    texts = [occurrence.text for occurrence in occurrences]
    return deque(sorted(zip(boundaries, texts, strict=True), key=lambda place: place[0]))


def _write(
    source: Source, survey: _Survey, placed: deque[tuple[int, str]], train: Path, validation: Path | None
) -> None:
    sha256, n_trained = _Hash(source), 0
    with ExitStack() as stack:
        training = _open_writer(stack, source, train)
        held_out = _open_writer(stack, source, validation) if validation else training
        for index, record in enumerate(source.records()):
            sha256.update(record)
            if survey.split.holds_out(index):
                held_out.add(record)
                continue
            _plant_due(training, placed, n_trained)
            training.add(record)
            n_trained += 1
        _plant_due(training, placed, n_trained)
        if sha256.hexdigest() != survey.sha256:
            raise DataError(
                f"{source.name}: changed while it was being read; wait until it is complete, then try again"
            )


def _plant_due(writer: DocumentWriter, placed: deque[tuple[int, str]], n_trained: int) -> None:
    while placed and placed[0][0] <= n_trained:
        writer.plant(placed.popleft()[1])


def _open_writer(stack: ExitStack, source: Source, path: Path) -> DocumentWriter:
    return stack.enter_context(closing(source.format.writer(stack.enter_context(atomic_stream(path)))))


def _draw(seed: int, purpose: str, index: int) -> float:
    """A uniform number in [0, 1) that depends on its three arguments and nothing else."""
    digest = hashlib.blake2b(f"{purpose}/{seed}/{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
