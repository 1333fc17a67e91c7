"""Comparison at equal loss, against hand-made trainings whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats
from study_factory import epochs_of, run_of

from canary_audit.results import EpochResult, NotAvailable
from canary_audit.studies.defences.matched import exposure_at_loss, matched_change, mean_interval

DOWN_AND_UP = epochs_of((3.0, 2.0), (2.5, 6.0), (2.0, 10.0), (2.2, 14.0))


@pytest.mark.parametrize(
    ("loss", "bits"),
    [
        (3.0, 2.0),  # at an epoch
        (2.75, 4.0),  # half way between two
        (2.5, 6.0),
        (2.1, 9.2),
        (2.0, 10.0),  # at the least loss
        (2.2, 8.4),  # on the way down, not at the last epoch, where the loss had risen again
        (1.995, 10.0),  # as good as the least
        (3.005, 2.0),  # as good as the first
    ],
)
def test_the_loss_is_met_on_the_way_down(loss, bits):
    assert exposure_at_loss(DOWN_AND_UP, "8", loss) == pytest.approx(bits)


@pytest.mark.parametrize(("loss", "says"), [(1.9, "lower loss"), (3.5, "first epoch")])
def test_a_loss_that_training_never_had_is_not_compared(loss, says):
    found = exposure_at_loss(DOWN_AND_UP, "8", loss)
    assert isinstance(found, NotAvailable)
    assert says in found.not_available


def test_a_wiggle_is_crossed_where_it_is_first_crossed():
    wiggly = epochs_of((3.0, 0.0), (2.4, 6.0), (2.6, 8.0), (2.0, 20.0))
    assert exposure_at_loss(wiggly, "8", 2.5) == pytest.approx(5.0)
    assert exposure_at_loss(wiggly, "8", 2.3) == pytest.approx(14.0)


def test_an_untracked_training_is_not_compared():
    epoch = EpochResult(
        epoch=1,
        training_bits_per_token=3.0,
        validation_bits_per_char=NotAvailable(not_available="nothing held out"),
        exposure_by_level={"8": 1.0},
    )
    assert isinstance(exposure_at_loss([epoch], "8", 2.0), NotAvailable)
    assert isinstance(exposure_at_loss(DOWN_AND_UP, "4", 2.5), NotAvailable)


def test_the_undefended_run_does_not_differ_from_itself():
    run = run_of(1, DOWN_AND_UP[:3])
    change = matched_change([run], [run], 8)
    assert change.change_bits == pytest.approx(0.0)
    assert change.n_seeds == 1


def test_training_less_is_no_defence_and_halving_exposure_is_one():
    """A run that follows the undefended one more slowly, against one that is half as exposed at every loss."""
    undefended = [run_of(seed, epochs_of((3.0, 2.0), (2.5, 6.0), (2.0, 10.0))) for seed in (1, 2, 3)]
    slower = [run_of(seed, epochs_of((2.9, 2.8), (2.75, 4.0))) for seed in (1, 2, 3)]
    better = [run_of(seed, epochs_of((2.75, 2.0))) for seed in (1, 2, 3)]
    assert matched_change(slower, undefended, 8).change_bits == pytest.approx(0.0)
    assert matched_change(better, undefended, 8).change_bits == pytest.approx(-2.0)


def test_a_model_that_ends_better_is_compared_at_the_least_loss_that_both_had():
    undefended = [run_of(1, epochs_of((3.0, 2.0), (2.0, 10.0), (2.1, 12.0)))]
    better = [run_of(1, epochs_of((3.0, 1.0), (2.2, 4.0), (1.8, 8.0)))]
    change = matched_change(better, undefended, 8)
    assert change.change_bits == pytest.approx(6.0 - 10.0)  # half way between 2.2 and 1.8
    assert "least loss that both had" in change.remarks[0]
    untracked = better[0].model_copy(update={"epochs": ()})
    assert isinstance(matched_change([untracked], undefended, 8).change_bits, NotAvailable)


def test_seeds_are_paired_and_those_without_partner_are_told():
    undefended = [run_of(1, epochs_of((3.0, 0.0), (2.0, 10.0))), run_of(2, epochs_of((3.0, 5.0), (2.0, 15.0)))]
    runs = [
        run_of(1, epochs_of((2.5, 4.0))),
        run_of(2, epochs_of((2.5, 9.0))),
        run_of(3, epochs_of((2.5, 1.0))),
        run_of(4, epochs_of((2.5, 1.0))),
    ]
    change = matched_change(runs, undefended, 8)
    assert change.change_bits == pytest.approx(-1.0)
    assert (change.low_bits, change.high_bits) == (pytest.approx(-1.0), pytest.approx(-1.0))
    assert change.n_seeds == 2
    assert change.remarks == ("2 of 4: the undefended run of its seed failed",)


def test_the_interval_is_students():
    values = [0.3, -1.2, 2.2, 0.9]
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx(expected)


def test_the_interval_covers():
    """Of 2,000 means of three normal values 95 % are covered, give or take five standard errors."""
    values = np.random.default_rng(7).normal(size=(2_000, 3))
    intervals = [mean_interval(list(row)) for row in values]
    covered = sum(low <= 0.0 <= high for _, low, high in intervals)
    assert abs(covered - 1_900) < 5 * math.sqrt(2_000 * 0.95 * 0.05)


def test_one_value_has_no_interval_and_none_has_no_mean():
    mean, low, high = mean_interval([1.5])
    assert mean == 1.5
    assert isinstance(low, NotAvailable)
    assert isinstance(high, NotAvailable)
    assert all(isinstance(value, NotAvailable) for value in mean_interval([]))
