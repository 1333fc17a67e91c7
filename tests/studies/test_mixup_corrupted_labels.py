"""Corrupted labels: what is counted, and the paper's trends."""

import numpy as np
import pytest
from study_setting import setting

from canary_audit.studies.classifiers.datasets import Dataset
from canary_audit.studies.classifiers.ensemble import Recipe
from canary_audit.studies.mixup import corrupted_labels
from canary_audit.studies.mixup.corrupted_labels import METHODS, SHARES, _corrupted, _share_missed, train_and_test
from canary_audit.studies.mixup.corrupted_report import section
from canary_audit.studies.mixup.corrupted_result import Outcome


def test_errors_on_right_and_wrong_labels_are_counted_apart():
    missed = np.array([[True, False, True, False], [False, False, False, True]])
    wrong = np.array([[True, True, False, False], [False, False, False, False]])
    assert _share_missed(missed, wrong).tolist() == [0.5, 0.0]
    assert _share_missed(missed, ~wrong).tolist() == [0.5, 0.25]


def _two_classes(folder):
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 5))
    path = folder / "own.csv"
    np.savetxt(path, np.column_stack([x, x[:, 0] > 0]), delimiter=",")
    return path


def test_it_takes_any_data_and_looks_at_the_end(tmp_path):
    study = setting(tmp_path, data=str(_two_classes(tmp_path))).config.study
    data = corrupted_labels.load_dataset(study)
    sources = _corrupted(data, (1, 2))
    assert sources.labels.shape == (2 * len(SHARES), len(data.train_y))
    assert (sources.labels != data.train_y).mean(axis=1).round(2).tolist() == [0.2, 0.2, 0.5, 0.5]
    outcomes = [
        train_and_test(method, sources, "cpu", Recipe(epochs=4, learning_rate=1e-3, batch_size=32))
        for method in METHODS
    ]
    assert outcomes[0].epochs == (3, 4)
    assert outcomes[0].test_error.shape == (2, len(SHARES), 2)
    found = section(data, (1, 2), SHARES, outcomes, Recipe(epochs=4, learning_rate=1e-3))
    assert any("two classes" in finding for finding in found.findings)
    assert [trend.id for trend in found.trends] == ["M1", "M2"]


def _outcome(method, last, wrong, right):
    each = np.full((len(SHARES), 2), 1.0)
    return Outcome(
        method=method,
        epochs=(1,),
        test_error=last * each[None],
        right_label_error=right * each,
        wrong_label_error=wrong * each,
    )


@pytest.mark.parametrize(
    ("plain", "both", "wrong", "expected"),
    [(40.0, 10.0, 90.0, [True, True]), (19.0, 10.0, 90.0, [False, True]), (40.0, 13.0, 40.0, [False, False])],
)
def test_trends_hold_only_as_the_criteria_say(plain, both, wrong, expected):
    x, y = np.zeros((3, 2), dtype=np.float32), np.arange(3)
    data = Dataset(name="three", train_x=x, train_y=y, test_x=x, test_y=y)
    last = [plain, 15.0, 20.0, 13.0, 12.0, both]
    outcomes = [_outcome(method, value, wrong, 2.0) for method, value in zip(METHODS, last, strict=True)]
    found = section(data, (1, 2), SHARES, outcomes, corrupted_labels.RECIPE)
    assert [trend.holds for trend in found.trends] == expected


@pytest.mark.slow
def test_the_papers_trends_show_on_digits(tmp_path):
    found = corrupted_labels.run(setting(tmp_path))
    assert {trend.id: trend.holds for trend in found.trends} == {"M1": True, "M2": True}, found.trends
