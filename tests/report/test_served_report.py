"""What the reports say of a served model: how it was reached, and what is not known of it."""

import io
import re

import pytest
import result_factory as factory
from page import Page
from rich.console import Console
from shapes import SHAPES

from canary_audit.report import access, extracted, facts, render
from canary_audit.report.numbers import DASH
from canary_audit.report.terminal import summary
from canary_audit.results import NotAvailable

TIERS = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")


def page_of(shape):
    return Page(render(SHAPES[shape](), "html")).text


def printed(shape):
    file = io.StringIO()
    Console(file=file, width=400).print(summary(SHAPES[shape]()))
    return file.getvalue()


def rows(html, caption):
    """Cells of each row of the table with this caption."""
    table = re.search(rf"<caption>{re.escape(caption)}.*?</table>", html, re.DOTALL)[0]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("<tr>")[2:]]


# --- how it was reached --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_every_format_says_how_the_model_was_reached(tier):
    text = page_of(tier)
    assert "Address http://127.0.0.1:8000" in text
    assert f"Tier {tier}: {access.TIERS[tier]}" in text
    assert "Noise floor 2.0e-7 nats" in text
    assert "temperature no log-probabilities change with temperature" in text
    markdown = render(SHAPES[tier](), "markdown")
    assert "### How the model was reached" in markdown
    assert "| `temperature` | no | log-probabilities change with temperature |" in markdown
    assert f"Reached at http://127.0.0.1:8000 ({'chat' if tier == 'text-only' else 'vllm'}, {tier})" in printed(tier)


def test_a_model_that_ran_here_has_no_such_section():
    assert 'id="access"' not in render(factory.make_result(), "html")
    assert "reached" not in render(factory.make_result(), "markdown")
    assert "Reached" not in printed("leaking")


def test_a_budget_that_ended_the_measurement_is_told():
    assert "spent: it ended the measurement" in page_of("prompt-logprobs")
    assert "the budget ended the measurement" in printed("prompt-logprobs")
    assert "Requests answered 20,000 of 20,000 at most" in page_of("prompt-logprobs")
    assert "not spent" in page_of("top-k")
    unlimited = NotAvailable(not_available="no limit was set")
    result = factory.make_served_result(endpoint=factory.make_endpoint(max_calls=unlimited))
    assert dict(access.endpoint_facts(result, result.endpoint))["Budget"] == "none was set"


def test_it_is_measured_anew_at_the_same_address():
    result = factory.make_served_result(endpoint=factory.make_endpoint(url="http://a/$(touch x)"))
    assert "--endpoint 'http://a/$(touch x)'" in facts.reproduce(result)[-1]


# --- what is not known ---------------------------------------------------------------------------------------------


def test_an_interval_without_a_point_value_is_shown_as_such():
    (cells,) = [row for row in rows(render(SHAPES["top-k"](), "html"), "Exposure, certificate") if "02x-1" in row[0]]
    assert cells[2] == DASH
    assert re.sub("<.*?>", " ", cells[3]).split() == ["3.7", "to", "13.7", "not", "known", "closer"]
    assert cells[4].startswith("\u2264 ")
    assert cells[5].startswith("bounded")


def test_the_plot_has_no_dot_where_there_is_no_point_value():
    """Matplotlib writes each marker as a `use` element; median bars and whiskers are paths."""
    dots = {name: render(SHAPES[name](), "html").split("</svg>")[0].count("<use") for name in ("leaking", "top-k")}
    known = [c for c in SHAPES["top-k"]().canaries if not isinstance(c.exposure.bits, NotAvailable)]
    assert dots["leaking"] - dots["top-k"] == len(SHAPES["leaking"]().canaries) - len(known)
    assert "nothing closer is known" in page_of("top-k")
    assert "nothing closer is known" not in page_of("leaking")


def test_a_median_that_is_not_known_is_a_dash_with_its_reason():
    reason = "a token lay outside the likeliest 20"
    (level, *_) = rows(render(SHAPES["top-k"](), "html"), "Exposure by number of insertions")
    assert level[2] == DASH
    for text in (page_of("top-k"), render(SHAPES["top-k"](), "markdown"), printed("top-k")):
        assert f"{DASH} not available: {reason}" in text
    assert DASH not in printed("leaking")


def test_a_group_without_exposures_has_a_table_and_no_plot():
    html = render(SHAPES["served-groups"](), "html")
    assert html.count("<svg") == 1
    assert "Exposure is not available: the reason it is missing" in html
    assert len(rows(html, "Extraction by number of insertions, group word")[0]) == 4


# --- text alone ----------------------------------------------------------------------------------------------------


def test_what_was_written_is_counted():
    html = render(SHAPES["text-only"](), "html")
    came_out = rows(html, "Secrets that came out")
    assert [row[2:] for row in came_out] == [
        ["verbatim", "121 of 200", "53.4 % to 67.3 %", "yes", "1"],
        ["verbatim", "33 of 200", "11.6 % to 22.4 %", "no", "4"],
        ["with 1 edit", "0 of 200", "0 % to 1.8 %", "no", DASH],
    ]
    assert "<svg" not in html
    assert "3 of 24 planted secrets came out, in 200 continuations of each prefix" in printed("text-only")
    assert "| `number-32x-2` | 32 | with 1 edit | 0 of 200 |" in render(SHAPES["text-only"](), "markdown")


def test_a_canary_whose_model_was_not_asked_to_write_has_dashes():
    row = extracted.written_row(factory.make_extraction(3))
    assert (row.came_out, row.hits, row.rate, row.greedy) == ("verbatim", DASH, DASH, DASH)


def test_a_level_shows_the_share_that_came_out_with_its_interval():
    assert "3 of 4 (19.4 % to 99.4 %)" in printed("text-only")
    assert "4 of 4 (39.8 % to 100 %)" in render(factory.make_result(), "markdown")


def test_every_canary_shows_how_often_to_try():
    html = render(factory.make_result(), "html")
    assert [row[-1] for row in rows(html, "Secrets that came out")] == ["2", "4", "6", "8"]
    assert rows(html, "Secrets that did not come out")[0][-1] == "4.2e7"
    assert DASH not in Page(html).text


# --- no policy -----------------------------------------------------------------------------------------------------


def test_without_a_policy_every_fact_says_so():
    result = SHAPES["not-judged"]()
    notes = [figure.note for figure in facts.key_figures(result) if figure.label != "Positive control"]
    assert all("no policy" in note for note in notes)
    assert len(notes) == 4
    assert facts.headline(result) == "This audit measured; no policy has judged it yet."
    text = page_of("not-judged")
    assert "policy maximum" not in text
    assert "No policy, so no alpha" in text
    assert "Policy not available: the audit only measured" in text
    assert "policy not available" in render(result, "markdown")


def test_a_positive_control_without_a_policy_has_no_limit():
    nothing = NotAvailable(not_available="the audit only measured")
    result = factory.make_clean_result(policy=nothing, policy_sha256=nothing)
    assert facts.key_figures(result)[3].note == "p = 1.0e-8; no policy"
