"""What the reports say about epsilon and membership, and that they say it exactly."""

import io
import re

import pytest
import result_factory as factory
from page import Page
from rich.console import Console
from shapes import SHAPES

from canary_audit.report import facts, membership, privacy, render
from canary_audit.report.terminal import summary
from canary_audit.results import NotAvailable, Reason

NONE = NotAvailable(not_available="trained without differential privacy")


def private(**changes):
    return factory.make_result(**({"epsilon": factory.make_private_epsilon()} | changes))


def printed(result):
    file = io.StringIO()
    Console(file=file, width=400).print(summary(result))
    return file.getvalue()


def section(page, start, end):
    return re.search(f'<section aria-labelledby="{start}">(.*?)<section aria-labelledby="{end}">', page, re.DOTALL)[1]


def test_accounted_audited_and_ceiling_stand_side_by_side():
    accounted, audited, ceiling = privacy.three_numbers(private().epsilon)
    assert (accounted.value, accounted.unit) == ("5.30", "or less")
    assert accounted.note == "for a row of up to 64 tokens, delta 1.0e-5"
    assert (audited.value, audited.unit) == (f"{private().epsilon.lower_bound:.2f}", "or more")
    assert (ceiling.value, ceiling.unit) == (f"{private().epsilon.ceiling:.2f}", "at most")


def test_every_number_that_an_epsilon_is_read_with_is_there():
    text = Page(render(private(), "html")).text
    for expected in (
        "Unit a row of up to 64 tokens",
        "Delta 1.0e-5",
        "q = 0.0125 a step",
        "640, 0 of them noise only",
        "0.7 times the clip norm of 1",
        "Accountant PRV",
        "Sampling Poisson",
        "Guesses 300 right of 500",
        "Confidence 95 %",
        "Membership score loss",
        "Neither is a leak by itself",
        "Canaries of random tokens audit epsilon",
    ):
        assert expected in text


def test_bounds_that_assume_something_say_so():
    rows = {row.method: row.assumption for row in privacy.bound_rows(private().epsilon)}
    assert next(iter(rows.values())) == "none"
    assert rows["one run, Gaussian trade-off curve"] == "the mechanism reveals no more than Gaussian noise"
    assert rows["Clopper-Pearson on both error rates"] == "canaries are scored independently of each other"


def test_repeated_canaries_are_explained_by_group_privacy():
    rows = {row.insertions: row for row in privacy.group_rows(private())}
    assert (rows[1].epsilon, rows[1].delta, rows[1].allowed) == ("5.30", "1.0e-5", "12.0")
    assert (rows[2].epsilon, rows[2].allowed) == ("10.60", "19.7")
    assert (rows[32].epsilon, rows[32].delta, rows[32].allowed) == ("170", "1", "any: no promise")
    assert rows[32].median_bits == pytest.approx(28.6, abs=0.05)
    assert 0 not in rows


def test_an_exposure_beyond_the_space_is_no_promise():
    """At epsilon 20 and no delta to speak of, 33 bits are allowed: more than a canary of 29.9 bits can show."""
    weak = factory.make_private_epsilon(accounting=factory.make_accounting(epsilon=20.0, delta=1e-30))
    assert privacy.group_rows(private(epsilon=weak))[0].allowed == "any: no promise"


def test_no_group_privacy_without_a_promise():
    assert privacy.group_rows(factory.make_result()) == ()
    assert privacy.group_rows(private(epsilon=factory.make_epsilon())) == ()


def test_neither_promise_nor_coins_is_one_sentence():
    text = section(render(factory.make_result(), "html"), "privacy", "checks")
    assert text.count("<p>") == 1
    assert "<table" not in text
    assert "<dl" not in text


def test_many_scores_are_folded_away():
    text = section(render(private(), "html"), "privacy", "checks")
    folded = re.search("<details>(.*?)</details>", text, re.DOTALL)[1]
    assert folded.count("<tr>") == 501
    assert "500 scores of coin-flipped canaries" in folded


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_promise_that_nobody_held_against_anything_says_so(format):
    page = render(SHAPES["promise-without-coins"](), format)
    assert "5.30" in page
    assert "no coin" in page


