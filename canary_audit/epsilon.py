"""Differential privacy of one model: what its training promises beside what coin-flipped canaries show.

All bounds hold at the delta of the promise. Where nothing was promised that is 0: they then say that the training is
not pure epsilon-differentially private for any smaller epsilon. Bounds that assume Gaussian noise are given beside a
promise only, because no other training is known to add it, and at delta = 0 it has no epsilon at all.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from canary_audit.canaries import Canary
from canary_audit.errors import ResultError
from canary_audit.results import (
    Accounting,
    BoundAssumption,
    BoundMethod,
    CoinCanary,
    Epsilon,
    EpsilonBound,
    Maybe,
    NotAvailable,
)
from canary_audit.statistics.confusion import clopper_pearson_bound
from canary_audit.statistics.gaussian_dp import gaussian_dp_bound, one_run_f_dp_bound
from canary_audit.statistics.guesses import GuessBound, Rule
from canary_audit.statistics.one_run import one_run_bound
from canary_audit.statistics.pvalues import mann_whitney

CONFIDENCE = 0.95
"""Of every lower bound on epsilon."""

_NO_COINS = NotAvailable(not_available="no coin-flipped canaries were planned (coin_flips)")
_ONE_COIN = NotAvailable(not_available="one coin-flipped canary allows no guess on either side; plan more coin_flips")
_ONE_SIDE = NotAvailable(not_available="every coin fell on the same side, so there is nothing to compare")


def epsilon_of(
    coins: Sequence[CoinCanary], accounting: Accounting | NotAvailable, *, score: str, guesses: Rule
) -> Epsilon | NotAvailable:
    """Put promise and bounds together; not available if there is neither a promise nor a canary.

    Args:
        coins: in any order; they are kept in that of their ids, which knows nothing of the coins and so breaks ties.
        score: name of the membership score of the canaries.
        guesses: rule of the primary bound, fixed before the run.

    Raises:
        ResultError: an id repeats, or a score is not finite.
    """
    if not coins and isinstance(accounting, NotAvailable):
        return _NO_COINS
    _refuse_flaws([(coin.id, coin.score) for coin in coins])
    canaries = tuple(sorted(coins, key=lambda coin: coin.id))
    delta = 0.0 if isinstance(accounting, NotAvailable) else accounting.delta
    bounds = _bounds(canaries, delta, guesses)
    unknown = _ONE_COIN if canaries else _NO_COINS
    auc, p_value = _separation(canaries)
    return Epsilon(
        accounted=accounting if isinstance(accounting, NotAvailable) else accounting.epsilon,
        unit=accounting if isinstance(accounting, NotAvailable) else accounting.unit,
        delta=delta,
        accounting=accounting,
        lower_bound=bounds[0].epsilon if bounds else unknown,
        confidence=CONFIDENCE,
        assumption="none",
        ceiling=bounds[0].ceiling if bounds else unknown,
        guesses=bounds[0].guesses if bounds else 0,
        bounds=bounds,
        score=score,
        canaries=canaries,
        auc=auc,
        p_value=p_value,
    )


def join_scores(canaries: Iterable[Canary], scores: Iterable[tuple[str, float]]) -> tuple[CoinCanary, ...]:
    """Give every coin-flipped canary of a ledger its score, by id; in ledger order.

    Args:
        canaries: of a ledger; those of other roles are passed over.
        scores: (id, score) of coin-flipped canaries, higher = more likely in, in any order.

    Raises:
        ResultError: a score is missing, repeated, not finite, or of no such canary.
    """
    given = list(scores)
    _refuse_flaws(given)
    by_id, coins = dict(given), [canary for canary in canaries if canary.role == "coin"]
    wanted = {canary.id for canary in coins}
    if missing := wanted - set(by_id):
        raise ResultError(f"membership scores: {len(missing)} coin-flipped canaries have none, such as {min(missing)}")
    if unknown := set(by_id) - wanted:
        raise ResultError(f"membership scores: {len(unknown)} are of no coin-flipped canary, such as {min(unknown)}")
    return tuple(CoinCanary(id=coin.id, inserted=coin.insertions > 0, score=by_id[coin.id]) for coin in coins)


def _refuse_flaws(scores: Sequence[tuple[str, float]]) -> None:
    """A repeated canary would count twice, and what is no number would sort anywhere."""
    repeated = [name for name, times in Counter(name for name, _ in scores).items() if times > 1]
    without_number = [name for name, score in scores if not math.isfinite(score)]
    for what, names in (("with more than one score", repeated), ("whose score is not a finite number", without_number)):
        if names:
            raise ResultError(f"membership scores: {len(names)} canaries {what}, such as {min(names)}")


def _bounds(canaries: Sequence[CoinCanary], delta: float, rule: Rule) -> tuple[EpsilonBound, ...]:
    """The primary bound, then the others for comparison; none for fewer than two canaries."""
    if len(canaries) < 2:
        return ()
    scores, inserted = [coin.score for coin in canaries], [coin.inserted for coin in canaries]
    sides = _sides(canaries)
    other: Rule = "fixed" if rule == "grid" else "grid"
    bounds = [_one_run(scores, inserted, delta, rule), _one_run(scores, inserted, delta, other)]
    if all(sides):
        found = clopper_pearson_bound(*sides, delta=delta, confidence=CONFIDENCE)
        bounds.append(_labelled(found, method="clopper-pearson", assumption="independent"))
    if delta > 0:
        found = one_run_f_dp_bound(scores, inserted, delta=delta, rule=rule, confidence=CONFIDENCE)
        bounds.append(_labelled(found, method="one-run-f-dp", assumption="gaussian"))
    if delta > 0 and all(sides):
        found = gaussian_dp_bound(*sides, delta=delta, confidence=CONFIDENCE)
        bounds.append(_labelled(found, method="gaussian-dp", assumption="gaussian"))
    return tuple(bounds)


def _one_run(scores: Sequence[float], inserted: Sequence[bool], delta: float, rule: Rule) -> EpsilonBound:
    found = one_run_bound(scores, inserted, delta=delta, rule=rule, confidence=CONFIDENCE)
    return _labelled(found, method="one-run-grid" if rule == "grid" else "one-run-fixed", assumption="none")


def _labelled(found: GuessBound, *, method: BoundMethod, assumption: BoundAssumption) -> EpsilonBound:
    return EpsilonBound(
        method=method,
        assumption=assumption,
        epsilon=found.epsilon,
        ceiling=found.ceiling,
        guesses=found.guesses,
        correct=found.correct,
    )


def _separation(canaries: Sequence[CoinCanary]) -> tuple[Maybe, Maybe]:
    """Area under the ROC curve and its p-value."""
    sides = _sides(canaries)
    if all(sides):
        return mann_whitney(*sides)
    unknown = _ONE_SIDE if canaries else _NO_COINS
    return unknown, unknown


def _sides(canaries: Sequence[CoinCanary]) -> tuple[list[float], list[float]]:
    """Scores of inserted and of left-out canaries."""
    inserted = [coin.score for coin in canaries if coin.inserted]
    return inserted, [coin.score for coin in canaries if not coin.inserted]
