"""Capacity: does noise need more units, and more time (Arpit et al. 2017, figures 5 and 6)?

Reported, not judged strictly: networks of some widths, of which each is trained side by side for all kinds of data.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.noise.capacity_report import Capacity, Times, capacity_section
from canary_audit.studies.noise.worlds import RANDOM_INPUTS, RANDOM_LABELS, REAL, WORLDS, World, world

_NOISE: Final = ((REAL, 0.0), *product((RANDOM_INPUTS, RANDOM_LABELS), (0.2, 0.5, 0.8)))
_WIDTHS: Final = (8, 16, 32, 64, 128)
_CAPACITY_RECIPE: Final = Recipe(epochs=15, learning_rate=0.003, batch_size=50)

_TIME_WIDTHS: Final = (32, 64, 128, 256)
_TIME_ROWS: Final = 500
_ROW_PARTS: Final = (4, 2, 1)
_TIME_WIDTH: Final = 128
_TIME_RECIPE: Final = Recipe(epochs=60, learning_rate=0.003, batch_size=25)
FITTED: Final = 0.995


def run(setting: Setting) -> Section:
    """Best validation accuracy by width and share of noise, and time to fit by width and number of examples."""
    data = load_dataset(setting.config.study)
    n_fits = len(_WIDTHS) + len(WORLDS) * (len(_TIME_WIDTHS) + len(_ROW_PARTS))
    done = 0

    def advance() -> None:
        nonlocal done
        setting.progress("capacity: sets of networks", done, n_fits)
        done += 1

    best: dict[int, Mapping[str, NDArray[np.float64]]] = {}
    for width in _WIDTHS:
        advance()
        best[width] = best_accuracies(data, width, setting.seeds, setting.device)
    most = min(_TIME_ROWS, len(data.train_y))
    row_counts = sorted({most // part for part in _ROW_PARTS})
    by_width: dict[str, dict[int, NDArray[np.float64]]] = {name: {} for name in WORLDS}
    by_rows: dict[str, dict[int, NDArray[np.float64]]] = {name: {} for name in WORLDS}
    for name in WORLDS:
        for width in _TIME_WIDTHS:
            advance()
            by_width[name][width] = epochs_to_fit(data, name, width, most, setting.seeds, setting.device)
        for n_rows in row_counts:
            advance()
            by_rows[name][n_rows] = (
                by_width[name][_TIME_WIDTH]
                if n_rows == most
                else epochs_to_fit(data, name, _TIME_WIDTH, n_rows, setting.seeds, setting.device)
            )
    return capacity_section(
        data,
        Capacity(kinds=tuple(_label(*kind) for kind in _NOISE), best=best, epochs=_CAPACITY_RECIPE.epochs),
        Times(
            by_width=by_width,
            by_rows=by_rows,
            n_rows=most,
            width=_TIME_WIDTH,
            epochs=_TIME_RECIPE.epochs,
            batch_size=_TIME_RECIPE.batch_size,
            fitted=FITTED,
        ),
    )


def best_accuracies(data: Dataset, width: int, seeds: Sequence[int], device: str) -> Mapping[str, NDArray[np.float64]]:
    """By kind of noise: each seed's best accuracy on held-out examples over the epochs, shape (n_seeds,)."""
    cases = list(product(_NOISE, seeds))
    worlds = [world(data, name, seed, share=share) for (name, share), seed in cases]
    ensemble = Ensemble(
        lambda: mlp(data.n_features, data.n_classes, (width, width)), [seed for _, seed in cases], device
    )
    best = np.zeros(len(cases))

    def look(_: int, now: Ensemble) -> None:
        np.maximum(best, now.accuracy(data.test_x, data.test_y), out=best)

    fit(ensemble, *_stacked(worlds), _CAPACITY_RECIPE, on_epoch=look)
    found = best.reshape(len(_NOISE), len(seeds))
    return {_label(*kind): found[place] for place, kind in enumerate(_NOISE)}


def epochs_to_fit(
    data: Dataset, name: str, width: int, n_rows: int, seeds: Sequence[int], device: str
) -> NDArray[np.float64]:
    """Epochs until each seed's network has 99.5 % of its first `n_rows` examples right; infinite if it never has."""
    worlds = [world(data, name, seed) for seed in seeds]
    all_x, all_y = _stacked(worlds)
    x, y = all_x[:, :n_rows], all_y[:, :n_rows]
    ensemble = Ensemble(lambda: mlp(data.n_features, data.n_classes, (width, width)), seeds, device)
    first = np.full(len(seeds), np.inf)

    def look(epoch: int, now: Ensemble) -> bool:
        first[np.isinf(first) & (now.accuracy(x, y) >= FITTED)] = epoch
        return bool(np.isfinite(first).all())

    fit(ensemble, x, y, _TIME_RECIPE, on_epoch=look)
    return first


def _stacked(worlds: Sequence[World]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.stack([one.x for one in worlds]), np.stack([one.y for one in worlds])


def _label(name: str, share: float) -> str:
    return name if name == REAL else f"{share:.0%} {name}"
