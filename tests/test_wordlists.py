"""Word list files: what is read, and how mistakes in them are named."""

import pytest

from canary_audit.errors import SpaceError
from canary_audit.formats import named_lists
from canary_audit.spaces import parse_space
from canary_audit.wordlists import find_mistake, load_word_lists, stand_ins


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


@pytest.mark.parametrize("name", ["tokens", "sampled"])
def test_names_of_generated_lists_are_kept_for_them(tmp_path, name):
    (tmp_path / "words.txt").write_text("argo\nbeagle\n")
    with pytest.raises(SpaceError, match=f"word list '{name}': this name is kept for a list made from the model"):
        load_word_lists({name: tmp_path / "words.txt"})
    with pytest.raises(SpaceError, match=f"the list '{name}' is made from the model"):
        parse_space(f"{{word:{name}}}")


@pytest.mark.parametrize("text", ["one", "one two", "it's 5 o'clock.", "é ü"])
def test_a_list_of_texts_holds_single_inner_spaces(text):
    assert find_mistake([text], texts=True) is None


@pytest.mark.parametrize(
    "text", ["", " ", " one", "one ", "one  two", "one\ttwo", "one\u00a0two", "one\ntwo", "a\x00b"]
)
def test_and_no_other_space(text):
    place, _ = find_mistake(["fine text", text], texts=True)
    assert place == 2


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("{word:tokens:24}", {"tokens"}),
        ("{{word:x}} {digit:3}{word:^sampled}-{word:english:2}", {"sampled", "english"}),
        ("{word} {name} {word:", set()),
        ("", set()),
    ],
)
def test_a_format_tells_the_lists_it_names(format, names):
    assert named_lists(format) == names


@pytest.mark.parametrize("n_canaries", [1, 6, 7, 500, 5_001])
def test_stand_ins_are_as_large_as_they_must_be_and_need_no_suffix(n_canaries):
    lists = stand_ins({"tokens": n_canaries, "sampled": n_canaries})
    assert len(lists["tokens"]) == 32
    assert len(lists["sampled"]) >= max(2.5 * n_canaries, 2 * n_canaries)
    for name, words in lists.items():
        assert len(set(words)) == len(words)
        assert find_mistake(words) is None
        assert parse_space(f"{{word:{name}}}", lists).prefix_free
    assert stand_ins({}) == {}
