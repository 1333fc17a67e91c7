"""Damaged and hostile files: each has one exact outcome, and none of them is held in memory or quoted."""

import json
import os
import tracemalloc

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.records import BadLine
from canary_audit.data.sources import open_source
from canary_audit.errors import DataError

CONTENT = "hunter2"  # stands for what an error message must never show

READ = [
    ("paragraphs", "a.txt", b"one\ntwo\n\n\nthree\n", {}, ["one\ntwo", "three"]),
    ("lines", "a.txt", b"one\n\ntwo", {"split": "line"}, ["one", "two"]),
    ("CRLF", "a.txt", b"one\r\ntwo\r\n\r\nthree\r\n", {}, ["one\r\ntwo", "three"]),
    ("carriage returns alone", "a.txt", b"one\rtwo\r\r", {}, ["one\rtwo\r\r"]),
    ("byte order mark", "a.txt", b"\xef\xbb\xbfone\n\ntwo\n", {}, ["one", "two"]),
    ("byte order mark and JSON", "a.jsonl", b'\xef\xbb\xbf{"text": "one"}\n', {}, ["one"]),
    ("blank lines around", "a.txt", b"\n \t\n\n  one\n \n\n", {}, ["  one"]),
    ("no line end", "a.jsonl", b'{"text": "one"}', {}, ["one"]),
    ("blank lines in JSONL", "a.jsonl", b'\n{"text": "one"}\n\n \n{"text": "two"}\n', {}, ["one", "two"]),
    ("nested field", "a.jsonl", b'{"m": {"t": "one"}}\n', {"text_field": "m.t"}, ["one"]),
    ("empty text", "a.jsonl", b'{"text": ""}\n', {}, [""]),
    ("surrogate pair", "a.jsonl", b'{"text": "\\ud83d\\ude00"}\n', {}, ["\U0001f600"]),
    ("line of just the limit", "a.txt", b"x" * 9 + b"\r\n" + b"y" * 9, {"max_line_bytes": 9, "split": "line"}, None),
    ("capital ending", "A.TXT", b"one", {}, ["one"]),
    ("first documents", "a.txt", b"one\n\ntwo\n\nthree", {"max_bytes": 7}, ["one", "two"]),
]


@pytest.mark.parametrize(("name", "content", "settings", "texts"), [row[1:] for row in READ], ids=[r[0] for r in READ])
def test_odd_but_sound_files_are_read(tmp_path, name, content, settings, texts):
    (tmp_path / name).write_bytes(content)
    found = [record.text for record in open_source(_config(tmp_path / name, **settings), seed=1).records()]
    assert found == (texts if texts is not None else ["x" * 9, "y" * 9])


def _json(text: str) -> bytes:
    return b'{"text": "fine"}\n' + text.encode() + b"\n"


