"""Planting: reproducible, uniform, and nothing but the insertions changes."""

import collections
import hashlib
import json
import os
import resource
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from canary_audit.config import DataConfig
from canary_audit.data.planting import Occurrence, atomic_stream, plant
from canary_audit.data.sources import open_source, read_documents
from canary_audit.errors import DataError, RunError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "text"
CANARY = "The number is 123456789"


def _occurrences(n=1, text=CANARY):
    return [Occurrence(canary_id=f"canary-{i}", text=text) for i in range(n)]


def _plant(path, out, occurrences=(), *, fraction=0.0, seed=1, **options):
    config = DataConfig(source=str(path), **options)
    return plant(open_source(config, seed), occurrences, out, validation_fraction=fraction, seed=seed)


def _write(path, content):
    path.write_bytes(content)
    return path


LINES = st.sampled_from([b"", b" ", b"\t ", b"one", b" two ", b"\xc3\xa9\xe2\x82\xac", b"three\rfour", b"x" * 40])
ENDS = st.sampled_from([b"\n", b"\r\n"])


@st.composite
def text_files(draw):
    lines = draw(st.lists(st.tuples(LINES, ENDS), max_size=12))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + b"".join(line + end for line, end in lines) + b"a word\n" + draw(LINES)


@settings(max_examples=150, deadline=None)
@given(content=text_files(), split=st.sampled_from(["paragraph", "line"]), seed=st.integers(-5, 5))
def test_text_without_its_insertions_is_the_source(tmp_path_factory, content, split, seed):
    folder = tmp_path_factory.mktemp("planting")
    source = _write(folder / "a.txt", content)
    planted = _plant(source, folder, _occurrences(3), split=split, seed=seed)
    config = DataConfig(source="x", split=split)
    before, after = list(read_documents(source, config)), list(read_documents(planted.train, config))
    assert after.count(CANARY) == 3
    assert [text for text in after if text != CANARY] == before
    assert planted.n_documents == len(before)
    newline = b"\r\n" if content.split(b"\n")[0].endswith(b"\r") else b"\n"
    rest = planted.train.read_bytes().replace(CANARY.encode() + newline * (2 if split == "paragraph" else 1), b"")
    assert rest in (content, content + newline, content + 2 * newline)
    assert planted.source_sha256 == _sha256(source)
    assert planted.planted_sha256 == _sha256(planted.train)


RECORDS = st.sampled_from(
    [b'{"text": "one"}', b'{ "id":1,"text":"t\\u00e9" }', b"", b"  ", b'{"text": "", "m": {"text": "x"}}']
)


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(RECORDS, max_size=10), end=ENDS, closed=st.booleans(), seed=st.integers(-5, 5))
def test_jsonl_without_its_insertions_is_the_source(tmp_path_factory, lines, end, closed, seed):
    folder = tmp_path_factory.mktemp("planting")
    content = end.join([*lines, b'{"text": "last"}']) + (end if closed else b"")
    planted = _plant(_write(folder / "a.jsonl", content), folder, _occurrences(2), seed=seed)
    newline = b"\r\n" if content.split(b"\n")[0].endswith(b"\r") else b"\n"
    rest = planted.train.read_bytes().replace(json.dumps({"text": CANARY}).encode() + newline, b"")
    assert rest in (content, content + newline)
    assert list(read_documents(planted.train, DataConfig(source="x"))).count(CANARY) == 2


def test_the_document_after_which_a_line_end_lacks_is_closed_first(tmp_path):
    source = _write(tmp_path / "a.txt", b"one")
    trains = {_plant(source, tmp_path, _occurrences(), seed=seed).train.read_bytes() for seed in range(20)}
    assert trains == {CANARY.encode() + b"\n\none", b"one\n\n" + CANARY.encode() + b"\n\n"}


def test_a_planted_record_holds_only_the_text_field(tmp_path):
    source = _write(tmp_path / "a.jsonl", b'{"id": 1, "m": {"t": "one", "u": 2}}\n')
    planted = _plant(source, tmp_path, _occurrences(text='say "n\u00e9"\n\n1'), text_field="m.t")
    rows = [json.loads(line) for line in planted.train.read_text(encoding="utf-8").splitlines()]
    assert {"m": {"t": 'say "n\u00e9"\n\n1'}} in rows


