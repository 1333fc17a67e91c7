"""What every data format offers: records in, planted documents out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One document of the source.

    `raw` holds its exact bytes, separators after it included (empty for a parquet row, which has none of its own);
    `text` is what a model would read.
    """

    raw: bytes
    text: str
    owner: str | None = None
    """Who wrote it, where `data.user_field` is set and the record says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """A line or row that cannot be used: where it is, such as `line 7`, and why. Its content is never kept."""

    place: str
    reason: str


class DocumentWriter(Protocol):
    """Writes documents of one format, one after the other."""

    def add(self, record: Record) -> None:
        """Write a record of the source as it was."""

    def plant(self, text: str) -> None:
        """Write a new document that holds `text` and nothing else."""

    def close(self) -> None:
        """Finish the file; the stream stays open."""


class Format(Protocol):
    """One form of data, bound to the place it is read from."""

    @property
    def extension(self) -> str:
        """File name ending of the data once planted, such as `.txt`."""

    @property
    def preamble(self) -> bytes:
        """Bytes in front of the first record: a byte order mark, or nothing."""

    def read(self) -> Iterator[Record | BadLine]:
        """Stream the documents in order, and a `BadLine` in place of each that cannot be used."""

    def obstacle(self, text: str) -> str | None:
        """Why a planted document would not read back as `text`, or None if it would."""

    def writer(self, stream: BinaryIO) -> DocumentWriter:
        """A writer that continues `stream`, which is empty so far."""

    def file_sha256(self) -> str | None:
        """SHA-256 of the source where its records have no bytes of their own (parquet), else None."""


def owner_of(value: Any) -> str | None:
    """The name of a user: text or a whole number as it stands in a record's field, None where there is nothing.

    Raises:
        TypeError: it is neither.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError("a user is named by text or a whole number")


def text_problem(text: str) -> str | None:
    """Why no format can carry `text`, or None if they all can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which UTF-8 cannot write"
    return None
