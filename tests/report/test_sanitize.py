import string

import hypothesis.strategies as st
import pytest
from hostile import PAYLOADS, assert_inert
from hypothesis import given

from canary_audit.report.sanitize import sanitize


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_become_inert(payload):
    assert_inert(sanitize(payload))


@given(st.text())
def test_any_text_becomes_one_inert_line(text):
    shown = sanitize(text)
    assert_inert(shown)
    assert "\n" not in shown
    assert "::" not in shown


@given(st.text(st.characters(codec="utf-8")))
def test_sanitizing_twice_changes_nothing(text):
    assert sanitize(sanitize(text)) == sanitize(text)


@given(st.text(string.ascii_letters + string.digits + " .,-_äé中{}[]<>&'\"`|="))
def test_ordinary_text_stays_as_it_is(text):
    assert sanitize(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", r"a\nb\tc"),
        ("\x00\x1b\x7f\x9b", r"\x00\x1b\x7f\x9b"),
        ("\u202e\u2067\u2028", r"\u202e\u2067\u2028"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        (":::", r"\x3a\x3a:"),
        ("##vso[task]", r"\x23#vso[task]"),
        ("## heading, a: b", "## heading, a: b"),
    ],
)
def test_what_is_invisible_is_written_out(text, shown):
    assert sanitize(text) == shown
