"""The self-test of the one-run bound on epsilon: it must not exceed the truth, and must show something of it."""

from collections.abc import Iterable, Mapping

import numpy as np

from canary_audit.selftest.checks import Check, few_alarms
from canary_audit.selftest.mechanisms import (
    Mechanism,
    abstaining,
    gaussian,
    laplace,
    null,
    randomized_response,
    skewed,
)
from canary_audit.statistics.guesses import Rule
from canary_audit.statistics.one_run import one_run_bound

_DELTA = 1e-5
_N_RUNS = 2_000
_LEAST_MEDIANS: Mapping[Rule, Mapping[str, float]] = {
    "fixed": {"gaussian4_m1000": 1.3, "gaussian4_m200": 0.95, "rr1": 0.70, "rr4": 3.2},
    "grid": {"gaussian4_m1000": 1.3, "gaussian4_m200": 0.78, "rr1": 0.77, "rr4": 3.26},
}
"""Medians that the design of the bound promises; `rr` is randomized response on 1,000 canaries."""
_WITH_MEDIANS: Mapping[str, tuple[Mechanism, int]] = {
    "gaussian4_m1000": (gaussian(4.0, _DELTA), 1_000),
    "gaussian4_m200": (gaussian(4.0, _DELTA), 200),
    "rr1": (randomized_response(1.0), 1_000),
    "rr4": (randomized_response(4.0), 1_000),
}
_OTHERS: tuple[tuple[Mechanism, int], ...] = (
    (null(), 1_000),
    (null(), 200),
    (randomized_response(0.5), 200),
    (randomized_response(2.0), 200),
    (gaussian(1.0, _DELTA), 200),
    (laplace(1.0), 200),
    (abstaining(1.0), 200),
    (skewed(2.0), 200),
)


def fixed_guesses() -> Iterable[Check]:
    """The bound by one number of guesses."""
    return _one_run("fixed")


def grid_of_guesses() -> Iterable[Check]:
    """The bound by the best of five numbers of guesses."""
    return _one_run("grid")


def _one_run(rule: Rule) -> Iterable[Check]:
    bounds = {name: _bounds(*world, rule) for name, world in _WITH_MEDIANS.items()}
    exceeding = [int((bounds[name] > world.epsilon).sum()) for name, (world, _) in _WITH_MEDIANS.items()]
    exceeding += [int((_bounds(world, size, rule) > world.epsilon).sum()) for world, size in _OTHERS]
    yield few_alarms(
        f"one-run bound ({rule}) exceeds the true epsilon, at the worst mechanism",
        max(exceeding),
        _N_RUNS,
        {f"one_run.{rule}.violation_rate_max": max(exceeding) / _N_RUNS},
    )
    medians = {name: float(np.median(values)) for name, values in bounds.items()}
    least = _LEAST_MEDIANS[rule]
    yield Check(
        name=f"one-run bound ({rule}) shows what it should: medians of {', '.join(medians)}",
        measured=", ".join(f"{value:.2f}" for value in medians.values()),
        required=">= " + ", ".join(f"{least[name]:g}" for name in medians),
        holds=all(value >= least[name] for name, value in medians.items()),
        numbers={f"one_run.{rule}.median_{name}": value for name, value in medians.items()},
    )


def _bounds(mechanism: Mechanism, n_canaries: int, rule: Rule) -> np.ndarray:
    """Bounds of independent runs at the self-test's delta, shape (runs,)."""
    rng = np.random.default_rng(20)
    coins = rng.random((_N_RUNS, n_canaries)) < 0.5
    scores = mechanism.release(coins, rng)
    return np.array(
        [one_run_bound(row, fell, delta=_DELTA, rule=rule).epsilon for row, fell in zip(scores, coins, strict=True)]
    )