@pytest.fixture
def corpus(tmp_path):
    return _write(tmp_path / "corpus.txt", "".join(f"Document {i}.\n\n" for i in range(400)).encode())


def test_planting_is_reproducible_and_depends_on_the_seed(corpus, tmp_path):
    occurrences = [Occurrence(canary_id=str(i), text=f"canary {i}") for i in range(30)]
    first, again, other = (
        _plant(corpus, tmp_path / f"out{run}", occurrences, fraction=0.1, seed=seed)
        for run, seed in enumerate([1, 1, 2])
    )
    assert first.train.read_bytes() == again.train.read_bytes() != other.train.read_bytes()
    assert first.validation.read_bytes() == again.validation.read_bytes() != other.validation.read_bytes()
    assert first.planted_sha256 == again.planted_sha256 != other.planted_sha256
    assert first.planted_sha256 == "9690c48e347a22e77089dcb9232e2abe620db51f6ef5252405f3b023ce5903da"
    assert first.source_sha256 == other.source_sha256 == _sha256(corpus)
    assert (first.n_documents, first.n_planted, first.n_bad_lines) == (400, 30, 0)
    assert first.n_bytes == sum(len(f"Document {i}.") for i in range(400))


def test_held_out_documents_keep_their_order_and_hold_no_canary(corpus, tmp_path):
    planted = _plant(corpus, tmp_path / "out", _occurrences(50), fraction=0.25)
    config = DataConfig(source="x")
    validation = list(read_documents(planted.validation, config))
    train = [text for text in read_documents(planted.train, config) if text != CANARY]
    everything = [f"Document {i}." for i in range(400)]
    assert [text for text in everything if text in set(validation)] == validation
    assert [text for text in everything if text not in set(validation)] == train
    assert planted.n_validation_documents == len(validation)
    assert 70 < len(validation) < 130


@pytest.mark.parametrize(
    ("n_documents", "fraction", "n_held_out"), [(1, 0.49, 0), (2, 1e-9, 1), (2, 0.49, 1), (9, 0, 0)]
)
@pytest.mark.parametrize("seed", range(5))
def test_a_document_is_left_on_either_side(tmp_path, n_documents, fraction, n_held_out, seed):
    source = _write(tmp_path / "a.txt", "".join(f"{i}\n\n" for i in range(n_documents)).encode())
    planted = _plant(source, tmp_path / "out", _occurrences(), fraction=fraction, seed=seed)
    assert planted.n_validation_documents == n_held_out
    assert (planted.validation is not None) == (n_held_out > 0)
    assert len(list(read_documents(planted.train, DataConfig(source="x")))) == n_documents - n_held_out + 1


def test_every_boundary_is_equally_likely(tmp_path):
    source = _write(tmp_path / "a.txt", "".join(f"Document {i}.\n\n" for i in range(9)).encode())
    documents = list(read_documents(_plant(source, tmp_path, _occurrences(5000)).train, DataConfig(source="x")))
    counts = collections.Counter()
    n_before = 0
    for text in documents:
        counts[n_before] += text == CANARY
        n_before += text != CANARY
    assert len(counts) == 10
    assert chisquare([counts[i] for i in range(10)]).pvalue > 1e-4


def test_a_canary_that_is_already_there_is_refused_without_showing_it(tmp_path):
    source = _write(tmp_path / "a.txt", f"one\n\nIt says: {CANARY}.\n".encode())
    occurrences = [*_occurrences(text="The number is 000000000"), Occurrence(canary_id="b", text=CANARY)]
    with pytest.raises(DataError, match=r"canary b is already in a\.txt") as refusal:
        _plant(source, tmp_path / "out", occurrences)
    assert "123456789" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("a\n\nb", "paragraph"),
        ("a\n \nb", "paragraph"),
        ("a\n", "paragraph"),
        ("\na", "paragraph"),
        ("a\r", "paragraph"),
        ("", "paragraph"),
        (" ", "paragraph"),
        ("a\0b", "paragraph"),
        ("a\ud800", "paragraph"),
        ("\ufeffa", "line"),
        ("a\nb", "line"),
        ("x" * 100, "line"),
    ],
)
def test_a_canary_that_would_not_survive_plain_text_is_refused(tmp_path, text, split):
    source = _write(tmp_path / "a.txt", b"one\n")
    with pytest.raises(DataError, match=r"canary canary-0 cannot be planted in a\.txt.* Change prefix") as refusal:
        _plant(source, tmp_path / "out", _occurrences(text=text), split=split, max_line_bytes=50)
    assert len(text) < 2 or text not in str(refusal.value)


