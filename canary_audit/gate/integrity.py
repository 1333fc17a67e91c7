"""Whether a result can be judged at all: every required number there, finite, possible and in agreement.

A gate that reads a damaged result as harmless would be worse than none, so each doubt is an ERROR with its own code.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from canary_audit.gate.impossible import IMPOSSIBLE_CANARIES, IMPOSSIBLE_LEVELS, not_a_probability
from canary_audit.gate.integrity_epsilon import find_epsilon_errors
from canary_audit.gate.integrity_served import find_access_errors, has_exact_rank
from canary_audit.gate.naming import listed, reason_about
from canary_audit.results import AuditResult, NotAvailable, Reason

_ROUNDING_BITS = 1e-6


def find_errors(result: AuditResult) -> tuple[Reason, ...]:
    """Everything that forbids a conclusion; empty if the result can be judged.

    A result whose audit ended in an error keeps its reasons.
    """
    return (
        *_earlier(result),
        *_not_finite(result),
        *_missing(result),
        *_impossible(result),
        *_misplaced(result),
        *_miscounted(result),
        *find_access_errors(result),
        *find_epsilon_errors(result),
    )


def _earlier(result: AuditResult) -> tuple[Reason, ...]:
    if result.verdict != "ERROR":
        return ()
    return result.reasons or (Reason(code="earlier-error", message="The audit itself ended in an error."),)


def _not_finite(result: AuditResult) -> Iterator[Reason]:
    if places := list(_places_not_finite(result.model_dump(), "")):
        yield Reason(code="not-finite", message=f"Not a finite number: {listed(places)}.")


def _places_not_finite(value: Any, place: str) -> Iterator[str]:
    """Where in the dumped result a NaN or an infinity stands, such as `canaries.3.nll_bits`."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield from _places_not_finite(item, f"{place}.{key}".removeprefix("."))


def _missing(result: AuditResult) -> Iterator[Reason]:
    code = "missing-number"
    without = [c for c in result.canaries if c.role != "natural" and isinstance(c.p_value, NotAvailable)]
    if without:
        yield reason_about(code, f"Planted or control canaries without a p-value: {len(without)}", without)
    controls = [canary for canary in result.canaries if canary.role == "control"]
    tested = not isinstance(result.null.uniform_p, NotAvailable)
    if result.null.n_controls and not tested and all(map(has_exact_rank, controls)):
        yield Reason(code=code, message="The ranks of the controls were not tested for uniformity.")
    if tested and (unranked := [canary for canary in controls if not has_exact_rank(canary)]):
        message = f"The controls were tested for uniformity, but {len(unranked)} of them have no rank"
        yield reason_about("inconsistent", message, unranked)
    control = result.positive_control
    if control.status != "not-run" and isinstance(control.p_value, NotAvailable):
        yield Reason(code=code, message="The positive control was run but has no p-value.")


def _impossible(result: AuditResult) -> Iterator[Reason]:
    code = "impossible-number"
    for what, holds in IMPOSSIBLE_CANARIES:
        if canaries := [canary for canary in result.canaries if holds(canary)]:
            yield reason_about(code, f"Canaries with {what}: {len(canaries)}", canaries)
    for what, holds_of in IMPOSSIBLE_LEVELS:
        if levels := [f"{level.group}, {level.insertions}" for level in result.levels if holds_of(level)]:
            yield Reason(code=code, message=f"Levels with {what}: {len(levels)} ({listed(levels)}).")
    if not_a_probability(result.null.uniform_p):
        yield Reason(code=code, message="The p-value of the controls lies outside [0, 1].")
    if not_a_probability(result.positive_control.p_value):
        yield Reason(code=code, message="The p-value of the positive control lies outside [0, 1].")


def _misplaced(result: AuditResult) -> Iterator[Reason]:
    times = Counter(canary.id for canary in result.canaries)
    if twice := [c for c in result.canaries if times[c.id] > 1]:
        yield reason_about("duplicate-canary", f"Entries that share their canary with another: {len(twice)}", twice)
    space_bits = {group.name: group.space_bits for group in result.groups}
    strays = [c for c in result.canaries if abs(space_bits.get(c.group, math.inf) - c.space_bits) > _ROUNDING_BITS]
    if strays:
        yield reason_about("inconsistent", f"Canaries that do not fit the group they name: {len(strays)}", strays)
    planted = [c for c in result.canaries if c.role != "natural"]
    if odd := [c for c in planted if (c.role == "control") != (c.insertions == 0)]:
        yield reason_about("inconsistent", f"Canaries whose role contradicts their insertions: {len(odd)}", odd)


def _miscounted(result: AuditResult) -> Iterator[Reason]:
    counted = Counter((c.group, c.insertions) for c in result.canaries if c.role == "level")
    listed = {(level.group, level.insertions): level.n_canaries for level in result.levels if level.insertions > 0}
    if counted != listed:
        message = f"The levels count {sum(listed.values())} inserted canaries, {counted.total()} are listed."
        if counted.total() == sum(listed.values()):
            message = "The levels and the list of canaries disagree on how often canaries were inserted."
        yield Reason(code="inconsistent", message=message)
    n_controls = sum(canary.role == "control" for canary in result.canaries)
    if n_controls != result.null.n_controls:
        message = f"{n_controls} controls are listed, but {result.null.n_controls} were tested."
        yield Reason(code="inconsistent", message=message)
    presence = None if isinstance(result.training, NotAvailable) else result.training.presence
    if presence is not None and presence.seen != presence.planned:
        message = f"The training stream held {presence.seen} canary occurrences; {presence.planned} were planned."
        yield Reason(code="presence", message=message)
