"""JSONL: one JSON object a line, its text in a field that may lie in nested objects."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from canary_audit.data.lines import Chunk, Lines, LineWriter, chunks
from canary_audit.data.records import BadLine, Record, owner_of, text_problem


class _RecordError(Exception):
    """What is wrong with one record; becomes a `BadLine`."""


@dataclass(frozen=True, kw_only=True)
class JsonlFormat:
    """One JSON object a line. A planted document is an object with nothing but the text field."""

    lines: Lines
    text_field: str
    user_field: str | None = None
    extension: str = ".jsonl"

    @property
    def preamble(self) -> bytes:
        return self.lines.preamble

    def read(self) -> Iterator[Record | BadLine]:
        for chunk in chunks(self.lines, until_blank=False):
            yield self._record(chunk) if isinstance(chunk, Chunk) else chunk

    def obstacle(self, text: str) -> str | None:
        if (problem := text_problem(text)) is not None:
            return problem
        if len(self._encode(text)) > self.lines.max_line_bytes:
            return f"makes a line longer than data.max_line_bytes ({self.lines.max_line_bytes})"
        return None

    def writer(self, stream: BinaryIO) -> LineWriter:
        return LineWriter(stream, preamble=self.preamble, encode=self._encode, gap=self._gap)

    def file_sha256(self) -> None:
        return None

    def _record(self, chunk: Chunk) -> Record | BadLine:
        try:
            record = _parse(chunk.text)
            return Record(
                raw=chunk.raw, text=_text_of(record, self.text_field), owner=_owner_of(record, self.user_field)
            )
        except _RecordError as error:
            return BadLine(place=f"line {chunk.line_number}", reason=str(error))

    def _encode(self, text: str) -> bytes:
        value: Any = text
        for name in reversed(self.text_field.split(".")):
            value = {name: value}
        return json.dumps(value, ensure_ascii=False).encode() + self.lines.newline

    def _gap(self, raw: bytes) -> bytes:
        return b"" if raw.endswith(b"\n") else self.lines.newline


def _parse(line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _RecordError("is nested too deeply") from None
    except ValueError:  # its message quotes the line
        raise _RecordError("is not valid JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _RecordError("names a key twice in one object")
    return members


def _refuse_constant(name: str) -> float:
    raise _RecordError(f"holds {name}, which is not JSON")


def _field(record: Any, path: str) -> Any:
    """What a field holds, dots reaching into nested objects; None where there is no such field."""
    value = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text_of(record: Any, text_field: str) -> str:
    value = _field(record, text_field)
    if not isinstance(value, str):
        raise _RecordError(f"has no text in the field '{text_field}' (data.text_field)")
    if (problem := text_problem(value)) is not None:
        raise _RecordError(f"{problem} in the field '{text_field}'")
    return value


def _owner_of(record: Any, user_field: str | None) -> str | None:
    if user_field is None:
        return None
    try:
        return owner_of(_field(record, user_field))
    except TypeError:
        raise _RecordError(
            f"names its user neither by text nor by a number in '{user_field}' (data.user_field)"
        ) from None
