"""Hugging Face data sets, read as JSONL. Imports datasets, so import this module where it is used."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from canary_audit.data.jsonl import JsonlFormat
from canary_audit.data.lines import Lines
from canary_audit.errors import DataError

SPLIT = "train"


def open_dataset(location: str, text_field: str, max_line_bytes: int, *, user_field: str | None = None) -> JsonlFormat:
    """The training split of a data set: a folder that `save_to_disk` wrote, or a name on the hub (streamed).

    Every row becomes one line of JSON with all its columns.

    Raises:
        DataError: there is no such data set or split, or a row holds what JSON cannot.
    """
    name = display_name(location)
    rows = _open_rows(location, name)
    lines = Lines(read=lambda: _json_lines(rows, name), max_line_bytes=max_line_bytes)
    return JsonlFormat(lines=lines, text_field=text_field, user_field=user_field)


def display_name(location: str) -> str:
    """The name without the folders that lead to a local data set."""
    return f"hf:{Path(location).resolve().name}" if Path(location).is_dir() else f"hf:{location}"


def dataset_details() -> dict[str, str]:
    """What else decides which text comes out: the split, and the version of the library that reads it."""
    return {"split": SPLIT, "datasets": datasets.__version__}


def _open_rows(location: str, name: str) -> Iterable[Mapping[str, Any]]:
    try:
        if Path(location).is_dir():
            found = datasets.load_from_disk(location)
        else:
            found = datasets.load_dataset(location, split=SPLIT, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: cannot be opened ({type(error).__name__}); give a public name that has a split '{SPLIT}', "
            "or a folder written by save_to_disk"
        ) from None
    if isinstance(found, datasets.DatasetDict):
        if SPLIT not in found:
            raise DataError(f"{name}: has no split '{SPLIT}', only {', '.join(found)}; save the split by itself")
        found = found[SPLIT]
    rows: Iterable[Mapping[str, Any]] = found.with_format(None)
    return rows


def _json_lines(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[bytes]:
    n_rows = 0
    try:
        for row in rows:
            n_rows += 1
            yield _json_line(row, f"{name}: row {n_rows}")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{name}: cannot be read beyond row {n_rows} ({type(error).__name__})") from None


def _json_line(row: Mapping[str, Any], place: str) -> bytes:
    try:
        return json.dumps(dict(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError):
        raise DataError(
            f"{place} holds a value that JSON cannot (a date, bytes, an image, NaN): save the data without that column"
        ) from None
