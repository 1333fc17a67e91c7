"""Lower bound on epsilon from how often an attacker is right and wrong, with intervals of Clopper and Pearson (1934).

(epsilon, delta)-differential privacy allows TPR <= e^epsilon FPR + delta, and the same with the two worlds exchanged
(Kairouz, Oh and Viswanath 2015, theorem 2.1). Counts of a single run are taken for independent trials; one mechanism
that scores its canaries together may break that, so the bound is for comparison.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from canary_audit.errors import ResultError
from canary_audit.statistics.guesses import GuessBound
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.pvalues import FloatArray


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """An attacker's accusations: right ones among the guilty, wrong ones among the innocent."""

    true_positives: int
    n_positives: int
    false_positives: int
    n_negatives: int


EpsilonOfTable = Callable[[Confusion, float], float]
"""(counts, error) -> epsilon that they refute, all but with that error."""


def rate_bounds(table: Confusion, error: float) -> tuple[float, float]:
    """(least true positive rate, largest false positive rate): both hold, all but with probability `error`.

    Raises:
        ResultError: the counts are impossible.
    """
    least_tpr, _ = clopper_pearson(table.true_positives, table.n_positives, 1 - error)
    _, most_fpr = clopper_pearson(table.false_positives, table.n_negatives, 1 - error)
    return least_tpr, most_fpr


def clopper_pearson_epsilon(table: Confusion, *, delta: float, error: float) -> float:
    """Epsilon at `delta` that the counts of one attacker refute, all but with probability `error`; 0 if none.

    Raises:
        ResultError: the counts are impossible.
    """
    least_tpr, most_fpr = rate_bounds(table, error)
    return max(0.0, math.log((least_tpr - delta) / most_fpr)) if least_tpr > delta else 0.0


def clopper_pearson_bound(
    in_scores: Sequence[float], out_scores: Sequence[float], *, delta: float, confidence: float = 0.95
) -> GuessBound:
    """The best of `clopper_pearson_epsilon` over the thresholds of `pre_registered`.

    Args:
        in_scores: of canaries that were inserted, higher = more likely in; shape (n_in,).
        out_scores: of canaries that were left out; shape (n_out,).

    Raises:
        ResultError: a side has no score, or one that is not finite.
    """
    return pre_registered(
        in_scores,
        out_scores,
        confidence=confidence,
        epsilon_of_table=lambda table, error: clopper_pearson_epsilon(table, delta=delta, error=error),
    )


def pre_registered(
    in_scores: Sequence[float], out_scores: Sequence[float], *, confidence: float, epsilon_of_table: EpsilonOfTable
) -> GuessBound:
    """The best bound over thresholds fixed in advance, each at its share of the error (Bonferroni).

    A threshold is fixed by how many of the innocent it accuses wrongly: none, one in sixteen, or one in four; it is
    the next score of that side. Its false positive rate then has the very beta distribution that an interval of Clopper
    and Pearson is made of (Wilks 1941), and the other side's scores are fresh to it. So a threshold that depends on the
    scores costs nothing, where conditioning on it as if it were given would. Both directions are tried: accuse the high
    scores of being in, and the low ones of being out.
    """
    high, low = np.asarray(in_scores, dtype=np.float64), np.asarray(out_scores, dtype=np.float64)
    if not (len(high) and len(low) and np.isfinite(high).all() and np.isfinite(low).all()):
        raise ResultError(f"cannot compare {len(high)} inserted with {len(low)} left-out scores: both must be finite")
    tables = [*_accusations(high, low), *_accusations(-low, -high)]
    error = (1 - confidence) / len(tables)
    bounds = [epsilon_of_table(table, error) for table in tables]
    best = tables[bounds.index(max(bounds))]
    return GuessBound(
        epsilon=max(bounds),
        ceiling=max(epsilon_of_table(_all_right(table), error) for table in tables),
        guesses=best.true_positives + best.false_positives,
        correct=best.true_positives,
    )


def _accusations(guilty: FloatArray, innocent: FloatArray) -> list[Confusion]:
    """Counts at thresholds above all innocent scores but some, ties going unaccused."""
    ordered, n_innocent = np.sort(innocent)[::-1], len(innocent)
    return [
        Confusion(
            true_positives=int((guilty > ordered[accused]).sum()),
            n_positives=len(guilty),
            false_positives=accused,
            n_negatives=n_innocent,
        )
        for accused in sorted({0, n_innocent // 16, n_innocent // 4})
    ]


def _all_right(table: Confusion) -> Confusion:
    """As if every one of the guilty had been accused."""
    return replace(table, true_positives=table.n_positives)
