"""Near-verbatim matching against the table of Sellers (1980), filled naively."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.matching import SEPARATORS, bare, least_edits

FEW_LETTERS = st.lists(st.sampled_from(b"ab-"), max_size=14).map(bytes)
ANY_BYTES = st.binary(max_size=12)


def naive_least_edits(secret, text):
    """Every entry of the table, one by one."""
    column = list(range(len(secret) + 1))
    fewest = column[-1]
    for byte in text:
        following = [0]
        for place, own in enumerate(secret):
            following.append(min(column[place] + (own != byte), column[place + 1] + 1, following[place] + 1))
        column = following
        fewest = min(fewest, column[-1])
    return fewest


@given(st.one_of(FEW_LETTERS, ANY_BYTES), st.one_of(FEW_LETTERS, ANY_BYTES), st.integers(-1, 15))
def test_fewest_edits_are_those_of_the_naive_table(secret, text, at_most):
    expected = naive_least_edits(secret, text)
    assert least_edits(secret, text, at_most) == (expected if expected <= at_most else None)


@given(st.binary(min_size=60, max_size=150), st.data())
def test_long_secrets_are_found_after_a_few_edits(secret, data):
    written = bytearray(secret)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(written) - 1))
        written[place : place + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=1))
    text = b"before " + bytes(written) + b" after"
    assert least_edits(secret, text, 4) == naive_least_edits(secret, text)


@given(FEW_LETTERS, FEW_LETTERS)
def test_leaving_out_separators_never_adds_edits(secret, text):
    assert naive_least_edits(bare(secret), bare(text)) <= naive_least_edits(secret, text)


@pytest.mark.parametrize(
    ("secret", "text", "edits"),
    [
        (b"281265017", b"it is 281265017.", 0),
        (b"281265017", b"it is 281266017.", 1),
        (b"281265017", b"it is 28126017.", 1),
        (b"281265017", b"it is 2812650917.", 1),
        (b"281265017", b"it is 281-265-017.", 2),
        (b"281265017", b"", None),
        (b"281265017", b"\x00\xff\xfe" * 5, None),
        (b"", b"", 0),
        (b"\x00\x00", b"a\x00b", 1),
    ],
)
def test_examples_by_hand(secret, text, edits):
    assert least_edits(secret, text, 2) == edits


def test_separators_are_left_out_and_nothing_else():
    assert bare(b"281-265 017./\n\t") == b"281265017"
    assert bare(bytes(range(256))) == bytes(byte for byte in range(256) if byte not in SEPARATORS)


def test_many_secrets_are_sought_in_many_texts_quickly():
    rng = np.random.default_rng(0)
    texts = [bytes(rng.integers(48, 58, 200, dtype=np.uint8)) for _ in range(200)]
    secrets = [bytes(rng.integers(48, 58, 9, dtype=np.uint8)) for _ in range(200)]
    started = time.process_time()
    assert any(least_edits(secret, text, 1) is None for secret in secrets for text in texts)
    found = sum(least_edits(secret, text, 1) is not None for secret in secrets for text in texts)
    assert found < len(secrets) * len(texts)
    assert time.process_time() - started < 4