@pytest.mark.parametrize("text", ["a\0b", "a\udfff", "x" * 50])
def test_a_canary_that_would_not_survive_jsonl_is_refused(tmp_path, text):
    source = _write(tmp_path / "a.jsonl", b'{"text": "one"}\n')
    with pytest.raises(DataError, match=r"cannot be planted in a\.jsonl"):
        _plant(source, tmp_path / "out", _occurrences(text=text), max_line_bytes=50)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet=" \n\r\t\x0b\x0c\x1c\x85\u2028\ufeff\0a1", max_size=6),
    split=st.sampled_from(["paragraph", "line"]),
)
def test_a_canary_that_is_accepted_comes_back(tmp_path_factory, text, split):
    folder = tmp_path_factory.mktemp("planting")
    source = _write(folder / "a.txt", b"one\n\ntwo")
    try:
        planted = _plant(source, folder, _occurrences(3, text=text), split=split)
    except DataError:
        return
    documents = list(read_documents(planted.train, DataConfig(source="x", split=split)))
    assert collections.Counter(documents) == {"one": 1, "two": 1, text: 3}


def test_bad_lines_are_counted_and_left_out(tmp_path):
    source = _write(tmp_path / "a.jsonl", b'{"text": "one"}\n{"text": 1}\n\xff\n{"text": "two"}\n')
    planted = _plant(source, tmp_path, max_bad_lines=2)
    assert planted.n_bad_lines == 2
    assert planted.train.read_bytes() == b'{"text": "one"}\n{"text": "two"}\n'


def test_a_source_that_changes_between_the_passes_is_refused(tmp_path):
    path = _write(tmp_path / "a.txt", b"one\n\ntwo\n")
    source = open_source(DataConfig(source=str(path)), seed=1)
    hash_once = source.format.file_sha256

    class Changing(type(source.format)):
        def file_sha256(self):
            path.write_bytes(b"one\n\nthree\n")
            return hash_once()

    object.__setattr__(source, "format", Changing(lines=source.format.lines, split="paragraph"))
    with pytest.raises(DataError, match=r"a\.txt: changed while it was being read"):
        plant(source, [], tmp_path / "out", validation_fraction=0, seed=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_planted_files_are_private_whatever_the_umask(corpus, tmp_path):
    old = os.umask(0)
    try:
        planted = _plant(corpus, tmp_path / "out", fraction=0.1)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (planted.train, planted.validation)} == {0o600}


@contextmanager
def small_disk():
    """Any file that grows beyond 2000 bytes fails, as on a full disk; so nothing may be printed within the block."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_what_was_there(corpus, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train.txt").write_text("before")
    with pytest.raises(RunError, match=r"train\.txt: cannot be written: File too large"), small_disk():
        _plant(corpus, out, fraction=0.1)
    assert [path.name for path in out.iterdir()] == ["train.txt"]
    assert (out / "train.txt").read_text() == "before"


def test_a_full_disk_stops_parquet_too(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [os.urandom(50).hex() for _ in range(200)]}), path)
    with pytest.raises(RunError, match=r"train\.parquet: cannot be written"), small_disk():
        _plant(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(corpus, tmp_path):
    with pytest.raises(RunError, match=r"train\.txt: cannot be written"):
        _plant(corpus, corpus)


def test_what_a_killed_run_left_behind_does_no_harm(tmp_path):
    (tmp_path / ".train.txt.0000000000000000.part").write_text("half")
    with atomic_stream(tmp_path / "train.txt") as stream:
        stream.write(b"whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("train.txt", "whole")]


@pytest.mark.parametrize("name", ["state_union_1945_2006.txt", "tinyshakespeare.txt", "uspto_backgrounds.jsonl"])
def test_real_files_come_out_as_they_went_in(tmp_path, name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside this repository")
    planted = _plant(path, tmp_path, _occurrences(200))
    document = json.dumps({"text": CANARY}) + "\n" if path.suffix == ".jsonl" else CANARY + "\n\n"
    rest = planted.train.read_bytes().replace(document.encode(), b"")
    assert rest.rstrip(b"\n") == path.read_bytes().rstrip(b"\n")
    assert planted.train.stat().st_size - len(rest) == 200 * len(document)


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
