"""Parquet: one document a row, streamed a batch at a time. Imports pyarrow, so import this module where it is used."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from canary_audit.data.records import BadLine, Record, owner_of, text_problem
from canary_audit.errors import DataError

_BATCH_ROWS = 256
_ROW_GROUP_ROWS = 8192
_KINDS_OF_NAMES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
"""What a column of users may hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(Record):
    """A record that is row `index` of an Arrow record batch."""

    batch: Any
    index: int


@dataclass(frozen=True, kw_only=True)
class ParquetFormat:
    """A parquet file. A planted row holds the text and is null in every other column.

    What comes out has the same schema and the same rows; row groups and encoding are pyarrow's own.
    """

    path: Path
    text_field: str
    max_text_bytes: int
    schema: Any
    user_field: str | None = None
    extension: str = ".parquet"
    preamble: bytes = b""

    def read(self) -> Iterator[Row | BadLine]:
        n_rows = 0
        with _reading(self.path), pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                texts = _values(batch, self.text_field)
                owners = None if self.user_field is None else _values(batch, self.user_field)
                for index in range(batch.num_rows):
                    n_rows += 1
                    yield self._row(batch, texts, owners, index, n_rows)

    def obstacle(self, text: str) -> str | None:
        if (problem := text_problem(text)) is not None:
            return problem
        if len(text.encode()) > self.max_text_bytes:
            return f"is longer than data.max_line_bytes ({self.max_text_bytes})"
        required = _required_column(list(self.schema), self.text_field.split("."))
        return f"needs a null in the column '{required}', which allows none" if required else None

    def writer(self, stream: BinaryIO) -> "ParquetWriter":
        return ParquetWriter(stream, schema=self.schema, text_field=self.text_field)

    def file_sha256(self) -> str:
        with _reading(self.path), self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _row(self, batch: Any, texts: Any, owners: Any, index: int, number: int) -> Row | BadLine:
        place = f"row {number}"
        try:
            text = texts[index].as_py()
            owner = None if owners is None else owner_of(owners[index].as_py())
        except UnicodeDecodeError:
            return BadLine(place=place, reason="is not valid UTF-8")
        if not isinstance(text, str):
            return BadLine(place=place, reason=f"has no text in the column '{self.text_field}' (data.text_field)")
        if (problem := text_problem(text)) is not None:
            return BadLine(place=place, reason=problem)
        if len(text.encode()) > self.max_text_bytes:
            return BadLine(place=place, reason=f"is longer than data.max_line_bytes ({self.max_text_bytes})")
        return Row(raw=b"", text=text, owner=owner, batch=batch, index=index)


def open_parquet(path: Path, text_field: str, max_text_bytes: int, *, user_field: str | None = None) -> ParquetFormat:
    """Read the schema of a parquet file.

    Raises:
        DataError: the file is missing or damaged, has no such text or user column, or one that names no users.
    """
    with _reading(path):
        schema = pq.read_schema(path)
    _column_type(path, schema, text_field, "text_field")
    if user_field is not None:
        kind = _column_type(path, schema, user_field, "user_field")
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(is_kind(kind) for is_kind in _KINDS_OF_NAMES):
            raise DataError(
                f"{path}: column '{user_field}' (data.user_field) holds {kind}; users are named by text or numbers"
            )
    return ParquetFormat(
        path=path, text_field=text_field, max_text_bytes=max_text_bytes, schema=schema, user_field=user_field
    )


def _column_type(path: Path, schema: Any, field: str, setting: str) -> Any:
    """Type of a column, dots reaching into structs; `DataError` if there is none."""
    kind, fields = None, list(schema)
    for name in field.split("."):
        column = next((column for column in fields if column.name == name), None)
        if column is None:
            known = ", ".join(schema.names)
            raise DataError(f"{path}: no column '{field}'; set data.{setting}, the columns are {known}")
        kind = column.type
        fields = list(kind) if pa.types.is_struct(kind) else []
    return kind


def _values(batch: Any, field: str) -> Any:
    """A column of a batch, dots reaching into structs."""
    name, *inner = field.split(".")
    column = batch.column(name)
    return pc.struct_field(column, inner) if inner else column


class ParquetWriter:
    """Gathers neighbouring rows of a batch into slices and writes them in row groups of a bounded number of rows."""

    def __init__(self, stream: BinaryIO, *, schema: Any, text_field: str) -> None:
        self._writer = pq.ParquetWriter(stream, schema)
        self._schema = schema
        self._path = text_field.split(".")
        self._slices: list[tuple[Any, int, int]] = []
        self._n_rows = 0

    def add(self, record: Record) -> None:
        if not isinstance(record, Row):
            raise TypeError("a parquet writer takes the rows of a parquet file")
        batch, start, stop = self._slices[-1] if self._slices else (None, 0, 0)
        if batch is record.batch and stop == record.index:
            self._slices[-1] = (batch, start, stop + 1)
        else:
            self._slices.append((record.batch, record.index, record.index + 1))
        self._count_row()

    def plant(self, text: str) -> None:
        value: Any = text
        for name in reversed(self._path[1:]):
            value = {name: value}
        columns = [
            pa.array([value], column.type) if column.name == self._path[0] else pa.nulls(1, column.type)
            for column in self._schema
        ]
        self._slices.append((pa.RecordBatch.from_arrays(columns, schema=self._schema), 0, 1))
        self._count_row()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _count_row(self) -> None:
        self._n_rows += 1
        if self._n_rows == _ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._slices:
            batches = [batch.slice(start, stop - start) for batch, start, stop in self._slices]
            self._writer.write_table(pa.Table.from_batches(batches, schema=self._schema))
        self._slices = []
        self._n_rows = 0


def _required_column(fields: Sequence[Any], text_path: Sequence[str]) -> str | None:
    """Name of a column beside the text, at any level above it, that allows no null."""
    for column in fields:
        if column.name != text_path[0]:
            if not column.nullable:
                return str(column.name)
        elif len(text_path) > 1 and (inner := _required_column(list(column.type), text_path[1:])):
            return f"{column.name}.{inner}"
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; data.source is relative to the configuration file") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a parquet file that can be read ({type(error).__name__})") from None
