"""The section on UCI sets: one trend, and test errors beside the paper's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.findings import Chart, Grid, Section, Series, Trend

_PAPER: Final = {
    "Abalone": "74.0 / 73.6",
    "Arcene": "57.6 / 48.0",
    "Arrhythmia": "56.6 / 46.3",
    "HTRU2": "2.0 / 2.0",
    "Iris": "21.3 / 17.3",
    "Phishing": "16.3 / 15.2",
}
"""Test error in percent, plain / mixup (table 4)."""
_NOT_COUNTED: Final = ("Iris",)
"""Too small: its 30 test examples leave a standard error of several points for each split."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Test errors on one set in percent, one a network; both trainings had the same splits."""

    name: str
    n_rows: int
    n_train: int
    n_test: int
    plain: NDArray[np.float64]
    mixup: NDArray[np.float64]

    @property
    def change(self) -> float:
        """Mean of mixup minus plain, in points."""
        return float((self.mixup - self.plain).mean())

    @property
    def change_error(self) -> float:
        """Standard error of that mean over the splits, which share examples: rather too small."""
        return standard_error(self.mixup - self.plain)


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of independent values, shape (n >= 2,)."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def section(
    compared: Sequence[Comparison], absent: Sequence[str], folder: str, n_networks: int, most_train_rows: int
) -> Section:
    """All of it; without any set, only where the files were looked for. M7 is of the table in `docs/papers.md`."""
    looked = (f"Not in [study] data_folder ({folder}): {', '.join(absent)}.",) if absent else ()
    counted = [one for one in compared if one.name not in _NOT_COUNTED]
    if not compared:
        return Section(
            experiment="uci",
            title="UCI sets",
            findings=("None of the sets was tried: their files are not there.", *looked),
        )
    return Section(
        experiment="uci",
        title="UCI sets",
        findings=(
            f"The paper's network (two layers of 128 units; Adam, 10 epochs, batches of 16) learned each set plainly "
            f"and with mixup (alpha 1), {n_networks} times from random splits, the same for both. To bound the cost, "
            f"at most {most_train_rows:,} rows were learned from and at "
            f"most 2,000 others tested on, of {_sizes(compared)}.",
            "The paper's division into training and test parts is not known here, and its features may have been "
            "scaled in another way, so only the difference of the two trainings compares. Standard errors are over "
            "splits of one set that share examples, so they are rather too small. Iris is shown but decides nothing: "
            "30 test examples are too few.",
            *looked,
        ),
        trends=(_m7(counted),) if counted else (),
        grids=(_grid(compared),),
        charts=(_chart(compared),),
    )


def _m7(compared: Sequence[Comparison]) -> Trend:
    lower = [one for one in compared if one.change < 0]
    worse = [one for one in compared if one.change > 2 * one.change_error]
    return Trend(
        id="M7",
        claim="on tables mixup lowers the test error of a small network, or leaves it",
        paper="lower on five of six sets, equal on the sixth (HTRU2); quoted from notes, not checked",
        ours="; ".join(
            f"{one.name} {one.change:+.2f} points (standard error {one.change_error:.2f})" for one in compared
        ),
        criterion=(
            "Mixup minus plain test error: below 0 on at least half of the sets, and on none above twice its standard "
            "error; Iris is not counted"
        ),
        holds=2 * len(lower) >= len(compared) and not worse,
    )


def _sizes(compared: Sequence[Comparison]) -> str:
    return ", ".join(f"{one.n_rows:,} ({one.name})" for one in compared)


def _grid(compared: Sequence[Comparison]) -> Grid:
    return Grid(
        caption="Test error in percent, mean and standard error over splits and seeds; difference on the same splits",
        columns=("set", "learned", "tested", "plain", "mixup", "difference", "the paper's plain / mixup (not checked)"),
        rows=tuple(
            (
                one.name,
                f"{one.n_train:,}",
                f"{one.n_test:,}",
                f"{one.plain.mean():.2f} ± {standard_error(one.plain):.2f}",
                f"{one.mixup.mean():.2f} ± {standard_error(one.mixup):.2f}",
                f"{one.change:+.2f} ± {one.change_error:.2f}",
                _PAPER[one.name],
            )
            for one in compared
        ),
    )


def _chart(compared: Sequence[Comparison]) -> Chart:
    places = tuple(float(place) for place in range(len(compared)))
    return Chart(
        kind="bars",
        caption="Test error on UCI sets, mean over splits",
        x_label="",
        y_label="test error, %",
        names=tuple(one.name for one in compared),
        series=(
            Series(name="plain training", x=places, y=tuple(float(one.plain.mean()) for one in compared)),
            Series(name="mixup", x=places, y=tuple(float(one.mixup.mean()) for one in compared)),
        ),
    )
