"""Lines of a file in bounded memory, gathered into documents without losing a byte."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from canary_audit.data.records import BadLine, Record
from canary_audit.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SKIP_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Where lines come from. `read` starts anew at each call and yields them with their ends.

    A line longer than `max_line_bytes`, its end not counted, may come cut, as long as it is still too long.
    """

    read: Callable[[], Iterator[bytes]]
    max_line_bytes: int
    preamble: bytes = b""
    newline: bytes = b"\n"
    """Line end of the first line, used for what is planted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A document as lines hold it: its first line's number, its bytes with the blank lines after it, and its text."""

    line_number: int
    raw: bytes
    text: str


def open_lines(path: Path, max_line_bytes: int) -> Lines:
    """Look at the first line of a file: does it have a byte order mark, and how do its lines end?

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    first = next(_file_lines(path, max_line_bytes, 0), b"")
    preamble = BYTE_ORDER_MARK if first.startswith(BYTE_ORDER_MARK) else b""
    return Lines(
        read=lambda: _file_lines(path, max_line_bytes, len(preamble)),
        max_line_bytes=max_line_bytes,
        preamble=preamble,
        newline=b"\r\n" if first.endswith(b"\r\n") else b"\n",
    )


def _file_lines(path: Path, max_line_bytes: int, start: int) -> Iterator[bytes]:
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file; data.source is relative to the configuration file")
        with path.open("rb") as stream:
            stream.seek(start)
            while line := stream.readline(max_line_bytes + 2):
                yield line
                while line and not line.endswith(b"\n"):
                    line = stream.readline(_SKIP_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None


def chunks(lines: Lines, *, until_blank: bool) -> Iterator[Chunk | BadLine]:
    """Gather lines into documents: one a line, or with `until_blank` one a run of lines that are not blank.

    Blank lines belong to the document before them, or to the first document where there is none before. The bytes
    of all chunks, in order, are those of the source without its bad lines.
    """
    document = _Document()
    for number, line in enumerate(lines.read(), start=1):
        text = _decode(line, lines.max_line_bytes)
        if text is None:
            yield BadLine(place=f"line {number}", reason=_reason(line, lines.max_line_bytes))
            continue
        if line.strip() and document.line_number and (document.closed or not until_blank):
            yield from document.finish()
            document = _Document()
        document.add(number, line, text)
        if document.outgrows(lines.max_line_bytes):
            place = f"line {document.line_number or number}"
            yield BadLine(place=place, reason=f"begins a document of more than {lines.max_line_bytes} bytes")
    yield from document.finish()


def _decode(line: bytes, max_line_bytes: int) -> str | None:
    if len(without_line_end(line)) > max_line_bytes or b"\0" in line:
        return None
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _reason(line: bytes, max_line_bytes: int) -> str:
    if len(without_line_end(line)) > max_line_bytes:
        return f"is longer than data.max_line_bytes ({max_line_bytes})"
    return "holds a NUL byte" if b"\0" in line else "is not valid UTF-8"


def without_line_end(line: bytes) -> bytes:
    """`line` without the line feed, or carriage return and line feed, at its end."""
    return line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


@dataclass(kw_only=True)
class _Document:
    """The document being gathered. Once it has outgrown the limit it keeps nothing more."""

    line_number: int = 0
    """Number of its first line that is not blank; 0 before there is one."""
    raw: bytearray = field(default_factory=bytearray)
    texts: list[str] = field(default_factory=list)
    n_text_bytes: int = 0
    n_blank_bytes: int = 0
    closed: bool = False
    dropped: bool = False

    def add(self, number: int, line: bytes, text: str) -> None:
        if line.strip():
            self.line_number = self.line_number or number
            self.n_text_bytes += len(without_line_end(line))
            self.texts.append(text)
        else:
            self.closed = bool(self.line_number)
            self.n_blank_bytes += len(line)
        self.raw += line
        if self.dropped:
            self._forget()

    def outgrows(self, max_bytes: int) -> bool:
        """True once, when its text or the blank lines beside it become longer than the limit."""
        if self.dropped or max(self.n_text_bytes, self.n_blank_bytes) <= max_bytes:
            return False
        self.dropped = True
        self._forget()
        return True

    def _forget(self) -> None:
        self.raw.clear()
        self.texts.clear()

    def finish(self) -> Iterator[Chunk]:
        if self.line_number and not self.dropped:
            text = "".join(self.texts)
            text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
            yield Chunk(line_number=self.line_number, raw=bytes(self.raw), text=text)


class LineWriter:
    """Writes the documents of a line-based format: source records byte for byte, planted ones encoded.

    `gap` tells which bytes a record still lacks before another document can follow it: the last record of a file
    may have no line end.
    """

    def __init__(
        self, stream: BinaryIO, *, preamble: bytes, encode: Callable[[str], bytes], gap: Callable[[bytes], bytes]
    ) -> None:
        self._stream = stream
        self._encode = encode
        self._gap = gap
        self._last = b""
        stream.write(preamble)

    def add(self, record: Record) -> None:
        self._write(record.raw)

    def plant(self, text: str) -> None:
        gap = self._gap(self._last) if self._last else b""
        self._write(gap + self._encode(text))

    def close(self) -> None:
        """Nothing is held back."""

    def _write(self, raw: bytes) -> None:
        self._stream.write(raw)
        self._last = raw