def test_the_audited_epsilon_is_a_key_figure_where_there_is_one():
    labels = [figure.label for figure in facts.key_figures(private())]
    assert labels[-1] == "Audited epsilon"
    assert "Audited epsilon" not in [figure.label for figure in facts.key_figures(factory.make_result())]
    limited = private(policy=factory.make_policy(max_epsilon=2.0))
    note = facts.key_figures(limited)[-1].note
    assert "promised: 5.30; policy maximum 2.00" in note
    unpromised = facts.key_figures(private(epsilon=factory.make_epsilon()))[-1].note
    assert "promised: nothing; policy sets no maximum" in unpromised


def test_the_terminal_says_it_in_one_line():
    (line,) = [line for line in printed(private()).splitlines() if line.startswith("Epsilon")]
    assert "5.30 promised for a row of up to 64 tokens (delta 1.0e-5)" in line
    assert "or more (95 % confidence)" in line
    assert "not audited" in printed(private(epsilon=factory.make_private_epsilon(0, 0)))
    assert "no promise" in printed(private(epsilon=factory.make_epsilon()))
    assert "Epsilon" not in printed(factory.make_result())


@pytest.mark.parametrize(
    ("verdict", "codes", "expected"),
    [
        ("FAIL", ["extracted", "claim-refuted"], "gives away secrets"),
        ("FAIL", ["claim-refuted"], "less private than its training promises"),
        ("FAIL", ["claim-refuted", "epsilon"], "less private than its training promises"),
        ("FAIL", ["epsilon"], "less private than the policy asks for"),
        ("PASS", ["no-leak", "epsilon-within"], "No planted secret leaked"),
        ("PASS", ["epsilon-within"], "Epsilon was not shown to exceed the policy"),
        ("INCONCLUSIVE", ["no-power"], "neither clear"),
        ("ERROR", ["epsilon"], "nothing to judge"),
    ],
)
def test_a_headline_never_calls_an_epsilon_a_leak(verdict, codes, expected):
    reasons = tuple(Reason(code=code, message="why") for code in codes)
    assert expected in facts.headline(private(verdict=verdict, reasons=reasons))


# --- membership ----------------------------------------------------------------------------------------------------


def test_the_primary_score_comes_first_and_is_marked():
    (canaries, rows) = membership.tables(SHAPES["private"]())
    assert [row.score for row in canaries.rows] == ["loss", "zlib", "reference", "min-k++", "ez-mia"]
    assert [row.primary for row in canaries.rows] == [True, False, False, False, False]
    assert canaries.fprs == ("0.1 %", "1 %", "10 %")
    assert [row.score for row in rows.rows] == ["loss"]


def test_rates_stand_with_their_intervals():
    scored = factory.make_result(membership=(factory.make_membership(),))
    (row,) = membership.tables(scored)[0].rows
    assert str(row.auc) == "0.667 (0.617 to 0.717)"
    assert [str(rate) for rate in row.rates] == [
        "3.2 % (1.1 % to 6.3 %)",
        "10 % (3.3 % to 20 %)",
        "31.6 % (10.5 % to 63.2 %)",
    ]


def test_a_rate_that_one_score_lacks_is_not_invented():
    whole = factory.make_membership()
    part = factory.make_membership("zlib", primary=False).model_copy(update={"operating_points": ()})
    table = membership.tables(factory.make_result(membership=(whole, part)))[0]
    assert [rate.value for rate in table.rows[1].rates] == 3 * ["not measured"]
    assert Page(render(factory.make_result(membership=(part,)), "html")).text


def test_every_sample_has_a_plot_and_a_table():
    page = Page(render(SHAPES["private"](), "html"))
    plots = [svg["aria-label"] for svg in page.having("svg")]
    assert sum(label.startswith("ROC curves of ") for label in plots) == 2
    assert any("5 membership scores" in label for label in plots)
    assert "loss (primary), AUC 0.77" in page.text


def test_no_membership_scores_no_section():
    page = render(factory.make_result(), "html")
    assert 'id="membership"' not in page
    assert "Membership inference" not in render(factory.make_result(), "markdown")


def test_a_curve_of_very_few_canaries_is_drawn():
    two = factory.make_membership().model_copy(update={"n_in": 1, "n_out": 1, "roc": ((0.0, 1.0), (1.0, 1.0))})
    none = factory.make_membership("zlib", primary=False).model_copy(update={"roc": ()})
    assert Page(render(factory.make_result(membership=(two, none)), "html")).having("svg")
