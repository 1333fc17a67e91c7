"""The self-test holds for this program, and goes red for each mistake that would make a verdict wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from canary_audit import search as search_module
from canary_audit import selftest
from canary_audit.cli import app
from canary_audit.exposure import ranks
from canary_audit.selftest import epsilon as selftest_epsilon
from canary_audit.selftest import exposure as selftest_exposure
from canary_audit.selftest import run_selftest, selftest_json, selftest_table
from canary_audit.selftest.checks import Check
from canary_audit.statistics import one_run


def failing(*runs):
    """Names of the checks of `runs` that do not hold."""
    return [check.name for run in runs for check in run() if not check.holds]


@pytest.fixture(scope="module")
def whole():
    """(checks, what was told on the way) of one self-test."""
    calls = []
    return run_selftest(lambda what, done, total: calls.append((what, done, total))), calls


def test_this_program_passes_and_says_how_far_it_is(whole):
    checks, calls = whole
    assert [check.name for check in checks if not check.holds] == []
    assert len(checks) >= 10
    assert [done for _, done, _ in calls] == list(range(len(calls)))
    assert calls[-1][1] == calls[-1][2]


def test_the_numbers_that_others_rely_on(whole):
    content = json.loads(selftest_json(whole[0]))
    assert content.keys() == {"one_run", "exposure", "null", "checks", "holds"}
    assert content["holds"] is True
    assert [check["name"] for check in content["checks"]] == [check.name for check in whole[0]]
    assert content["one_run"].keys() == {"fixed", "grid"}
    for numbers in content["one_run"].values():
        assert numbers.keys() == {
            "violation_rate_max",
            "median_gaussian4_m1000",
            "median_gaussian4_m200",
            "median_rr1",
            "median_rr4",
        }
        assert all(type(number) is float for number in numbers.values())
        assert numbers["violation_rate_max"] <= 0.066  # 99.9 % of 2,000 runs at 5 %
    assert 0 <= content["exposure"]["bias_max"] <= 0.02
    assert 0.92 <= content["exposure"]["coverage_min"] <= 1
    assert 1e-3 < content["null"]["ks_p"] <= 1


@pytest.mark.parametrize(("holds", "exit_code"), [(True, 0), (False, 2)])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_verb_prints_one_object_or_a_table_and_fails_with_the_checks(monkeypatch, holds, exit_code, options):
    check = Check(
        name="a claim", measured="1", required="2", holds=holds, numbers={"one.two.three": 1.5, "one.four": 2}
    )
    monkeypatch.setattr(selftest, "run_selftest", lambda progress: (check,))
    ended = CliRunner().invoke(app, ["selftest", "--quiet", *options])
    assert ended.exit_code == exit_code
    if options:
        said = {"name": "a claim", "measured": "1", "required": "2", "holds": holds}
        assert json.loads(ended.stdout) == {"one": {"two": {"three": 1.5}, "four": 2}, "checks": [said], "holds": holds}


@pytest.mark.slow
def test_the_same_numbers_every_time():
    assert list(selftest_exposure.memorized_is_found()) == list(selftest_exposure.memorized_is_found())


def test_the_table_shows_what_fails():
    console = Console(width=120)
    with console.capture() as captured:
        console.print(selftest_table((Check(name="a claim", measured="1 of 2", required="all", holds=False),)))
    assert "a claim" in captured.get()
    assert "FAILS" in captured.get()


def without_the_canary_itself(leaves, n_lanes):
    return others(leaves, n_lanes) - 1.0


def without_weights(leaves, n_lanes):
    return others(replace(leaves, weights=np.ones_like(leaves.weights)), n_lanes)


others = ranks.others


@pytest.mark.slow
def test_an_estimate_that_forgets_its_weights_is_red(monkeypatch):
    monkeypatch.setattr(ranks, "others", without_weights)
    assert "estimated ranks are unbiased" in failing(selftest_exposure.estimated_ranks)


@pytest.mark.slow
def test_an_estimate_that_forgets_the_canary_itself_is_red(monkeypatch):
    monkeypatch.setattr(
        ranks, "others", lambda leaves, n_lanes: np.maximum(without_the_canary_itself(leaves, n_lanes), 0)
    )
    assert "estimated ranks are unbiased" in failing(selftest_exposure.estimated_ranks)


@pytest.mark.slow
def test_a_search_that_leaves_ties_out_is_red(monkeypatch):
    reach = search_module._reach

    def strictly_below(entries, fan, costs, thresholds, own_tokens, level):
        return reach(entries, fan, costs, np.nextafter(thresholds, -np.inf), own_tokens, level)

    monkeypatch.setattr(search_module, "_reach", strictly_below)
    assert "estimated ranks are unbiased" in failing(selftest_exposure.estimated_ranks)


def test_a_count_that_leaves_ties_out_is_red(monkeypatch):
    counted = ranks._FullRanking._counted_one

    def strictly_below(self, cost, ordered):
        below = np.searchsorted(ordered, cost, side="left")
        return replace(counted(self, cost, ordered), rank=float(below + 1))

    monkeypatch.setattr(ranks._FullRanking, "_counted_one", strictly_below)
    assert failing(selftest_exposure.exact_ranks)


@pytest.mark.parametrize(
    "mistaken", [lambda n, n_references: n / n_references, lambda n, n_references: n / (n_references + 1)]
)
def test_a_sampled_p_value_without_its_plus_one_is_red(monkeypatch, mistaken):
    monkeypatch.setattr(selftest_exposure, "sampled_p_value", mistaken)
    assert failing(selftest_exposure.null_p_values) == ["p-values from a sample of references are valid"]


def test_p_values_that_are_too_small_are_red(monkeypatch):
    monkeypatch.setattr(selftest_exposure, "exact_rank_p_value", lambda rank, size: rank / size / 2)
    assert len(failing(selftest_exposure.null_p_values, selftest_exposure.holm_errors)) == 2


def test_uncorrected_p_values_are_red(monkeypatch):
    monkeypatch.setattr(selftest_exposure, "holm", np.asarray)
    assert len(failing(selftest_exposure.holm_errors, selftest_exposure.null_is_not_found)) == 2


def test_a_one_sided_interval_of_a_proportion_is_red(monkeypatch):
    interval = selftest_exposure.clopper_pearson
    monkeypatch.setattr(
        selftest_exposure,
        "clopper_pearson",
        lambda hits, trials, confidence: interval(hits, trials, 2 * confidence - 1),
    )
    assert failing(selftest_exposure.binomial_coverage)


def test_an_empty_certificate_is_red(monkeypatch):
    """As if the beam forgot what it dropped."""
    keep_inner = search_module._keep_inner

    def forgetful(*args):
        kept, (lanes, costs) = keep_inner(*args)
        return kept, (lanes, np.full_like(costs, np.inf))

    monkeypatch.setattr(search_module, "_keep_inner", forgetful)
    assert failing(selftest_exposure.certified_extraction)


@pytest.fixture
def fewer_runs(monkeypatch):
    monkeypatch.setattr(selftest_epsilon, "_N_RUNS", 500)


def test_a_bound_that_forgets_how_many_it_chose_from_is_red(monkeypatch, fewer_runs):
    whole_error = one_run.one_run_epsilon
    monkeypatch.setattr(
        one_run,
        "one_run_epsilon",
        lambda m, r, v, *, delta, error: whole_error(m, r, v, delta=delta, error=0.05),
    )
    assert failing(selftest_epsilon.grid_of_guesses) == [
        "one-run bound (grid) exceeds the true epsilon, at the worst mechanism"
    ]


def test_a_bound_that_shows_too_little_is_red(monkeypatch, fewer_runs):
    whole_error = one_run.one_run_epsilon
    monkeypatch.setattr(
        one_run, "one_run_epsilon", lambda m, r, v, *, delta, error: whole_error(m, r, v, delta=delta, error=error / 9)
    )
    names = failing(selftest_epsilon.fixed_guesses)
    assert len(names) == 1
    assert "shows what it should" in names[0]


@pytest.mark.slow
def test_a_search_blind_to_the_memorized_secret_is_red(monkeypatch):
    monkeypatch.setattr(selftest_exposure, "memorizing", lambda model, secret, share: model)
    assert failing(selftest_exposure.memorized_is_found)
