"""Whether what a result says about epsilon can be judged: possible numbers, and bounds that its scores do give."""

import math
from collections import Counter
from collections.abc import Iterator

from canary_audit.epsilon import epsilon_of
from canary_audit.results import Accounting, AuditResult, Epsilon, NotAvailable, Reason
from canary_audit.statistics.guesses import Rule

_ROUNDING = 1e-6
RULES: dict[str, Rule] = {"one-run-grid": "grid", "one-run-fixed": "fixed"}
"""Method of the first bound -> rule of guessing that was fixed before the run."""


def find_epsilon_errors(result: AuditResult) -> Iterator[Reason]:
    """Every doubt about the promise, the coin-flipped canaries, and the bounds drawn from them."""
    epsilon = result.epsilon
    if isinstance(epsilon, NotAvailable):
        return
    if not isinstance(epsilon.accounting, NotAvailable) and (flaw := _impossible_promise(epsilon.accounting)):
        yield Reason(code="impossible-number", message=f"The promise of differential privacy has {flaw}.")
    elif reasons := tuple(_damaged_coins(epsilon)):
        yield from reasons
    else:
        yield from _contradictions(epsilon)


def _impossible_promise(promise: Accounting) -> str:
    """The first number of the promise that none can have, in words; empty if there is none."""
    doubts = (
        ("an epsilon that is negative or not finite", not 0 <= promise.epsilon < math.inf),
        ("a delta outside (0, 1)", not 0 < promise.delta < 1),
        ("a negative noise multiplier", not promise.noise_multiplier >= 0),
        ("a clip norm that is not positive", not promise.clip_norm > 0),
        ("a sampling rate outside (0, 1]", not 0 < promise.sampling_rate <= 1),
        ("more noise-only steps than steps", not 0 <= promise.noise_only_steps <= promise.steps),
        ("no unit to protect", promise.n_units < 1),
    )
    return next((flaw for flaw, holds in doubts if holds), "")


def _damaged_coins(epsilon: Epsilon) -> Iterator[Reason]:
    ids = [coin.id for coin in epsilon.canaries]
    if twice := sorted(name for name, times in Counter(ids).items() if times > 1):
        message = f"Coin-flipped canaries that are listed more than once: {len(twice)}, such as {twice[0]}."
        yield Reason(code="duplicate-canary", message=message, canaries=tuple(twice))
    if ids != sorted(ids):
        message = "The coin-flipped canaries are not in the order of their ids, which decides between equal scores."
        yield Reason(code="inconsistent", message=message)
    if missing := tuple(coin.id for coin in epsilon.canaries if not math.isfinite(coin.score)):
        message = f"Coin-flipped canaries whose score is not a finite number: {len(missing)}, such as {missing[0]}."
        yield Reason(code="not-finite", message=message, canaries=missing)


def _contradictions(epsilon: Epsilon) -> Iterator[Reason]:
    """Work everything out anew from promise and scores, and compare it with what is stated."""
    if epsilon.canaries and isinstance(epsilon.lower_bound, NotAvailable) and len(epsilon.canaries) > 1:
        yield Reason(code="missing-number", message="There are coin-flipped canaries, but no bound on epsilon.")
        return
    rule = RULES.get(epsilon.bounds[0].method) if epsilon.bounds else "grid"
    if rule is None:
        message = "The first bound on epsilon is not a one-run bound, so its rule of guessing is not known."
        yield Reason(code="inconsistent", message=message)
        return
    anew = epsilon_of(epsilon.canaries, epsilon.accounting, score=epsilon.score, guesses=rule)
    stated = epsilon.model_dump()
    expected = {} if isinstance(anew, NotAvailable) else anew.model_dump()
    if differing := [name for name in stated if not _agree(stated[name], expected.get(name))]:
        message = f"The promise and the scores of the canaries do not give the epsilon stated: {', '.join(differing)}."
        yield Reason(code="inconsistent", message=message)


def _agree(stated: object, expected: object) -> bool:
    """Equal, but for the rounding of numbers."""
    if isinstance(stated, dict) and isinstance(expected, dict):
        return stated.keys() == expected.keys() and all(_agree(stated[key], expected[key]) for key in stated)
    if isinstance(stated, list | tuple) and isinstance(expected, list | tuple):
        return len(stated) == len(expected) and all(map(_agree, stated, expected))
    if isinstance(stated, float) and isinstance(expected, float):
        return math.isclose(stated, expected, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return stated == expected
