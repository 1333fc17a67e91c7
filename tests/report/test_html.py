import itertools
import re
from typing import get_args

import pytest
from hostile import PAYLOADS, assert_inert, hostile_result, served_results, unavailable_result
from page import Page
from shapes import SHAPES

from canary_audit.report import html, render
from canary_audit.report.sanitize import sanitize
from canary_audit.results import VerdictName

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "footer"),
    *("h1", "h2", "h3", "p", "span", "strong", "a", "q", "code", "pre", "div", "ul", "li", "dl", "dt", "dd"),
    *("details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "svg", "g", "path", "defs", "use", "text", "clippath", "rect", "tspan"),
}
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def check(text: str) -> Page:
    """The demands that every page meets, whatever it shows."""
    assert_inert(text)
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= TAGS
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "action", "formaction", "srcset"}
    hrefs = [value for _, attributes in page.tags for name, value in attributes.items() if name.endswith("href")]
    assert all(value and value.startswith("#") for value in hrefs)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {value[1:] for value in hrefs if value} <= set(ids)
    _check_structure(page)
    return page


def _check_structure(page: Page) -> None:
    assert {"http-equiv": "Content-Security-Policy", "content": CSP} in page.having("meta")
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.having("svg"))
    assert page.trail.count("caption") == page.trail.count("table")
    assert all("scope" in cell for cell in page.having("th"))
    for place, tag in enumerate(page.trail):
        if tag == "svg":
            later = page.trail[place + 1 :]
            assert "table" in later
            assert "svg" not in later[: later.index("table")], "each plot has its own table"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_audit_is_a_sound_page(shape):
    page = check(render(SHAPES[shape](), "html"))
    assert page.trail.count("svg") >= (shape not in {"nothing", "text-only"}) * 1


@pytest.mark.parametrize("verdict", get_args(VerdictName))
def test_the_verdict_and_its_reasons_come_first(verdict, make_result):
    page = check(render(make_result(verdict=verdict), "html"))
    assert page.headings[0][1].startswith(verdict)
    assert page.having("body") == [{"class": verdict.lower()}]
    assert "8 of 24 judged canaries leaked." in page.text


def test_it_answers_what_a_release_manager_asks(make_result):
    text = check(render(make_result(), "html")).text
    assert "below 8.9 bits of exposure cannot be told from chance" in text
    assert "4 of 24 planted secrets came out, 4 certified, at 516 nodes in 36 model calls" in text
    assert "\N{MULTIPLICATION SIGN} 1,937,984" in text
    assert "252 seen, 252 planned" in text
    assert "canary-audit gate reports/quickstart/result.json" in text
    assert "not available: no coin-flipped canaries were planted" in text


def test_every_canary_and_level_is_in_a_table(make_result):
    result = make_result()
    text = check(render(result, "html")).text
    assert all(canary.id in text for canary in result.canaries)


def test_several_groups_have_a_plot_and_tables_each():
    page = check(render(SHAPES["several-groups"](), "html"))
    assert len(page.having("svg")) == 3
    assert "natural-1 natural secret" in page.text


def test_paper_estimates_are_labelled():
    text = check(render(SHAPES["paper-estimates"](), "html")).text
    assert "Estimators of the 2019 paper, for comparison" in text
    assert "skew normal" in text


@pytest.mark.parametrize("first", [0, 7])
def test_hostile_strings_are_shown_and_never_live(first):
    page = check(render(hostile_result(first), "html"))
    missed = [payload for payload in PAYLOADS if " ".join(sanitize(payload).split()) not in page.text]
    assert missed == []
    assert "49" not in re.findall(r"(?<![\w.])49(?![\w.])", page.text)


def test_hostile_reasons_for_what_is_missing_are_shown_and_never_live():
    page = check(render(unavailable_result(), "html"))
    assert page.text.count("not available:") >= 5


@pytest.mark.parametrize("first", [0, 9])
def test_what_a_server_says_is_shown_and_never_live(first):
    for result in served_results(first):
        page = check(render(result, "html"))
        for finding in result.endpoint.probe:
            assert " ".join(sanitize(finding.detail).split()) in page.text


def test_no_colour_is_left_that_one_theme_could_not_show(make_result):
    text = render(make_result(), "html")
    body = text[text.index("</style>") :]
    assert not re.findall(r"(?:fill|stroke): #", body)


def test_a_bare_number_in_the_template_is_refused():
    with pytest.raises(TypeError, match="float"):
        html._inert(0.1)
