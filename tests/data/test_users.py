"""Who wrote a record: read from its own field, in every format that has fields."""

import json

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.planting import Occurrence, plant
from canary_audit.data.sources import open_source, read_owned_documents
from canary_audit.errors import DataError

CANARIES = [Occurrence(canary_id="a-1", text="pin 4711")] * 3
RECORDS = [
    {"text": "one", "by": {"name": "ann", "id": 7}},
    {"text": "two", "by": {"name": "bob", "id": 8}},
    {"text": "three", "by": {"name": "ann", "id": 7}},
    {"text": "four", "by": {"name": None, "id": None}},
]


def saved(records, path):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(records), path)
        return str(path)
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(records).save_to_disk(str(path))
    return f"hf:{path}"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a"])
@pytest.mark.parametrize(("field", "ann", "bob"), [("by.name", "ann", "bob"), ("by.id", "7", "8")])
def test_planted_data_tells_who_wrote_what(tmp_path, monkeypatch, name, field, ann, bob):
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    config = DataConfig(source=saved(RECORDS, tmp_path / name), user_field=field, blacklist=("^two$",))
    source = open_source(config, seed=1)
    assert [record.owner for record in source.records()] == [ann, bob, ann, None]
    planted = plant(source, CANARIES, tmp_path / "out", validation_fraction=0, seed=1)
    documents = list(read_owned_documents(planted.train, config))
    assert sorted(document for document in documents if document[1]) == [("one", ann), ("three", ann)]
    assert sorted(text for text, owner in documents if owner is None) == ["four", *["pin 4711"] * 3]
    everything = read_owned_documents(planted.train, config.model_copy(update={"blacklist": ()}))
    assert ("two", bob) in list(everything)


def test_a_record_without_the_field_names_nobody(tmp_path):
    config = DataConfig(source=saved([{"text": "one"}, {"text": "two", "by": "x"}], tmp_path / "a.jsonl"))
    for field in ("by.name", "user"):
        source = open_source(config.model_copy(update={"user_field": field}), seed=1)
        assert [record.owner for record in source.records()] == [None, None]


@pytest.mark.parametrize("name", [True, 1.5, ["ann"], {"first": "ann"}])
def test_other_names_are_bad_lines(tmp_path, name):
    config = DataConfig(source=saved([{"text": "one", "by": name}], tmp_path / "a.jsonl"), user_field="by")
    with pytest.raises(DataError, match=r"line 1 names its user neither by text nor by a number in 'by'"):
        list(open_source(config, seed=1).records())
    allowed = config.model_copy(update={"max_bad_lines": 1})
    with pytest.raises(DataError, match="nothing to train on"):
        list(open_source(allowed, seed=1).records())


def test_a_parquet_column_of_users_must_be_there_and_name_them(tmp_path):
    records = [{"text": "one", "score": 0.5, "tags": ["a"], "by": {"id": 1}}]
    path = saved(records, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'user'; set data\.user_field, the columns are text, score"):
        open_source(DataConfig(source=path, user_field="user"), seed=1)
    for field in ("score", "tags", "by"):
        with pytest.raises(DataError, match=rf"column '{field}' \(data\.user_field\) holds"):
            open_source(DataConfig(source=path, user_field=field), seed=1)


def test_a_parquet_dictionary_of_users_is_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"text": ["one", "two"], "by": pa.array(["ann", None]).dictionary_encode()})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    source = open_source(DataConfig(source=str(tmp_path / "a.parquet"), user_field="by"), seed=1)
    assert [record.owner for record in source.records()] == ["ann", None]


@pytest.mark.parametrize("source", ["a.txt", "builtin:prose", "builtin:synthetic"])
def test_plain_text_has_no_users(tmp_path, source):
    (tmp_path / "a.txt").write_text("one")
    named = source if ":" in source else str(tmp_path / source)
    with pytest.raises(DataError, match=rf"{source} is plain text, whose documents have no fields"):
        open_source(DataConfig(source=named, user_field="by", max_bytes=100), seed=1)
