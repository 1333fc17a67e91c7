import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from canary_audit.report import numbers
from canary_audit.report.plots import spread
from canary_audit.results import NotAvailable

MISSING = NotAvailable(not_available="no controls")


@pytest.mark.parametrize("write", [numbers.bits, numbers.loss, numbers.probability, numbers.count, numbers.epsilon])
def test_a_missing_number_gives_its_reason(write):
    assert write(MISSING) == "not available: no controls"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.bits(29.897), "29.9"),
        (numbers.bits(-0.01), "0.0"),
        (numbers.loss(2.5304), "2.530"),
        (numbers.probability(0.0421), "0.042"),
        (numbers.probability(2.4e-8), "2.4e-8"),
        (numbers.probability(0.0), "0"),
        (numbers.probability(1.0), "1.000"),
        (numbers.count(1234567.4), "1,234,567"),
        (numbers.count(1.3e20), "1.3e20"),
        (numbers.power(10), "1,024"),
        (numbers.power(400), "2^400.0"),
        (numbers.savings(20, 0), "1,048,576"),
        (numbers.savings(3, 1_000), "1"),
        (numbers.epsilon(0.8), "0.80"),
        (numbers.epsilon(169.6), "170"),
        (numbers.epsilon(1.2e17), "1.2e17"),
        (numbers.share(0.001), "0.1 %"),
        (numbers.share(0.1), "10 %"),
        (numbers.share(1.0), "100 %"),
        (numbers.share(0.0), "0 %"),
        (numbers.share(0.316), "31.6 %"),
        (numbers.share(0.00047), "0.047 %"),
        (numbers.score(-20.125), "-20.12"),
        (numbers.needed(0.4), "1"),
        (numbers.needed(2.1), "3"),
        (numbers.needed(12_345), "12,345"),
        (numbers.needed(3.24e6), "3.2e6"),
        (numbers.needed(2.0**60), "2^60.0"),
        (numbers.needed(MISSING), numbers.DASH),
        (numbers.bits_or_dash(MISSING), numbers.DASH),
        (numbers.bits_or_dash(4.26), "4.3"),
        (numbers.span(4.3, 19.9), "4.3 to 19.9"),
        (numbers.span(MISSING, 19.9), numbers.DASH),
        (numbers.plural(1, "canary"), "1 canary"),
        (numbers.plural(2, "canary"), "2 canaries"),
        (numbers.plural(1_000, "node"), "1,000 nodes"),
    ],
)
def test_numbers_are_rounded_to_what_they_bear(shown, expected):
    assert shown == expected


@given(st.lists(st.floats(-100, 100)), st.floats(0.1, 10))
def test_spread_labels_keep_their_distance_and_their_order(heights, gap):
    placed = spread(heights, gap)
    assert len(placed) == len(heights)
    order = sorted(range(len(heights)), key=lambda index: (placed[index], heights[index]))
    assert [heights[index] for index in order] == sorted(heights)
    ordered = sorted(placed)
    assert all(upper - lower >= gap * (1 - 1e-9) - 1e-9 for lower, upper in itertools.pairwise(ordered))


def test_labels_with_room_stay_where_they_are():
    assert spread([5.0, 1.0, 9.0], 2.0) == [5.0, 1.0, 9.0]
