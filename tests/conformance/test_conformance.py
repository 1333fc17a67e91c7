"""Numbers of other tools, reproduced: cases of `epsilon.json` and `statistics.json`, each with its source.

Peers choose thresholds on the hull of the ROC curve and correct for all of them; we fix the number of guesses instead.
So their bounds are rebuilt here, from their thresholds and our p-values.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from canary_audit.exposure.references import _exposure_under
from canary_audit.statistics.confusion import Confusion, clopper_pearson_epsilon
from canary_audit.statistics.gaussian_dp import gaussian_delta, gaussian_epsilon, one_run_mu
from canary_audit.statistics.one_run import one_run_epsilon, one_run_p_value
from canary_audit.statistics.pvalues import mann_whitney

CASES = [
    case
    for name in ("statistics.json", "epsilon.json")
    for case in json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
]


def cases(kind):
    chosen = [case for case in CASES if case["kind"] == kind]
    assert chosen
    return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])


def test_every_case_says_where_it_is_from():
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert all(case.keys() == {"id", "kind", "given", "expect", "tol", "source"} for case in CASES)


@cases("one_run_p_value")
def test_one_run_p_value(case):
    given = case["given"]
    p_value = one_run_p_value(given["m"], given["n_guess"], given["n_correct"], given["eps"], given["delta"])
    assert p_value == pytest.approx(case["expect"], abs=case["tol"])


@cases("gaussian_eps")
def test_gaussian_epsilon(case):
    epsilon = gaussian_epsilon(case["given"]["mu"], case["given"]["delta"])
    assert epsilon == pytest.approx(case["expect"], abs=case["tol"])


@cases("gaussian_delta")
def test_gaussian_delta(case):
    delta = gaussian_delta(case["given"]["eps"], 1 / case["given"]["noise"])
    assert delta == pytest.approx(case["expect"], abs=case["tol"])


@cases("eps_clopper_pearson")
def test_clopper_pearson_epsilon(case):
    given = case["given"]
    table = Confusion(
        true_positives=given["tp"],
        n_positives=given["tp"] + given["fn"],
        false_positives=given["fp"],
        n_negatives=given["fp"] + given["tn"],
    )
    assert clopper_pearson_epsilon(table, delta=0.0, error=given["alpha"]) == pytest.approx(case["expect"], abs=1e-9)


@cases("exposure_skewnorm")
def test_exposure_under_a_skew_normal(case):
    given = case["given"]
    bits = _exposure_under((given["a"], given["loc"], given["scale"]), np.array(given["x"]))
    np.testing.assert_allclose(bits, case["expect"], atol=case["tol"])


def test_area_under_a_circle():
    (case,) = (case for case in CASES if case["id"] == "auroc-circ")
    out_scores = np.linspace(0, 1, 10_000)
    auc, _ = mann_whitney(np.sqrt(1 - out_scores**2), out_scores)
    assert auc == pytest.approx(case["expect"], abs=case["tol"])


# --- bounds at every threshold of the hull -------------------------------------------------------------------------


def hull(in_scores, out_scores):
    """(threshold, left-out scores below it, inserted scores below it) on the upper hull of the two counts."""
    in_scores, out_scores = np.sort(in_scores), np.sort(out_scores)
    corners = []
    for threshold in [*np.union1d(in_scores, out_scores).tolist(), math.inf]:
        below_in, below_out = (int(np.searchsorted(side, threshold)) for side in (in_scores, out_scores))
        while len(corners) > 1 and not turns_right(corners[-2][1:], corners[-1][1:], (below_out, below_in)):
            corners.pop()
        corners.append((threshold, below_out, below_in))
    return corners


def turns_right(first, middle, last):
    """Whether the middle corner, of (left-out, inserted), lies above the line from first to last."""
    rise, run = middle[0] - first[0], middle[1] - first[1]
    return rise * (last[1] - middle[1]) > (last[0] - middle[0]) * run


@cases("tn_fn_hull")
def test_the_hull_that_the_bounds_rest_on(case):
    corners = hull(np.array(case["given"]["inn"]), np.array(case["given"]["out"]))
    thresholds = [math.inf if value == "inf" else value for value in case["expect"]["thresholds"]]
    assert [list(column) for column in zip(*corners, strict=True)] == [
        thresholds,
        case["expect"]["tn"],
        case["expect"]["fn"],
    ]


def guesses_of(given):
    """(guesses, right ones) at every threshold of the hull: all canaries from there up are guessed to be in."""
    n = given["n_in"]
    assert given["n_out"] == n
    out_scores = special.ndtri((np.arange(n) + 0.5) / n)
    corners = hull(out_scores + given["shift"], out_scores)
    return [(2 * n - below_out - below_in, n - below_in) for _, below_out, below_in in corners]


@cases("eps_one_run_bonferroni_hull")
def test_one_run_bound_at_the_best_threshold(case):
    given = case["given"]
    pairs = guesses_of(given)
    error, n_canaries = given["significance"] / len(pairs), given["n_in"] + given["n_out"]
    best = 0.0
    for guesses, correct in np.random.default_rng(0).permutation(pairs).tolist():  # few raise the best so far
        if guesses and one_run_p_value(n_canaries, guesses, correct, best, given["delta"]) < error:
            best = one_run_epsilon(n_canaries, guesses, correct, delta=given["delta"], error=error)
    assert best == pytest.approx(case["expect"], abs=case["tol"])


@pytest.mark.slow
@cases("eps_one_run_fdp_bonferroni_hull")
def test_f_dp_bound_at_the_best_threshold(case):
    given = case["given"]
    pairs = guesses_of(given)
    error, n_canaries = given["significance"] / len(pairs), given["n_in"] + given["n_out"]
    most_mu = max(one_run_mu(n_canaries, guesses, correct, error=error) for guesses, correct in pairs if guesses)
    assert gaussian_epsilon(most_mu, given["delta"]) == pytest.approx(case["expect"], abs=case["tol"])
