"""Word list files: what is read, and how mistakes in them are named."""

import pytest

from canary_audit.errors import SpaceError
from canary_audit.spaces import parse_space
from canary_audit.wordlists import load_word_lists


def test_a_file_of_words_is_read(tmp_path):
    (tmp_path / "ships.txt").write_bytes("argo\r\nbeagle\r\nné\r\n".encode())
    (tmp_path / "one.txt").write_text("\ufeffword", encoding="utf-8")
    lists = load_word_lists({"ships": tmp_path / "ships.txt", "one": str(tmp_path / "one.txt")})
    assert lists == {"ships": ("argo", "beagle", "né"), "one": ("word",)}
    assert parse_space("{word:ships:2}", lists).size == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the word list is empty"),
        (b"\n", "line 1: it is empty"),
        (b"a\n\nb\n", "line 2: it is empty"),
        (b"a\nb\na\n", "line 3: it repeats number 1"),
        (b"a\nb c\n", "line 2: it holds a space"),
        (b"a\tb\n", "line 1: it holds a space, a tab"),
        (b"a\x00\n", "line 1: it holds"),
        ("a\u2028b\n".encode(), "line 1: it holds"),
        (b"a\nb\n\xff\n", "line 3: not UTF-8"),
    ],
)
def test_mistakes_are_named_by_file_and_line(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=message) as caught:
        load_word_lists({"words": path})
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SpaceError, match=r"none\.txt: no such word list"):
        load_word_lists({"words": tmp_path / "none.txt"})
    with pytest.raises(SpaceError, match="cannot be read"):
        load_word_lists({"words": tmp_path})
