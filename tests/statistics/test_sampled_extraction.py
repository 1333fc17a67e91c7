"""What written texts say about a secret: counts against enumeration, and p-values that hold whatever is written."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.matching import bare, least_edits
from canary_audit.results import NotAvailable
from canary_audit.spaces import parse_space
from canary_audit.statistics import sampled_extraction as counting
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.sampled_extraction import (
    count_nearly_written,
    count_written,
    sampled_extraction,
    samples_for_even_odds,
    written_p_value,
)

SMALL = ("{digit:3}", "{digit:1..3}", "{word:colors:2}", "{digit:2}-{upper:1}", "no {digit:2}", "{word:days} {digit:1}")
PIECES = st.sampled_from(
    ["1", "2", "12", "340", "-", " ", ".", "A", "red", "blue", "re", "Monday", "Mon", "no", "é", "\0"]
)
TEXTS = st.lists(st.lists(PIECES, max_size=12).map("".join).map(str.encode), max_size=4)


def every_secret(space):
    return [space.secret(index) for index in range(space.size)]


def spaces():
    lists = {"colors": ("red", "blue", "green"), "days": ("Monday", "Tuesday")}
    return st.sampled_from(SMALL).map(lambda format: parse_space(format, lists))


@given(spaces(), TEXTS)
def test_written_secrets_are_counted_exactly(space, texts):
    expected = sum(any(secret in text for text in texts) for secret in every_secret(space))
    assert count_written(space, texts) == expected


@settings(max_examples=60)
@given(spaces(), TEXTS, st.integers(0, 2))
def test_nearly_written_secrets_are_never_counted_too_few(space, texts, edits):
    texts = [bare(text) for text in texts]
    near = sum(
        any(least_edits(bare(secret), text, edits) is not None for text in texts)
        for secret in every_secret(space)
        if len(bare(secret)) > edits  # others are near to every text, and never sought
    )
    assert near <= count_nearly_written(space, texts, edits) <= space.size


@given(st.lists(st.text("0123456789", max_size=30).map(str.encode), max_size=5))
def test_without_edits_the_count_is_exact_where_secrets_have_one_length_and_no_separators(texts):
    space = parse_space("{digit:3}")
    assert count_nearly_written(space, texts, 0) == count_written(space, texts)


@pytest.mark.parametrize("text", [b"abcdeXfghij", b"abcdeghij", b"abcdeXghij"], ids=["put in", "left out", "replaced"])
def test_each_kind_of_edit_is_counted(text):
    space = parse_space("{word:two}", {"two": ("abcdefghij", "0123456789")})
    assert [count_nearly_written(space, [text], edits) for edits in (0, 1)] == [0, 1]
    assert count_nearly_written(space, [text[:5], text[5:]], 1) == 0


def test_a_text_that_comes_again_is_counted_once():
    space = parse_space("{digit:12}")
    once = count_nearly_written(space, [b"281265017344"], 1)
    assert once < 12 * 10 + 13 * 10 + 12 * 10
    assert count_nearly_written(space, [b"281265017344", b"x281265017344"], 1) < 2 * once
    assert count_nearly_written(space, [b"281265017344"] * 500, 1) == once


def test_one_edit_leaves_few_secrets_of_a_large_space():
    space = parse_space("{digit:16}")
    texts = [bytes(np.random.default_rng(seed).integers(48, 58, 40, dtype=np.uint8)) for seed in range(50)]
    windows = 50 * 27
    assert windows * 16 * 9 < count_nearly_written(space, texts, 1) < 4 * windows * 16 * 9


def test_long_texts_are_counted_in_pieces_alike(monkeypatch):
    space = parse_space("{digit:3}-{upper:2}")
    texts = [bytes(random.Random(seed).choices(b"0123ABC", k=20)) for seed in range(20)]
    whole = count_nearly_written(space, texts, 2)
    monkeypatch.setattr(counting, "_CHUNK_BYTES", 1)
    assert count_nearly_written(space, texts, 2) == whole


def test_what_takes_too_long_to_count_is_bounded_by_the_whole_space(monkeypatch):
    space = parse_space("{word:english:4}")
    monkeypatch.setattr(counting, "_MOST_WORK", 1_000)
    assert count_nearly_written(space, [b"the quick brown fox" * 3], 1) == space.size


def test_more_ways_than_a_float_holds_are_bounded_by_the_whole_space():
    """Nearly every one of the 2,000 characters may be any of the separators."""
    space = parse_space("{password:2000}")
    assert count_nearly_written(space, [b"aaa"], 0) == space.size


def test_a_p_value_is_the_share_of_the_space():
    assert written_p_value(5, 1_000) == 0.005
    assert written_p_value(2_000, 1_000) == 1.0
    assert written_p_value(1, 2**2_000) == 0.0
    with pytest.raises(ResultError, match="one was seen"):
        written_p_value(0, 1_000)


@given(st.integers(1, 300), st.data())
def test_samples_carry_the_interval_of_their_chance(n_samples, data):
    hits = data.draw(st.integers(0, n_samples))
    found = sampled_extraction(hits, n_samples, greedy=True)
    assert (found.rate_low, found.rate_high) == clopper_pearson(hits, n_samples, 0.95)


def test_without_samples_nothing_is_known_of_the_chance():
    found = sampled_extraction(0, 0, greedy=False)
    assert (found.rate_low, found.rate_high) == (0.0, 1.0)
    with pytest.raises(ResultError, match="impossible"):
        sampled_extraction(1, 0, greedy=False)


def test_samples_for_even_odds():
    assert samples_for_even_odds(20, 20) == 1.0
    assert samples_for_even_odds(10, 20) == 1.0
    assert samples_for_even_odds(1, 200) == pytest.approx(np.log(0.5) / np.log(1 - 1 / 200))
    assert isinstance(samples_for_even_odds(0, 200), NotAvailable)
    with pytest.raises(ResultError, match="impossible"):
        samples_for_even_odds(3, 2)
