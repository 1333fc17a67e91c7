"""The study as page and as Markdown: the same numbers, inert text, nothing dropped."""

import itertools
import json
import re

import numpy as np
import pytest
from page import Page
from study_factory import study_of

from canary_audit.studies.defences.plots import stacked
from canary_audit.studies.defences.report import render_html, render_markdown, summary_table
from canary_audit.studies.defences.results import DefencesStudy

HOSTILE = "</style><script>alarm()</script>\x1b[31m|::add-mask::@everyone"


@pytest.fixture(scope="module")
def study():
    return study_of()


@pytest.fixture(scope="module")
def page(study):
    return Page(render_html(study))


def test_every_defence_is_there_with_its_numbers(study, page):
    text = render_markdown(study)
    for defence in study.defences:
        assert defence.name in page.text
        assert f"`{defence.name}`" in text
    for number in ("12.0", "11.0 to 13.0", "-4.1 (-10.5 to +2.3), 2 seeds", "not comparable"):
        assert number in page.text
        assert number in text


def test_failures_and_missing_comparisons_are_told(study, page):
    for shown in (page.text, render_markdown(study)):
        assert "dropout, seed 3, failed: killed" in shown
        assert "broken, seed 1, failed: killed" in shown
        assert "3 of 3: ends at a loss that the undefended model was past after its first epoch" in shown


def test_the_paper_s_table_is_beside_ours_and_says_how_far_it_is_checked(study, page):
    for shown in (page.text, render_markdown(study)):
        assert "31.0" in shown
        assert "to be checked against the paper" in shown


def test_the_page_stands_alone_and_has_its_headings_in_order(page):
    assert page.having("script") == []
    assert all("src" not in attributes for _, attributes in page.tags)
    assert all(attributes.get("href", "#").startswith("#") for _, attributes in page.tags)
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    (plot,) = page.having("svg")
    assert "3 defences" in plot["aria-label"]  # the fourth has no run that ended


def test_hostile_text_stays_text():
    study = study_of(name=HOSTILE, source=HOSTILE, about=HOSTILE, reason=HOSTILE)
    page = Page(render_html(study))
    assert page.having("script") == []
    for shown in (page.text, render_markdown(study)):
        assert "\x1b" not in shown
        assert "::add-mask" not in shown
    outside_code = re.sub("`[^`]*`", "", render_markdown(study))
    assert "<script>" not in outside_code
    assert "@everyone" not in outside_code


def test_both_are_functions_of_the_study_alone(study):
    again = DefencesStudy.model_validate(json.loads(study.to_json()))
    assert again == study
    assert render_html(again) == render_html(study)
    assert render_markdown(again) == render_markdown(study)


def test_the_console_names_every_defence(study):
    names = list(summary_table(study).columns[0].cells)
    assert [str(name) for name in names] == [defence.name for defence in study.defences]


@pytest.mark.parametrize("seed", range(5))
def test_names_beside_the_plot_keep_apart_and_inside(seed):
    heights = list(np.random.default_rng(seed).choice([0.0, 4.0, 18.6, 19.9], size=15))
    placed = stacked(heights, 1.1, -1.0, 20.9)
    ordered = sorted(placed)
    assert all(after - before >= 1.1 - 1e-9 for before, after in itertools.pairwise(ordered))
    assert ordered[0] >= -1.0
    assert ordered[-1] <= 20.9
    for low in range(15):
        for high in range(15):
            assert heights[low] >= heights[high] or placed[low] < placed[high]
