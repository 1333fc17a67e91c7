"""Group privacy against its definition, applied one unit at a time, and against mechanisms with known answers."""

import math

import numpy as np
import pytest

from canary_audit.errors import ResultError
from canary_audit.statistics.group_privacy import (
    CHANCE,
    GroupPromise,
    allowed_exposure_bits,
    group_promise,
    promised_p_value,
)
from canary_audit.statistics.pvalues import holm


def one_at_a_time(epsilon, delta, occurrences):
    """P(S) <= e^epsilon P'(S) + delta, chained: each step multiplies what is there and adds delta."""
    factor, added = 1.0, 0.0
    for _ in range(occurrences):
        factor, added = math.exp(epsilon) * factor, math.exp(epsilon) * added + delta
    return math.log(factor), added


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 5.3])
@pytest.mark.parametrize("occurrences", [1, 2, 5, 32])
def test_it_is_the_definition_chained(epsilon, occurrences):
    found = group_promise(epsilon, 1e-9, occurrences)
    total, added = one_at_a_time(epsilon, 1e-9, occurrences)
    assert found.epsilon == pytest.approx(total)
    assert found.delta == pytest.approx(min(1.0, added))


def test_huge_groups_promise_nothing_and_do_not_overflow():
    assert group_promise(200.0, 1e-5, 1_000) == GroupPromise(epsilon=200_000.0, delta=1.0)
    assert group_promise(200.0, 0.0, 1_000).delta == 0.0
    assert group_promise(0.0, 0.1, 1_000).delta == 1.0


@pytest.mark.parametrize(("epsilon", "delta", "occurrences"), [(-1, 0, 1), (math.inf, 0, 1), (1, -0.1, 1), (1, 0, 0)])
def test_what_is_no_promise_is_refused(epsilon, delta, occurrences):
    with pytest.raises(ResultError, match="no promise"):
        group_promise(epsilon, delta, occurrences)


def test_a_promise_of_nothing_learned_leaves_p_values_and_the_null_alone():
    nothing = group_promise(0.0, 0.0, 7)
    assert [promised_p_value(p, nothing) for p in (0.0, 1e-12, 0.3, 1.0)] == [0.0, pytest.approx(1e-12), 0.3, 1.0]
    assert allowed_exposure_bits(nothing) == pytest.approx(math.log2(20))


def test_p_values_are_e_to_the_epsilon_larger_plus_delta():
    promise = group_promise(1.0, 1e-3, 2)
    added = 1e-3 * (1 + math.e)
    assert promised_p_value(1e-4, promise) == pytest.approx(math.e**2 * 1e-4 + added)
    assert promised_p_value(0.0, promise) == pytest.approx(added)
    assert promised_p_value(0.9, promise) == 1.0
    assert promised_p_value(1e-300, group_promise(1_000.0, 0.0, 5)) == 1.0


def test_the_exposure_allowed_is_exceeded_by_chance_only():
    """At exactly that exposure the p-value of the promise is `CHANCE`."""
    promise = group_promise(0.8, 1e-5, 4)
    bits = allowed_exposure_bits(promise)
    assert promised_p_value(2**-bits, promise) == pytest.approx(CHANCE)
    assert allowed_exposure_bits(GroupPromise(epsilon=1.0, delta=CHANCE)) == math.inf


def test_the_most_revealing_mechanism_that_keeps_a_promise_refutes_it_at_the_rate_allowed():
    """A canary inserted k times ranks as early as group privacy lets it; Holm at 5 % errs in 5 % of audits at most.

    4,000 audits of twelve canaries; the limit of 6.1 % is exceeded by chance once in a thousand seeds.
    """
    rng = np.random.default_rng(11)
    promises = [group_promise(0.7, 0.0, k) for k in (1, 2, 4) for _ in range(4)]
    uniform = rng.random((4_000, len(promises)))
    null_p_values = uniform * np.exp([-promise.epsilon for promise in promises])  # P(p <= u) = e^epsilon u, at most 1
    refuted = 0
    for row in null_p_values:
        assert holm(row).min() < holm([promised_p_value(p, g) for p, g in zip(row, promises, strict=True)]).min()
        refuted += holm([promised_p_value(p, g) for p, g in zip(row, promises, strict=True)]).min() <= 0.05
    assert 0.04 <= refuted / 4_000 <= 0.061