REFUSED = [
    ("invalid UTF-8", "a.txt", b"fine\n\nhunter2 \xff\n", {}, "line 3 is not valid UTF-8"),
    ("cut UTF-8", "a.txt", b"hunter2 \xc3", {}, "line 1 is not valid UTF-8"),
    ("surrogate in UTF-8", "a.txt", b"hunter2 \xed\xa0\x80", {}, "line 1 is not valid UTF-8"),
    ("UTF-16", "a.txt", "hunter2".encode("utf-16"), {}, "line 1 holds a NUL byte"),
    ("NUL", "a.txt", b"fine\nhunter2\0\n", {}, "line 2 holds a NUL byte"),
    ("long line", "a.txt", b"hunter2" * 9, {"max_line_bytes": 62}, r"line 1 is longer than data.max_line_bytes \(62\)"),
    (
        "long paragraph",
        "a.txt",
        b"ok\n\n" + b"hunter2\n" * 9,
        {"max_line_bytes": 62},
        "line 3 begins a document of more",
    ),
    ("blank lines only", "a.txt", b"\n" * 99, {"max_line_bytes": 62}, "line 63 begins a document of more"),
    ("empty", "a.txt", b"", {}, "holds no document"),
    ("white space", "a.txt", b" \n\t\n\n", {}, "holds no document"),
    ("empty JSONL", "a.jsonl", b"", {}, "holds no document"),
    ("first document too long", "a.txt", b"hunter2", {"max_bytes": 6}, "first document is longer than data.max_bytes"),
    ("lone surrogate escape", "a.jsonl", _json('{"text": "hunter2 \\ud800"}'), {}, "line 2 holds half of a surrogate"),
    ("NUL escape", "a.jsonl", _json('{"text": "hunter2\\u0000"}'), {}, "line 2 holds a NUL character"),
    ("not JSON", "a.jsonl", _json("{hunter2}"), {}, "line 2 is not valid JSON"),
    ("two objects", "a.jsonl", _json('{"text": "a"} {"text": "hunter2"}'), {}, "line 2 is not valid JSON"),
    ("NaN", "a.jsonl", _json('{"text": "hunter2", "x": NaN}'), {}, "line 2 holds NaN, which is not JSON"),
    ("huge number", "a.jsonl", _json('{"text": "hunter2", "x": ' + "1" * 5000 + "}"), {}, "line 2 is not valid JSON"),
    ("deep nesting", "a.jsonl", _json("[" * 200_000), {}, "line 2 is nested too deeply"),
    ("key twice", "a.jsonl", _json('{"text": "hunter2", "text": "b"}'), {}, "line 2 names a key twice"),
    ("inner key twice", "a.jsonl", _json('{"text": "hunter2", "m": {"a": 1, "a": 2}}'), {}, "line 2 names a key twice"),
    ("no text", "a.jsonl", _json('{"body": "hunter2"}'), {}, "line 2 has no text in the field 'text'"),
    ("null text", "a.jsonl", _json('{"text": null}'), {}, "line 2 has no text in the field 'text'"),
    ("text is no string", "a.jsonl", _json('{"text": ["hunter2"]}'), {}, "line 2 has no text in the field 'text'"),
    ("no object", "a.jsonl", _json('"hunter2"'), {}, "line 2 has no text in the field 'text'"),
    (
        "text is not nested",
        "a.jsonl",
        b'{"m": "hunter2"}\n',
        {"text_field": "m.t"},
        "line 1 has no text in the field 'm.t'",
    ),
    ("unknown ending", "a.csv", b"hunter2", {}, r"neither \.txt, \.jsonl nor \.parquet"),
    ("no parquet", "a.parquet", b"hunter2", {}, "is not a parquet file"),
]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_bad_files_are_refused_with_their_name_and_line(tmp_path, name, content, settings, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        list(open_source(_config(tmp_path / name, **settings), seed=1).records())
    assert name in str(refusal.value)
    assert CONTENT not in str(refusal.value)


@pytest.mark.parametrize("name", ["none.txt", "none.jsonl", "none.parquet", "n" * 300 + ".txt", "a\0b.txt"])
def test_a_missing_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"no such file|cannot be read"):
        open_source(_config(tmp_path / name), seed=1)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DataError, match="no such file"):
        open_source(_config(tmp_path / "a.txt"), seed=1)


def test_bad_lines_up_to_the_limit_are_left_out_and_listed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\nhunter2\xff\ntwo\n\n" + b"x" * 99 + b"\n\0\n\nthree\n")
    bad_lines: list[BadLine] = []
    source = open_source(_config(path, max_bad_lines=3, max_line_bytes=9), seed=1)
    assert [record.text for record in source.records(bad_lines)] == ["one\ntwo", "three"]
    assert [bad_line.place for bad_line in bad_lines] == ["line 2", "line 5", "line 6"]
    with pytest.raises(DataError, match=r"line 6 holds a NUL byte.*data.max_bad_lines \(now 2\)"):
        list(open_source(_config(path, max_bad_lines=2, max_line_bytes=9), seed=1).records())


def test_a_paragraph_that_is_too_long_is_left_out_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\n" + b"12345\n" * 5 + b"\n\ntwo\n")
    bad_lines: list[BadLine] = []
    source = open_source(_config(path, max_bad_lines=1, max_line_bytes=12), seed=1)
    assert b"".join(record.raw for record in source.records(bad_lines)) == b"one\n\ntwo\n"
    assert [bad_line.place for bad_line in bad_lines] == ["line 3"]


@pytest.fixture
def line_of_one_gigabyte(tmp_path):
    path = tmp_path / "big.txt"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\nfine\n")
    return path


@pytest.mark.parametrize("n_allowed", [0, 1])
def test_a_line_of_one_gigabyte_takes_no_memory(line_of_one_gigabyte, n_allowed):
    tracemalloc.start()
    try:
        source = open_source(_config(line_of_one_gigabyte, max_bad_lines=n_allowed), seed=1)
        if n_allowed:
            assert [record.text for record in source.records()] == ["fine"]
        else:
            with pytest.raises(DataError, match="line 1 is longer"):
                next(source.records())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("line", [b"\n", b"word\n"])
def test_an_endless_document_takes_no_memory(tmp_path, line):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\n" + line * (3 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="begins a document of more than 100000 bytes"):
            list(open_source(_config(path, max_line_bytes=100_000), seed=1).records())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_json_may_be_as_long_as_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x" * 1000}) + "\n")
    assert next(open_source(_config(path, max_line_bytes=1012), seed=1).records()).text == "x" * 1000
    with pytest.raises(DataError, match="line 1 is longer"):
        next(open_source(_config(path, max_line_bytes=1011), seed=1).records())


def _config(path, **settings):
    return DataConfig(source=str(path), **settings)
