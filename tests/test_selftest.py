"""The self-test holds for this program, and goes red for each mistake that would make a verdict wrong."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from canary_audit import search as search_module
from canary_audit import selftest
from canary_audit.exposure import ranks
from canary_audit.selftest import Check, run_selftest, selftest_table


def failing(*runs):
    """Names of the checks of `runs` that do not hold."""
    return [check.name for run in runs for check in run() if not check.holds]


def test_this_program_passes_and_says_how_far_it_is():
    calls = []
    checks = run_selftest(lambda what, done, total: calls.append((what, done, total)))
    assert [check.name for check in checks if not check.holds] == []
    assert len(checks) >= 10
    assert [done for _, done, _ in calls] == list(range(len(calls)))
    assert calls[-1][1] == calls[-1][2]


def test_the_same_numbers_every_time():
    assert list(selftest._memorized_is_found()) == list(selftest._memorized_is_found())


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


others = ranks._others


def test_an_estimate_that_forgets_its_weights_is_red(monkeypatch):
    monkeypatch.setattr(ranks, "_others", without_weights)
    assert "estimated ranks are unbiased" in failing(selftest._estimated_ranks)


def test_an_estimate_that_forgets_the_canary_itself_is_red(monkeypatch):
    monkeypatch.setattr(
        ranks, "_others", lambda leaves, n_lanes: np.maximum(without_the_canary_itself(leaves, n_lanes), 0)
    )
    assert "estimated ranks are unbiased" in failing(selftest._estimated_ranks)


def test_a_search_that_leaves_ties_out_is_red(monkeypatch):
    reach = search_module._reach

    def strictly_below(entries, fan, costs, thresholds, own_tokens, level):
        return reach(entries, fan, costs, np.nextafter(thresholds, -np.inf), own_tokens, level)

    monkeypatch.setattr(search_module, "_reach", strictly_below)
    assert "estimated ranks are unbiased" in failing(selftest._estimated_ranks)


def test_a_count_that_leaves_ties_out_is_red(monkeypatch):
    counted = ranks._Ranking._counted

    def strictly_below(self, cost, ordered):
        below = np.searchsorted(ordered, cost, side="left")
        return replace(counted(self, cost, ordered), rank=float(below + 1))

    monkeypatch.setattr(ranks._Ranking, "_counted", strictly_below)
    assert failing(selftest._exact_ranks)


@pytest.mark.parametrize(
    "mistaken", [lambda n, n_references: n / n_references, lambda n, n_references: n / (n_references + 1)]
)
def test_a_sampled_p_value_without_its_plus_one_is_red(monkeypatch, mistaken):
    monkeypatch.setattr(selftest, "sampled_p_value", mistaken)
    assert failing(selftest._null_p_values) == ["p-values from a sample of references are valid"]


def test_p_values_that_are_too_small_are_red(monkeypatch):
    monkeypatch.setattr(selftest, "exact_rank_p_value", lambda rank, size: rank / size / 2)
    assert len(failing(selftest._null_p_values, selftest._holm_errors)) == 2


def test_uncorrected_p_values_are_red(monkeypatch):
    monkeypatch.setattr(selftest, "holm", np.asarray)
    assert len(failing(selftest._holm_errors, selftest._null_is_not_found)) == 2


def test_a_one_sided_interval_of_a_proportion_is_red(monkeypatch):
    interval = selftest.clopper_pearson
    monkeypatch.setattr(
        selftest, "clopper_pearson", lambda hits, trials, confidence: interval(hits, trials, 2 * confidence - 1)
    )
    assert failing(selftest._binomial_coverage)


def test_an_empty_certificate_is_red(monkeypatch):
    """As if the beam forgot what it dropped."""
    keep_inner = search_module._keep_inner

    def forgetful(*args):
        kept, (lanes, costs) = keep_inner(*args)
        return kept, (lanes, np.full_like(costs, np.inf))

    monkeypatch.setattr(search_module, "_keep_inner", forgetful)
    assert failing(selftest._certified_extraction)


def test_a_search_blind_to_the_memorized_secret_is_red(monkeypatch):
    monkeypatch.setattr(selftest, "memorizing", lambda model, secret, share: model)
    assert failing(selftest._memorized_is_found)
