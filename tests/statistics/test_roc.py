"""ROC curves against loops over thresholds; intervals against mechanisms whose truth is known."""

import math
from itertools import pairwise, product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ResultError
from canary_audit.statistics.pvalues import mann_whitney
from canary_audit.statistics.roc import LOW_FPRS, auc_interval, roc_curve, summary, tpr_at_fpr

NORMAL = NormalDist()

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


@given(scores, scores)
def test_the_curve_equals_a_loop_over_thresholds(ins, outs):
    thresholds = sorted({*ins, *outs}, reverse=True)
    curve = roc_curve(ins, outs)
    for shares, side in ((curve.fpr, outs), (curve.tpr, ins)):
        assert shares.tolist() == pytest.approx([0] + [sum(x >= t for x in side) / len(side) for t in thresholds])
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_won(ins, outs):
    won = sum((i > o) + (i == o) / 2 for i, o in product(ins, outs)) / (len(ins) * len(outs))
    auc, low, high = auc_interval(ins, outs)
    assert auc == pytest.approx(won)
    assert auc == pytest.approx(mann_whitney(ins, outs)[0])
    assert 0 <= low <= auc <= high <= 1
    curve = list(zip(roc_curve(ins, outs).fpr, roc_curve(ins, outs).tpr, strict=True))
    assert auc == pytest.approx(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve)))


@given(scores, scores)
def test_swapping_the_sides_mirrors_the_interval(ins, outs):
    auc, low, high = auc_interval(ins, outs)
    assert auc_interval(outs, ins) == pytest.approx((1 - auc, 1 - high, 1 - low), abs=1e-9)


def test_equal_scores_are_accused_together():
    curve = roc_curve([1.0, 1.0], [1.0, 0.0])
    assert list(zip(curve.fpr, curve.tpr, strict=True)) == [(0, 0), (0.5, 1), (1, 1)]
    assert tpr_at_fpr([1.0, 1.0], [1.0, 0.0], 0.1).tpr == 0


def test_hanley_and_mcneil_by_hand():
    """Both sides perfectly apart: only the variance that an AUC below one would have gives width."""
    auc, low, high = auc_interval(list(range(100, 150)), list(range(50)))
    assert (auc, high) == (1, 1)
    n_each = 49
    variance = low * (1 - low) * (1 + n_each * ((1 - low) / (2 - low) + low / (1 + low))) / 50**2
    assert 1 - low == pytest.approx(NORMAL.inv_cdf(0.975) * math.sqrt(variance), rel=1e-6)
    assert 0.95 < low < 0.97


SHIFTS = {"null": 0.0, "weak": 1.0, "strong": 2.3, "near one": 3.75}


def draws(rng, shift, n_in, n_out):
    return rng.normal(shift, 1, n_in), rng.normal(0, 1, n_out)


def fewest_expected(n_runs, coverage):
    """A correct interval covers less often in one of 10^5 runs of this test."""
    return coverage - 4.4 * math.sqrt(coverage * (1 - coverage) / n_runs)


@pytest.mark.parametrize("n", [50, 250, 1000])
@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_the_interval_of_the_area_covers_the_truth(shift, n):
    n_runs, rng = 200, np.random.default_rng(n)
    truth = NORMAL.cdf(shift / math.sqrt(2))
    intervals = [auc_interval(*draws(rng, shift, n, n)) for _ in range(n_runs)]
    assert np.mean([low <= truth <= high for _, low, high in intervals]) >= fewest_expected(n_runs, 0.94)


def test_the_interval_of_the_area_covers_what_the_usual_variance_misses():
    """Half of those in are far above all others: Hanley and McNeil's variance covers 86 % of runs with 20 and 200."""
    n_runs, rng = 400, np.random.default_rng(5)
    intervals = [
        auc_interval(rng.normal(size=20) + 10 * (rng.random(20) < 0.5), rng.normal(size=200)) for _ in range(n_runs)
    ]
    assert np.mean([low <= 0.75 <= high for _, low, high in intervals]) >= fewest_expected(n_runs, 0.94)


def at_the_low_end(n, n_runs):
    """Shift, FPR -> share of runs in which the interval of the TPR covers the truth, and its mean width."""
    rng = np.random.default_rng(n)
    found = {}
    for shift in SHIFTS.values():
        samples = [draws(rng, shift, n, n) for _ in range(n_runs)]
        for fpr in LOW_FPRS:
            truth = 1 - NORMAL.cdf(NORMAL.inv_cdf(1 - fpr) - shift)
            points = [tpr_at_fpr(*sample, fpr) for sample in samples]
            covered = np.mean([point.low <= truth <= point.high for point in points])
            found[shift, fpr] = float(covered), float(np.mean([point.high - point.low for point in points]))
    return found


