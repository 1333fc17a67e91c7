"""UCI files: what is read, what is refused, and the comparison."""

import numpy as np
import pytest
from study_setting import REAL_DATA, setting

from canary_audit.errors import DataError
from canary_audit.studies.mixup import uci
from canary_audit.studies.mixup.uci_data import UCI_FILES, UciFile, filled_and_standardized, read_uci
from canary_audit.studies.mixup.uci_report import standard_error

_SIZES = {
    "Abalone": (4177, 10, 28),
    "Arcene": (200, 10_000, 2),
    "Arrhythmia": (452, 279, 13),
    "HTRU2": (17_898, 8, 2),
    "Iris": (150, 4, 3),
    "Phishing": (11_055, 30, 2),
}
_FILE = UciFile(name="Iris", files=("a.csv",))


def test_words_headers_comments_and_missing_values(tmp_path):
    (tmp_path / "a.csv").write_text("% a comment\nsex,length,class\nM,1.5,yes\nF,?,no\n\nM,3,yes\n")
    data = read_uci(_FILE, tmp_path)
    np.testing.assert_array_equal(data.x, [[0, 1, 1.5], [1, 0, np.nan], [0, 1, 3]])
    assert data.y.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no row"),
        ("1,2,a\n1,b\n", "number of columns"),
        ("1,2,a\n1,2,a\n", "two labels"),
        ("1,2,a\nx,2,b\n", "'x'"),
        ("1,2,a\n1,2,?\n", "needs a label"),
    ],
)
def test_other_files_are_refused(tmp_path, text, complaint):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_uci(_FILE, tmp_path)


def test_labels_of_another_file_must_be_as_many(tmp_path):
    (tmp_path / "a.data").write_text("1 2\n3 4\n")
    (tmp_path / "a.labels").write_text("1\n")
    with pytest.raises(DataError, match="2 rows but 1 labels"):
        read_uci(UciFile(name="Arcene", files=("a.data",), label_files=("a.labels",)), tmp_path)


def test_missing_values_become_the_training_mean():
    nan = np.nan
    train, test = filled_and_standardized(np.array([[1, nan], [3, nan], [nan, nan]]), np.array([[nan, 7.0], [2, nan]]))
    np.testing.assert_allclose(train[:, 0], [-(1.5**0.5), 1.5**0.5, 0], rtol=1e-6)
    np.testing.assert_array_equal(train[:, 1], 0)
    np.testing.assert_array_equal(test, 0)


def test_standard_error_of_known_numbers():
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)


def test_without_files_it_says_where_it_looked(tmp_path):
    found = uci.run(setting(tmp_path, data_folder=str(tmp_path)))
    assert not found.trends
    assert any(str(tmp_path) in finding and "HTRU_2.csv" in finding for finding in found.findings)


def test_only_the_sets_that_are_there_are_compared(tmp_path):
    random = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},{'a' if x > 0 else 'b'}" for x, y in random.normal(size=(60, 2))]
    (tmp_path / "iris.csv").write_text("\n".join(rows))
    found = uci.run(setting(tmp_path, data_folder=str(tmp_path), seeds=1))
    assert [row[0] for row in found.grids[0].rows] == ["Iris"]
    assert found.grids[0].rows[0][1:3] == ("48", "12")
    assert not found.trends  # Iris decides nothing


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the UCI files in ../shared/data/classification")
@pytest.mark.parametrize("file", UCI_FILES, ids=lambda file: file.name)
def test_the_real_files(file):
    data = read_uci(file, REAL_DATA)
    assert (*data.x.shape, data.n_classes) == _SIZES[file.name]
    assert np.isnan(data.x).any() == (file.name == "Arrhythmia")


@pytest.mark.nightly
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="needs the UCI files in ../shared/data/classification")
def test_the_trend_is_reported(tmp_path):
    (trend,) = uci.run(setting(tmp_path, data_folder=str(REAL_DATA))).trends
    assert trend.id == "M7"
    assert "HTRU2" in trend.ours
