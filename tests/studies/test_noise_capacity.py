"""Capacity and time to fit: known numbers, and a small training."""

import numpy as np
import pytest
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.noise import capacity
from canary_audit.studies.noise.capacity_report import Capacity, Times


def _array(*values: float) -> np.ndarray:
    return np.array(values)


def test_units_needed_are_the_least_within_a_point():
    best = {4: {"real": _array(0.5, 0.7)}, 8: {"real": _array(0.95, 0.96)}, 16: {"real": _array(0.96, 0.96)}}
    assert Capacity(kinds=("real",), best=best, epochs=1).units_needed("real") == 8


def test_slopes_of_known_times():
    times = Times(
        by_width={"real": {2: _array(8), 4: _array(6), 8: _array(4)}},
        by_rows={"real": {100: _array(3), 200: _array(3), 400: _array(np.inf)}},
        n_rows=50,
        width=8,
        epochs=10,
        batch_size=25,
        fitted=0.995,
    )
    assert times.width_slope("real") == pytest.approx(4)  # two epochs of two updates
    updates = [3 * 4, 3 * 8, 10 * 16]  # what was never fitted counts with the epochs it had
    assert times.rows_slope("real") == pytest.approx(100 * np.polyfit([100, 200, 400], updates, 1)[0])


def test_separable_examples_are_fitted_and_training_stops():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    x[:, 0] += 4 * y
    data = Dataset(name="easy", train_x=x, train_y=y, test_x=x, test_y=y)
    epochs = capacity.epochs_to_fit(data, "real", 16, 60, (1, 2), "cpu")
    assert np.all((epochs >= 1) & (epochs < 60))
    best = capacity.best_accuracies(data, 16, (1, 2), "cpu")
    assert best["real"].shape == (2,)
    assert best["real"].min() > 0.85


@pytest.mark.slow
def test_a6_and_a7_are_reported(tmp_path):
    section = capacity.run(setting(tmp_path))
    assert [trend.id for trend in section.trends] == ["A6", "A7"]
    assert all(any(char.isdigit() for char in trend.ours) for trend in section.trends)
