"""Plain text: documents are paragraphs or lines."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from canary_audit.data.lines import Chunk, Lines, LineWriter, chunks
from canary_audit.data.records import BadLine, Record, text_problem


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """Plain text in UTF-8. A paragraph ends at a blank line, that is, one of white space only.

    The text of a document is its lines without the last line end; line ends inside it stay as they are.
    """

    lines: Lines
    split: Literal["paragraph", "line"]
    extension: str = ".txt"

    @property
    def preamble(self) -> bytes:
        return self.lines.preamble

    def read(self) -> Iterator[Record | BadLine]:
        for chunk in chunks(self.lines, until_blank=self.split == "paragraph"):
            yield Record(raw=chunk.raw, text=chunk.text) if isinstance(chunk, Chunk) else chunk

    def obstacle(self, text: str) -> str | None:
        if (problem := text_problem(text)) is not None:
            return problem
        encoded = self._encode(text)
        alone = replace(self, lines=replace(self.lines, read=lambda: iter(io.BytesIO(encoded))))
        if list(alone.read()) == [Record(raw=encoded, text=text)] and not text.startswith("\ufeff"):
            return None
        inside = "a line break" if self.split == "line" else "a blank line"
        return (
            f"is blank, is longer than data.max_line_bytes, begins with a byte order mark, holds {inside} "
            "or has a line break at its end"
        )

    def writer(self, stream: BinaryIO) -> LineWriter:
        return LineWriter(stream, preamble=self.preamble, encode=self._encode, gap=self._gap)

    def file_sha256(self) -> None:
        return None

    def _encode(self, text: str) -> bytes:
        n_line_ends = 2 if self.split == "paragraph" else 1
        return text.encode() + self.lines.newline * n_line_ends

    def _gap(self, raw: bytes) -> bytes:
        gap = b"" if raw.endswith(b"\n") else self.lines.newline
        last_line = (raw + gap)[:-1].rpartition(b"\n")[2]
        return gap + self.lines.newline if self.split == "paragraph" and last_line.strip() else gap
