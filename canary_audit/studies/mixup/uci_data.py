"""The six UCI sets of the mixup paper, as UCI and its mirrors hand them out: comma- or space-separated text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.errors import DataError
from canary_audit.studies.classifiers.datasets import FloatArray, IntArray, standardized

_MISSING: Final = ("?", "NaN", "nan", "NA", "")
_COMMENTS: Final = ("@", "%")
"""First characters of lines of an ARFF file that are no rows."""
Rows = list[list[str]]


@dataclass(frozen=True, kw_only=True)
class UciFile:
    """Where a set is."""

    name: str
    files: tuple[str, ...]
    """Tables, their rows one after another."""
    label_files: tuple[str, ...] = ()
    """Labels of the rows, one a line, file by file; without them the last column is the label."""

    def are_in(self, folder: Path) -> bool:
        """Whether all of them are there."""
        return all((folder / name).is_file() for name in (*self.files, *self.label_files))


UCI_FILES: Final = (
    UciFile(name="Abalone", files=("abalone.csv",)),
    UciFile(
        name="Arcene",
        files=("arcene_train.data", "arcene_valid.data"),
        label_files=("arcene_train.labels", "arcene_valid.labels"),
    ),
    UciFile(name="Arrhythmia", files=("arrhythmia.data",)),
    UciFile(name="HTRU2", files=("HTRU_2.csv",)),
    UciFile(name="Iris", files=("iris.csv",)),
    UciFile(name="Phishing", files=("phishing_uci327.arff",)),
)


@dataclass(frozen=True, kw_only=True)
class UciSet:
    """A set, whole."""

    name: str
    x: NDArray[np.float64]
    """Shape (n_rows, n_features); a missing value is NaN, and a feature in words is one column for each word."""
    y: IntArray
    """Labels 0 .. n_classes - 1, shape (n_rows,)."""

    @property
    def n_classes(self) -> int:
        """Labels there are."""
        return int(self.y.max()) + 1


def read_uci(file: UciFile, folder: Path) -> UciSet:
    """Read one set.

    Raises:
        DataError: a file is missing or is not such a table.
    """
    tables = [_rows(folder / name) for name in file.files]
    if file.label_files:
        labels = [row[0] for name in file.label_files for row in _rows(folder / name)]
        features = [row for table in tables for row in table]
    else:
        labels = [row[-1] for table in tables for row in table]
        features = [row[:-1] for table in tables for row in table]
    where = folder / file.files[0]
    if len(labels) != len(features):
        raise DataError(f"{where}: {len(features)} rows but {len(labels)} labels; take both files from the same source")
    if len({len(row) for row in features}) > 1 or not features[0]:
        raise DataError(f"{where}: rows differ in their number of columns, or have a label only; download it again")
    if any(label in _MISSING for label in labels) or len(set(labels)) < 2:
        raise DataError(f"{where}: every row needs a label, and there must be two labels at least")
    x = np.concatenate([_columns(values, where) for values in zip(*features, strict=True)], axis=1)
    codes = {label: code for code, label in enumerate(sorted(set(labels)))}
    return UciSet(name=file.name, x=x, y=np.array([codes[label] for label in labels], dtype=np.int64))


def filled_and_standardized(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """Both parts with missing values at the training part's mean, and then its mean and deviation taken out.

    A feature without any value in the training part becomes 0 everywhere.
    """
    known = ~np.isnan(train)
    mean = np.where(known, train, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return standardized(np.where(known, train, mean), np.where(np.isnan(test) | ~known.any(axis=0), mean, test))


def _rows(path: Path) -> Rows:
    """Cells of the rows, without comments, empty lines and a header (a first line with nothing but words)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: no such file, or it cannot be read as text") from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_COMMENTS)]
    if not lines:
        raise DataError(f"{path}: there is no row in it; download it again")
    comma = "," in lines[0]
    rows = [[cell.strip() for cell in line.split(",")] if comma else line.split() for line in lines]
    return rows[1:] if len(rows) > 1 and not any(_is_number(cell) for cell in rows[0]) else rows


def _columns(values: Sequence[str], path: Path) -> NDArray[np.float64]:
    """One feature as columns, shape (n_rows, 1), or (n_rows, n_words) if it is in words."""
    try:
        numbers = np.array(["nan" if value in _MISSING else value for value in values]).astype(np.float64)
    except ValueError:
        pass
    else:
        if not np.isinf(numbers).any():
            return numbers[:, None]
    if any(_is_number(value) for value in values):
        odd = next(value for value in values if not _is_number(value) and value not in _MISSING)
        raise DataError(f"{path}: a column of numbers has {odd[:20]!r} in it; download the file again")
    words = sorted(set(values))
    return np.array([[float(value == word) for word in words] for value in values])


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
