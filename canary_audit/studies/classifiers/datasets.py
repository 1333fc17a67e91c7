"""Data sets for classifiers: scikit-learn's digits, MNIST, MNIST-1D, the six UCI sets, or a file of your own.

Every one becomes the same thing: fp32 inputs, labels from 0, a training part and a test part.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from canary_audit.config import StudyConfig
from canary_audit.errors import DataError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_DIGITS_TEST_ROWS = 797
_MOST_TEST_ROWS = 1_000
_SPLIT_SEED = 0
"""One split for all studies; seeds are for what is random in training."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set for classification."""

    name: str
    train_x: FloatArray
    """Shape (n_train, n_features); images lie flat."""
    train_y: IntArray
    """Labels 0 .. n_classes - 1, shape (n_train,)."""
    test_x: FloatArray
    test_y: IntArray
    image_shape: tuple[int, int] | None = None
    """(height, width) if the features are grey pixels in [0, 1], row by row."""

    @property
    def n_features(self) -> int:
        """Numbers that describe one example."""
        return int(self.train_x.shape[1])

    @property
    def n_classes(self) -> int:
        """Labels there are."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1


def load_dataset(study: StudyConfig) -> Dataset:
    """The data set that `[study] data` names, with at most `train_rows` training and 1,000 test examples.

    Pixels are in [0, 1]; the features of other sets have mean 0 and deviation 1 on the training part.

    Raises:
        DataError: there is no such file, or it is not what it should be.
    """
    match study.data:
        case "digits":
            whole = _digits()
        case "mnist":
            whole = _images("MNIST", data_file(study, "mnist_10k_2k.npz"))
        case "mnist1d":
            whole = _numbers("MNIST-1D", data_file(study, "mnist1d.npz"))
        case path if not path.endswith((".npz", ".csv")):
            raise DataError(f"[study] data: {path!r} is none of digits, mnist, mnist1d, or an .npz or .csv file")
        case path:
            whole = _numbers(Path(path).name, Path(path))
    return Dataset(
        name=whole.name,
        train_x=whole.train_x[: study.train_rows],
        train_y=whole.train_y[: study.train_rows],
        test_x=whole.test_x[:_MOST_TEST_ROWS],
        test_y=whole.test_y[:_MOST_TEST_ROWS],
        image_shape=whole.image_shape,
    )


def data_file(study: StudyConfig, name: str) -> Path:
    """A file of `[study] data_folder`.

    Raises:
        DataError: it is not there.
    """
    path = Path(study.data_folder) / name
    if not path.is_file():
        raise DataError(f"{path}: no such file; say where it is with [study] data_folder, or choose --data digits")
    return path


def standardized(train: NDArray[Any], test: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Both parts, with the mean and deviation of the training part taken out; constant features become 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    return ((train - mean) / deviation).astype(np.float32), ((test - mean) / deviation).astype(np.float32)


def shuffled(n: int, seed: int) -> IntArray:
    """The numbers 0 .. n - 1 in an order that the seed decides."""
    return np.random.default_rng(seed).permutation(n).astype(np.int64)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # noqa: PLC0415  slow to import

    x, y = load_digits(return_X_y=True)
    pixels, labels, order = (x / 16).astype(np.float32), y.astype(np.int64), shuffled(len(y), _SPLIT_SEED)
    train, test = order[:-_DIGITS_TEST_ROWS], order[-_DIGITS_TEST_ROWS:]
    return Dataset(
        name="scikit-learn digits",
        train_x=pixels[train],
        train_y=labels[train],
        test_x=pixels[test],
        test_y=labels[test],
        image_shape=(8, 8),
    )


def _images(name: str, path: Path) -> Dataset:
    """Grey images of shape (n, height, width), 0 to 255."""
    arrays = _npz(path, ("x_train", "y_train", "x_test", "y_test"))
    train, test = ((arrays[key] / 255).astype(np.float32) for key in ("x_train", "x_test"))
    _, height, width = train.shape
    return Dataset(
        name=name,
        train_x=train.reshape(len(train), -1),
        train_y=arrays["y_train"].astype(np.int64),
        test_x=test.reshape(len(test), -1),
        test_y=arrays["y_test"].astype(np.int64),
        image_shape=(height, width),
    )


def _numbers(name: str, path: Path) -> Dataset:
    """A file of numbers: `.npz` with x, y, x_test and y_test, or `.csv` without a header, labels last.

    A fifth of a CSV file is the test part.
    """
    if path.suffix == ".npz":
        arrays = _npz(path, ("x", "y", "x_test", "y_test"))
        parts = [arrays[key].reshape(len(arrays[key]), -1) for key in ("x", "x_test")]
        labels = [arrays["y"], arrays["y_test"]]
    else:
        table = _csv(path)
        order = shuffled(len(table), _SPLIT_SEED)
        halves = [table[order[len(order) // 5 :]], table[order[: len(order) // 5]]]
        parts, labels = [half[:, :-1] for half in halves], [half[:, -1] for half in halves]
    _require_usable(path, parts, labels)
    train, test = standardized(parts[0], parts[1])
    codes = np.searchsorted(np.unique(np.concatenate(labels)), np.concatenate(labels)).astype(np.int64)
    n_train = len(labels[0])
    return Dataset(name=name, train_x=train, train_y=codes[:n_train], test_x=test, test_y=codes[n_train:])


def _npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in names if name in archive}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, TypeError):
        raise DataError(f"{path}: not a readable .npz file of plain arrays") from None
    if missing := sorted(set(names) - set(found)):
        raise DataError(f"{path}: it has no array {missing[0]!r}; expected are {', '.join(names)}")
    return found


def _csv(path: Path) -> NDArray[Any]:
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float64)
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: no such file, or it cannot be read as text") from None
    except ValueError:
        raise DataError(
            f"{path}: not a table of numbers; write one example a line, its label last, no header"
        ) from None


def _require_usable(path: Path, parts: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]) -> None:
    if any(
        len(part) != len(label) or len(part) < 2 or part.shape[1] == 0
        for part, label in zip(parts, labels, strict=True)
    ):
        raise DataError(f"{path}: every example needs numbers and one label, and either part two examples")
    if not all(np.isfinite(part).all() for part in (*parts, *labels)):
        raise DataError(f"{path}: there are values that are missing or infinite; fill them in first")
    if len(np.unique(np.concatenate(labels))) < 2:
        raise DataError(f"{path}: all labels are the same; there is nothing to classify")
