"""Parquet files: rows keep their order, types and values; planted rows are null beside the text."""

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.planting import Occurrence, plant
from canary_audit.data.sources import open_source, read_documents
from canary_audit.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
N_ROWS = 1000


def _table(n_rows=N_ROWS):
    schema = pa.schema(
        {
            "id": pa.int32(),
            "text": pa.string(),
            "meta": pa.struct({"body": pa.large_string(), "score": pa.float32()}),
            "tags": pa.list_(pa.string()),
            "kind": pa.dictionary(pa.int8(), pa.string()),
            "when": pa.timestamp("us", tz="UTC"),
        },
        metadata={"origin": "test"},
    )
    rows = [
        {
            "id": i,
            "text": f"Row {i}",
            "meta": {"body": f"Body {i}", "score": i / 3},
            "tags": ["a", "b"][: i % 3],
            "kind": f"k{i // 250}",
            "when": i,
        }
        for i in range(n_rows)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _decoded(table):
    """The table without its dictionary, which may be cut differently without changing a value."""
    return table.set_column(table.schema.get_field_index("kind"), "kind", table["kind"].cast(pa.string()))


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(_table(), path, row_group_size=300)
    return path


@pytest.mark.parametrize("field", ["text", "meta.body"])
def test_planted_rows_are_null_beside_the_text_and_the_others_unchanged(parquet, tmp_path, field):
    config = DataConfig(source=str(parquet), text_field=field)
    occurrences = [Occurrence(canary_id=str(i), text=f"canary {i}") for i in range(40)]
    planted = plant(open_source(config, seed=1), occurrences, tmp_path / "out", validation_fraction=0, seed=3)
    table, source = pq.read_table(planted.train), pq.read_table(parquet)
    own = pa.compute.is_valid(table["id"])
    assert table.schema.equals(source.schema, check_metadata=True)
    assert _decoded(table.filter(own)).equals(_decoded(source))
    expected = {"id": None, "text": None, "meta": None, "tags": None, "kind": None, "when": None}
    for row in table.filter(pa.compute.invert(own)).to_pylist():
        text = row["text"] if field == "text" else row["meta"]["body"]
        assert text.startswith("canary")
        assert row == expected | ({"text": text} if field == "text" else {"meta": {"body": text, "score": None}})
    assert sorted(read_documents(planted.train, config))[-40:] == sorted(o.text for o in occurrences)


def test_held_out_rows_and_training_rows_are_all_rows(parquet, tmp_path):
    source = open_source(DataConfig(source=str(parquet)), seed=1)
    planted = plant(source, [], tmp_path / "out", validation_fraction=0.3, seed=3)
    train, validation = pq.read_table(planted.train), pq.read_table(planted.validation)
    assert validation.num_rows == planted.n_validation_documents > 200
    assert pa.concat_tables([train, validation]).sort_by("id").to_pylist() == _table().to_pylist()
    assert train["id"].to_pylist() == sorted(train["id"].to_pylist())


def test_many_rows_make_several_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{i}" for i in range(20_000)]}), path)
    planted = plant(
        open_source(DataConfig(source=str(path)), seed=1), [], tmp_path / "out", validation_fraction=0, seed=1
    )
    assert pq.ParquetFile(planted.train).num_row_groups == 3
    assert pq.read_table(planted.train).equals(pq.read_table(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "row 2 has no text in the column 'text'"),
        ("a\0b", "row 2 holds a NUL character"),
        ("x" * 99, "row 2 is longer than data.max_line_bytes"),
    ],
)
def test_bad_rows_are_refused_or_left_out(tmp_path, value, message):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", value, "three"]}), path)
    with pytest.raises(DataError, match=message):
        list(open_source(DataConfig(source=str(path), max_line_bytes=9), seed=1).records())
    source = open_source(DataConfig(source=str(path), max_line_bytes=9, max_bad_lines=1), seed=1)
    planted = plant(source, [], tmp_path / "out", validation_fraction=0, seed=1)
    assert pq.read_table(planted.train)["text"].to_pylist() == ["one", "three"]
    assert planted.n_bad_lines == 1


def test_text_that_is_not_utf8_is_a_bad_row(tmp_path):
    path = tmp_path / "a.parquet"
    text = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\3\0\0\0\5\0\0\0"), pa.py_buffer(b"one\xff\xff"))
    pq.write_table(pa.table({"text": text}), path)
    with pytest.raises(DataError, match="row 2 is not valid UTF-8"):
        list(open_source(DataConfig(source=str(path)), seed=1).records())


@pytest.mark.parametrize("field", ["body", "meta.none", "text.inner"])
def test_a_missing_column_is_named(parquet, field):
    with pytest.raises(DataError, match=f"no column '{field}'; .* id, text, meta, tags, kind, when"):
        open_source(DataConfig(source=str(parquet), text_field=field), seed=1)


def test_a_column_of_numbers_has_no_text(parquet):
    with pytest.raises(DataError, match="row 1 has no text in the column 'id'"):
        list(open_source(DataConfig(source=str(parquet), text_field="id"), seed=1).records())


def test_a_cut_file_is_refused(parquet):
    parquet.write_bytes(parquet.read_bytes()[:-100])
    with pytest.raises(DataError, match="is not a parquet file"):
        open_source(DataConfig(source=str(parquet)), seed=1)


def test_a_damaged_page_is_refused(parquet):
    content = bytearray(parquet.read_bytes())
    content[4:2000] = bytes(1996)
    parquet.write_bytes(content)
    with pytest.raises(DataError, match="is not a parquet file"):
        list(open_source(DataConfig(source=str(parquet)), seed=1).records())


@pytest.mark.parametrize(("field", "column"), [("text", "id"), ("meta.body", "meta.score")])
def test_a_column_that_allows_no_null_is_named(tmp_path, field, column):
    schema = pa.schema(
        [
            pa.field("id", pa.int32(), nullable=field != "text"),
            pa.field("text", pa.string()),
            pa.field("meta", pa.struct([pa.field("body", pa.string()), pa.field("score", pa.int8(), nullable=False)])),
        ]
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": 1, "text": "one", "meta": {"body": "b", "score": 1}}], schema), path)
    source = open_source(DataConfig(source=str(path), text_field=field), seed=1)
    with pytest.raises(DataError, match=f"a null in the column '{column}', which allows none"):
        plant(source, [Occurrence(canary_id="a", text="canary")], tmp_path / "out", validation_fraction=0, seed=1)
