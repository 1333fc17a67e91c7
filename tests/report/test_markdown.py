import re
from typing import get_args

import hypothesis.strategies as st
import pytest
from hostile import PAYLOADS, assert_inert, hostile_result, served_results, unavailable_result
from hypothesis import given
from markdown_it import MarkdownIt
from shapes import SHAPES

from canary_audit.report import render
from canary_audit.report.markdown import code, escape
from canary_audit.report.sanitize import sanitize
from canary_audit.results import VerdictName

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text):
    """All block and inline tokens, in order."""
    return [inner for token in PARSER.parse(text) for inner in (token, *(token.children or ()))]


def check(text):
    assert_inert(text)
    found = tokens(text)
    kinds = {token.type for token in found}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "s_open", "em_open", "code_block"}
    headings = [token.tag for token in found if token.type == "heading_open"]
    assert headings in [["h2", *n * ["h3"]] for n in (5, 6, 7)]
    widths = _table_widths(found)
    assert all(len(set(table)) == 1 for table in widths)
    return found


def _table_widths(found):
    tables = []
    for token in found:
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append(0)
        elif token.type in {"td_open", "th_open"}:
            tables[-1][-1] += 1
    return tables


def shown(text):
    """What a reader sees."""
    return " ".join(token.content for token in tokens(text) if token.type in {"text", "code_inline", "fence"})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_audit_parses_back(shape):
    check(render(SHAPES[shape](), "markdown"))


@pytest.mark.parametrize("verdict", get_args(VerdictName))
def test_the_verdict_is_in_the_first_line(verdict, make_result):
    text = render(make_result(verdict=verdict), "markdown")
    assert text.splitlines()[0] == f"## Canary audit of `quickstart`: {verdict}"
    assert "8 of 24 judged canaries leaked." in text


def test_it_has_levels_extraction_and_how_to_reproduce(make_result):
    text = shown(render(make_result(), "markdown"))
    assert "27.9 to 29.9" in text
    assert "4 of 24 planted secrets came out" in text
    assert "canary-audit verify reports/quickstart" in text


@pytest.mark.parametrize("first", range(0, len(PAYLOADS), 3))
def test_hostile_strings_stay_text(first):
    check(render(hostile_result(first), "markdown"))
    check(render(unavailable_result(first), "markdown"))
    for result in served_results(first):
        check(render(result, "markdown"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_prose_is_shown_letter_for_letter(payload):
    text = f"- {escape(payload)}"
    assert not {token.type for token in tokens(text)} & {"link_open", "html_inline", "image", "code_inline", "em_open"}
    assert shown(text).replace("\u2060", "") == sanitize(payload).strip()
    assert not re.search(r"(?<!\\)(://|www\.)", text.replace("www\\.", ""))


@given(st.text())
def test_a_code_span_shows_any_text_in_a_table_cell(text):
    cells = [token for token in tokens(f"| a |\n| --- |\n| {code(text)} |\n") if token.type == "code_inline"]
    assert [cell.content.strip() for cell in cells] == [sanitize(text).strip()]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_prose_starts_like_a_formula_or_a_list(formula):
    assert escape(formula).startswith("\\")


def test_a_name_never_becomes_a_command_when_pasted(make_result):
    text = render(make_result(name="$(touch x); `y`"), "markdown")
    assert "canary-audit verify 'reports/$(touch x); `y`'" in text
