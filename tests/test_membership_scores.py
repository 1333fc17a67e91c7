"""Each score against its formula, written as a loop."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit.errors import ModelError
from canary_audit.membership.scores import (
    calibrated_bits,
    error_zone_ratio,
    log_likelihood_bits,
    min_k_plus_plus,
    zlib_ratio,
)
from canary_audit.models.token_scores import TokenScores


def scored(log_probs, *, means=None, deviations=None, is_top=None, tokens=None):
    n = len(log_probs)
    return TokenScores(
        tokens=np.array(range(n) if tokens is None else tokens),
        log_probs=np.array(log_probs, dtype=float),
        means=np.array([-3.0] * n if means is None else means, dtype=float),
        deviations=np.array([1.0] * n if deviations is None else deviations, dtype=float),
        is_top=np.array([False] * n if is_top is None else is_top),
    )


rows = st.lists(
    st.tuples(st.floats(-30, 0), st.floats(-10, 0), st.floats(0, 5), st.floats(-30, 0), st.booleans()),
    min_size=1,
    max_size=30,
)


@given(rows)
def test_likelihoods_are_sums_in_bits(table):
    own, _, _, other, _ = zip(*table, strict=True)
    assert log_likelihood_bits(scored(own)) == pytest.approx(sum(value / math.log(2) for value in own))
    gain = sum((a - b) / math.log(2) for a, b in zip(own, other, strict=True))
    assert calibrated_bits(scored(own), scored(other)) == pytest.approx(gain, abs=1e-9)


def test_a_reference_with_another_tokenizer_is_compared_by_sums():
    assert calibrated_bits(scored([-2.0, -1.0]), scored([-5.0], tokens=[9])) == pytest.approx(2 / math.log(2))


def test_zlib_divides_by_what_zlib_makes_of_the_text():
    for text in ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "naïve 4021", ""):
        bits_per_byte = 3 / math.log(2) / len(zlib.compress(text.encode()))
        assert zlib_ratio(text, scored([-1.0, -2.0])) == pytest.approx(-bits_per_byte)


@given(rows)
def test_min_k_plus_plus_is_the_mean_of_the_lowest_fifth(table):
    own, means, deviations, _, _ = zip(*table, strict=True)
    surprises = [(p - mu) / max(sigma, 1e-3) for p, mu, sigma in zip(own, means, deviations, strict=True)]
    lowest = []
    while len(lowest) < len(own) / 5:
        lowest.append(min(surprises))
        surprises.remove(min(surprises))
    found = min_k_plus_plus(scored(own, means=means, deviations=deviations))
    assert found == pytest.approx(sum(lowest) / len(lowest))
    assert math.isfinite(found)


def test_a_network_that_knows_nothing_or_everything_has_a_finite_score():
    uniform = scored([-math.log(512)] * 4, means=[-math.log(512)] * 4, deviations=[0.0] * 4)
    certain = scored([-1e-9] * 4, means=[-2e-9] * 4, deviations=[1e-7] * 4)
    assert min_k_plus_plus(uniform) == 0
    assert min_k_plus_plus(certain) == pytest.approx(0, abs=1e-4)


@given(rows)
def test_ez_mia_is_gains_over_losses_where_the_network_errs(table):
    own, _, _, other, is_top = zip(*table, strict=True)
    if all(is_top):
        is_top = [False] * len(own)
    gains = losses = 0.0
    for p, q, top in zip(own, other, is_top, strict=True):
        if not top:
            gains += max(p - q, 0)
            losses += max(q - p, 0)
    found = error_zone_ratio(scored(own, is_top=is_top), scored(other))
    assert found == pytest.approx((gains + 0.01) / (losses + 0.01))
    assert math.isfinite(found)
    assert found > 0


def test_ez_mia_without_losses_or_errors():
    reference = scored([-9.0, -9.0])
    by_heart = error_zone_ratio(scored([-0.1, -0.1], is_top=[True, True]), reference)
    without_losses = error_zone_ratio(scored([-0.1, -8.0], is_top=[True, False]), reference)
    unchanged = error_zone_ratio(scored([-9.0, -9.0]), reference)
    easy_for_both = error_zone_ratio(scored([-0.1, -0.1], is_top=[True, True]), scored([-0.1, -0.1]))
    forgotten = error_zone_ratio(scored([-12.0, -12.0]), reference)
    assert by_heart > without_losses > unchanged == easy_for_both == 1 > forgotten


def test_ez_mia_refuses_other_tokens():
    with pytest.raises(ModelError, match="other tokens"):
        error_zone_ratio(scored([-1.0]), scored([-1.0], tokens=[5]))
