"""Hugging Face data sets that lie on this machine."""

import datetime
import json

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.planting import Occurrence, plant
from canary_audit.data.sources import open_source, read_documents
from canary_audit.errors import DataError

datasets = pytest.importorskip("datasets")
ROWS = [{"text": f"Document {i}.", "meta": {"label": i, "body": f"Body {i}."}} for i in range(20)]


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Saves rows, or splits of rows, the way users do, and gives back the folder."""
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

    def save_rows(rows):
        if isinstance(rows, dict):
            saved = datasets.DatasetDict({split: datasets.Dataset.from_list(part) for split, part in rows.items()})
        else:
            saved = datasets.Dataset.from_list(rows)
        saved.save_to_disk(str(tmp_path / "corpus"))
        return tmp_path / "corpus"

    return save_rows


@pytest.mark.parametrize("rows", [ROWS, {"train": ROWS, "test": ROWS[:2]}], ids=["rows", "splits"])
def test_a_saved_data_set_is_read_and_written_as_jsonl(save, rows, tmp_path):
    config = DataConfig(source=f"hf:{save(rows)}", text_field="meta.body")
    source = open_source(config, seed=1)
    assert (source.name, source.extension) == ("hf:corpus", ".jsonl")
    assert source.details == {"split": "train", "datasets": datasets.__version__}
    assert [json.loads(record.raw) for record in source.records()] == ROWS
    planted = plant(source, [Occurrence(canary_id="a", text="Körper")], tmp_path, validation_fraction=0.2, seed=1)
    documents = [*read_documents(planted.train, config), *read_documents(planted.validation, config)]
    assert sorted(documents) == sorted(["Körper", *(row["meta"]["body"] for row in ROWS)])


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), b"bytes", float("nan")])
def test_a_value_that_json_cannot_hold_is_refused(save, value):
    folder = save([{"text": "one", "value": value}])
    with pytest.raises(DataError, match="hf:corpus: row 1 holds a value that JSON cannot"):
        list(open_source(DataConfig(source=f"hf:{folder}"), seed=1).records())


def test_a_row_without_text_is_a_bad_line(save):
    folder = save([{"text": "one"}, {"text": None}])
    with pytest.raises(DataError, match="hf:corpus: line 2 has no text in the field 'text'"):
        list(open_source(DataConfig(source=f"hf:{folder}"), seed=1).records())
    source = open_source(DataConfig(source=f"hf:{folder}", max_bad_lines=1), seed=1)
    assert [record.text for record in source.records()] == ["one"]


def test_a_missing_split_is_named(save):
    with pytest.raises(DataError, match="no split 'train', only test"):
        open_source(DataConfig(source=f"hf:{save({'test': ROWS})}"), seed=1)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot be opened \(FileNotFoundError\)"):
        open_source(DataConfig(source=f"hf:{tmp_path}"), seed=1)


def test_an_unreachable_name_is_refused(monkeypatch):
    def unreachable(*_arguments, **_options):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"hf:owner/name: cannot be opened \(ConnectionError\)"):
        open_source(DataConfig(source="hf:owner/name"), seed=1)


def test_a_name_on_the_hub_is_streamed(monkeypatch):
    asked = []

    def hub(name, *, split, streaming):
        asked.append((name, split, streaming))
        return datasets.IterableDataset.from_generator(lambda: iter(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", hub)
    source = open_source(DataConfig(source="hf:owner/name", max_bytes=25), seed=1)
    assert [record.text for record in source.records()] == ["Document 0.", "Document 1."]
    assert (source.name, asked) == ("hf:owner/name", [("owner/name", "train", True)])