@pytest.mark.parametrize("n", [50, 250, 1000])
def test_the_interval_of_the_rate_covers_the_truth(n):
    n_runs = 200
    for covered, _ in at_the_low_end(n, n_runs).values():
        assert covered >= fewest_expected(n_runs, 0.95)


def test_the_interval_narrows_with_more_scores():
    few, many = at_the_low_end(50, 20), at_the_low_end(1000, 20)
    assert all(many[case][1] < few[case][1] for case in few if case[1] == 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-2.5, -1, -0.5, 0.5, 1, 2.5])
@pytest.mark.parametrize("n", [50, 250, 1000])
def test_the_interval_covers_where_scores_crowd_at_the_threshold(n, offset):
    """Nine in ten of those in score the same, so many standard deviations from the threshold."""
    n_runs, rng, fpr = 400, np.random.default_rng(7), 0.1
    crowd = 1 - fpr + offset * math.sqrt(fpr * (1 - fpr) / n)
    truth = 0.1 * fpr + 0.9 * (offset > 0)
    covered = 0
    for _ in range(n_runs):
        ins = np.where(rng.random(n) < 0.9, crowd, rng.random(n))
        point = tpr_at_fpr(ins, rng.random(n), fpr)
        covered += point.low <= truth <= point.high
    assert covered / n_runs >= fewest_expected(n_runs, 0.95)


def test_a_rate_that_the_controls_cannot_resolve_has_no_lower_end():
    ins = [10.0] * 100
    assert tpr_at_fpr(ins, list(range(9)), 0.1).low == 0  # perfectly apart, but ten controls in a hundred may be above
    needed = math.ceil(math.log(1 / 0.0125) / math.log(1 / 0.99))
    apart = tpr_at_fpr([1e6] * 100, list(range(needed)), 0.01)
    assert apart.low == pytest.approx(0.0125 ** (1 / 100))
    assert tpr_at_fpr([1e6] * 100, list(range(needed - 1)), 0.01).low == 0


@given(scores, scores, st.sampled_from(LOW_FPRS))
def test_the_rate_lies_in_its_interval_and_on_the_curve(ins, outs, fpr):
    point = tpr_at_fpr(ins, outs, fpr)
    assert 0 <= point.low <= point.tpr <= point.high <= 1
    curve = roc_curve(ins, outs)
    assert point.tpr == curve.tpr[curve.fpr <= fpr].max()


def test_conditioning_on_the_threshold_would_not_cover():
    """Why the controls' noise must be in: without it, 95 % becomes about 62 % at 1 %."""
    n, n_runs, rng, truth = 1000, 300, np.random.default_rng(3), 1 - NORMAL.cdf(NORMAL.inv_cdf(0.99) - 1)
    conditioned = full = 0
    for _ in range(n_runs):
        point = tpr_at_fpr(*draws(rng, 1.0, n, n), 0.01)
        deviation = 2 * math.sqrt(point.tpr * (1 - point.tpr) / n)
        conditioned += abs(point.tpr - truth) <= deviation
        full += point.low <= truth <= point.high
    assert conditioned / n_runs < 0.8
    assert full / n_runs > 0.93


def test_a_summary_is_whole_and_thinned():
    rng = np.random.default_rng(1)
    ins, outs = draws(rng, 1.0, 900, 1100)
    found = summary(ins, outs, sample="rows", score="loss", primary=True)
    assert (found.n_in, found.n_out, found.sample, found.primary) == (900, 1100, "rows", True)
    assert (found.auc, found.auc_low, found.auc_high) == auc_interval(ins, outs)
    assert [point.fpr for point in found.operating_points] == list(LOW_FPRS)
    assert 100 < len(found.roc) <= 200
    assert (found.roc[0], found.roc[-1]) == ((0, 0), (1, 1))
    curve = roc_curve(ins, outs)
    assert set(found.roc) <= set(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(found.roc))
    assert area == pytest.approx(found.auc, abs=0.01)
    assert list(found.roc) == sorted(found.roc)
    assert sum(0 < fpr < 0.02 for fpr, _ in found.roc) >= 10


@pytest.mark.parametrize(("ins", "outs"), [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])])
def test_missing_and_impossible_scores_are_refused(ins, outs):
    for measure in (roc_curve, auc_interval, lambda a, b: tpr_at_fpr(a, b, 0.1)):
        with pytest.raises(ResultError, match="cannot compare"):
            measure(ins, outs)


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, math.nan])
def test_an_impossible_rate_is_refused(fpr):
    with pytest.raises(ResultError, match="impossible"):
        tpr_at_fpr([1.0], [0.0], fpr)
