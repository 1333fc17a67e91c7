"""Guesses on coin-flipped canaries: which went in, which were left out, and how many guesses are right.

The bounds of one training run all start here. How many guesses are made is fixed by the number of canaries alone,
before training; a number chosen after the scores were seen would void the bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from canary_audit.errors import ResultError

Rule = Literal["grid", "fixed"]
"""How many guesses: the best of five numbers, corrected for the choice, or one number."""

EpsilonOfCounts = Callable[[int, int, float], float]
"""(guesses, right ones, error) -> epsilon that they refute, all but with that error."""

_SHARES: Mapping[Rule, tuple[int, ...]] = {"grid": (32, 16, 8, 4, 2), "fixed": (8,)}
"""One guess on either side for this many canaries."""


@dataclass(frozen=True, kw_only=True)
class GuessBound:
    """A lower bound on epsilon from guesses."""

    epsilon: float
    ceiling: float
    """What it could have been at most, had every guess been right."""
    guesses: int
    correct: int


def guess_counts(n_canaries: int, rule: Rule) -> tuple[int, ...]:
    """Guesses on either side, ascending: "grid" gives up to five numbers, m/32 to m/2, "fixed" gives m/8.

    Each is rounded down, but at least 1; together the two sides never guess on one canary twice.

    Raises:
        ResultError: there are fewer than two canaries.
    """
    if n_canaries < 2:
        raise ResultError(f"{n_canaries} coin-flipped canaries allow no guess on either side; it takes at least two")
    return tuple(sorted({max(1, n_canaries // share) for share in _SHARES[rule]}))


def count_correct(scores: Sequence[float], inserted: Sequence[bool], counts: Sequence[int]) -> tuple[int, ...]:
    """Right guesses if the k highest scores are taken for inserted and the k lowest for left out, for each k.

    Ties are broken by place in the sequence. That is valid as long as the order of the canaries knows nothing of their
    coins, as the order of their ids does not; it makes the scores as good as distinct.

    Raises:
        ResultError: the two sequences differ in length, a score is not finite, or there are too few for both sides.
    """
    values, coins = np.asarray(scores, dtype=np.float64), np.asarray(inserted, dtype=bool)
    if values.shape != coins.shape or not np.isfinite(values).all() or not 0 < 2 * max(counts) <= len(values):
        raise ResultError(
            f"{max(counts)} guesses on either side need twice as many canaries, each with a coin and a finite score; "
            f"got {len(values)} scores and {len(coins)} coins"
        )
    ordered = coins[np.argsort(values, kind="stable")]
    return tuple(int(ordered[-k:].sum()) + k - int(ordered[:k].sum()) for k in counts)


def best_of_rule(
    scores: Sequence[float],
    inserted: Sequence[bool],
    *,
    rule: Rule,
    confidence: float,
    epsilon_of_counts: EpsilonOfCounts,
) -> GuessBound:
    """The best bound over the rule's numbers of guesses, each at its share of the error (Bonferroni).

    Args:
        scores: membership scores, higher = more likely in; shape (m,), in an order that knows nothing of the coins.
        inserted: how each coin fell, shape (m,).
    """
    counts = guess_counts(len(scores), rule)
    error = (1 - confidence) / len(counts)
    numbers = [(2 * k, right) for k, right in zip(counts, count_correct(scores, inserted, counts), strict=True)]
    bounds = [epsilon_of_counts(guesses, correct, error) for guesses, correct in numbers]
    best = bounds.index(max(bounds))
    return GuessBound(
        epsilon=bounds[best],
        ceiling=best_ceiling(len(scores), rule=rule, confidence=confidence, epsilon_of_counts=epsilon_of_counts),
        guesses=numbers[best][0],
        correct=numbers[best][1],
    )


def best_ceiling(n_canaries: int, *, rule: Rule, confidence: float, epsilon_of_counts: EpsilonOfCounts) -> float:
    """What `best_of_rule` would give, had every guess been right."""
    counts = guess_counts(n_canaries, rule)
    return max(epsilon_of_counts(2 * k, 2 * k, (1 - confidence) / len(counts)) for k in counts)


def largest_refuted(refuted: Callable[[float], bool], tolerance: float = 1e-9) -> float:
    """Largest value from 0 up that is refuted, within `tolerance` below it; 0 if 0 itself is not.

    What it returns is always refuted, or 0, also where `refuted` does not change once only.
    """
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
