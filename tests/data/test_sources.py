"""Sources: built-in text, Hugging Face data sets, real files; and reading documents back."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from canary_audit.config import DataConfig
from canary_audit.data.prose import prose_paragraphs
from canary_audit.data.sources import open_source, read_documents
from canary_audit.data.synthetic import synthetic_paragraphs
from canary_audit.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "text"


def test_a_source_is_named_by_its_file_alone(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    source = open_source(DataConfig(source=str(tmp_path / "a.txt")), seed=1)
    assert (source.name, source.extension, dict(source.details)) == ("a.txt", ".txt", {})


def test_an_unknown_builtin_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="builtin:prose or builtin:synthetic"):
        open_source(DataConfig(source="builtin:news"), seed=1)


def test_prose_is_clean_and_the_same_each_time():
    config = DataConfig(source="builtin:prose", max_bytes=350_000)
    texts = [record.text for record in open_source(config, seed=1).records()]
    assert texts == [record.text for record in open_source(config, seed=2).records()]
    assert 345_000 < sum(len(text.encode()) for text in texts) <= 350_000
    assert len(set(texts)) == len(texts) > 1000
    joined = "\n".join(texts)
    assert "\n\n" not in joined
    assert not [text for text in texts if any(word.isdigit() and len(word) > 4 for word in text.split())]
    assert open_source(config, seed=1).details == {"python": ".".join(map(str, sys.version_info[:3]))}


def test_prose_goes_on_with_docstrings_without_importing(tmp_path):
    library = _library(
        tmp_path, 'topics = {"b": "Topic b.\\n\\nCall 123456.", "a": "Topic a.\\n\\nSee me@example.org"}'
    )
    (library / "json").mkdir()
    (library / "json" / "tool.py").write_text('"""Tool."""\nraise SystemExit("imported")\n')
    (library / "abc.py").write_text(
        'class A:\n    """Class.\n\n    Topic b.\n    """\n    def f(self):\n        "Method."\n'
    )
    (library / "test").mkdir()
    (library / "test" / "x.py").write_text('"""A test."""')
    (library / "site.py").write_text("x = 1")
    (library / "elsewhere.py").write_text('"""Not of the standard library."""')
    assert list(prose_paragraphs(library)) == ["Topic a.", "Topic b.", "Class.", "Method.", "Tool."]


def test_a_python_without_topics_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"without pydoc_data/topics\.py; install the full standard library"):
        list(prose_paragraphs(tmp_path))


def test_a_python_with_empty_topics_is_refused(tmp_path):
    with pytest.raises(DataError, match="empty"):
        list(prose_paragraphs(_library(tmp_path, "topics = {}")))


def test_a_python_without_docstrings_is_refused(tmp_path):
    library = _library(tmp_path, 'topics = {"a": "Topic a."}')
    (library / "abc.py").write_text("x = 1")
    with pytest.raises(DataError, match="no docstrings"):
        list(prose_paragraphs(library))


def test_a_library_that_cannot_be_parsed_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"topics\.py cannot be read \(SyntaxError\)"):
        list(prose_paragraphs(_library(tmp_path, "topics = {")))


def test_synthetic_text_is_pinned():
    source = open_source(DataConfig(source="builtin:synthetic", max_bytes=200_000), seed=1)
    raw = b"".join(record.raw for record in source.records())
    assert hashlib.sha256(raw).hexdigest() == "db7b141921ec4a62cceae871811deb64d0c5f668a1910925af6683773a0247b4"
    assert source.details == {"version": "1", "seed": "1"}


def test_synthetic_text_is_varied_and_depends_on_the_seed():
    def texts(seed):
        source = open_source(DataConfig(source="builtin:synthetic", max_bytes=300_000), seed=seed)
        return [record.text for record in source.records()]

    first, second = texts(1), texts(-1)
    assert len(set(first)) == len(first)
    assert set(first).isdisjoint(second)
    assert len(set(" ".join(first).split())) > 1000
    assert all(text[0].isupper() and text[-1] in '."' and "  " not in text for text in first)


def test_synthetic_text_needs_an_end():
    with pytest.raises(DataError, match=r"set data\.max_bytes"):
        open_source(DataConfig(source="builtin:synthetic"), seed=1)


def test_builtin_text_can_be_read_line_by_line():
    config = DataConfig(source="builtin:synthetic", max_bytes=2_000, split="line")
    paragraphs = synthetic_paragraphs(1)
    assert all(record.text == next(paragraphs) for record in open_source(config, seed=1).records())


def test_documents_are_read_back_and_deduplicated(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "b", "a", "c", "b")))
    config = DataConfig(source="unused")
    assert list(read_documents(path, config)) == ["a", "b", "a", "c", "b"]
    assert list(read_documents(path, config.model_copy(update={"deduplicate": True}))) == ["a", "b", "c"]


def test_reading_back_tolerates_no_bad_line_and_knows_no_limit(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"one\n\ntwo\n\n")
    assert list(read_documents(path, DataConfig(source="x", max_bytes=3))) == ["one", "two"]
    path.write_bytes(b"one\n\ntwo\0\n\n")
    with pytest.raises(DataError, match=r"train\.txt: line 3"):
        list(read_documents(path, DataConfig(source="x", max_bad_lines=5)))


def test_light_commands_may_import_planting():
    heavy = "print([name for name in ('torch', 'datasets', 'pyarrow', 'scipy') if name in sys.modules])"
    program = f"import sys; import canary_audit.data.planting; {heavy}"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"


@pytest.mark.parametrize(
    ("name", "settings", "n_documents"),
    [
        ("state_union_1945_2006.txt", {}, 566),
        ("tinyshakespeare.txt", {}, 7222),
        ("tinyshakespeare.txt", {"split": "line"}, 32777),
        ("nih_exporter_abstracts.jsonl", {}, 716),
        ("uspto_backgrounds.jsonl", {}, 382),
    ],
)
def test_real_files_are_read_whole(name, settings, n_documents):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside this repository")
    records = list(open_source(DataConfig(source=str(path), **settings), seed=1).records())
    assert len(records) == n_documents
    assert b"".join(record.raw for record in records) == path.read_bytes()


def _library(folder, topics):
    (folder / "pydoc_data").mkdir()
    (folder / "pydoc_data" / "topics.py").write_text(topics)
    return folder
