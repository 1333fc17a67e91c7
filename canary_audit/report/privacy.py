"""What every format says about differential privacy: the promise, the audited bound and the most it could have shown.

An accounted epsilon is a promise of the mechanism, an audited one a measured lower bound; neither is a leak by itself.
"""

import math
from dataclasses import dataclass

from canary_audit.report import numbers
from canary_audit.report.figures import Figure
from canary_audit.results import Accounting, AuditResult, Epsilon, EpsilonBound, LevelResult, Maybe, NotAvailable
from canary_audit.statistics.group_privacy import CHANCE, GroupPromise, allowed_exposure_bits, group_promise
from canary_audit.statistics.guesses import Rule
from canary_audit.statistics.power import typical_bounds

MEANING = (
    "An accounted epsilon is what the training mechanism promises; an audited epsilon is a lower bound that this audit "
    "measured on coin-flipped canaries. Neither is a leak by itself."
)
WHICH_CANARIES = (
    "Canaries of random tokens audit epsilon: nothing else in the data makes them likelier. Formatted secrets audit "
    "exposure: they look like what is feared for, and bound epsilon more weakly."
)
GROUP_PRIVACY = (
    "Epsilon is promised for one unit. A canary inserted k times is a group of k units, and all of them together are "
    "promised k times epsilon, with a larger delta. The exposure allowed is what a single canary under that promise "
    f"exceeds in {numbers.share(CHANCE)} of cases at most; less than that does not contradict the promise."
)
_METHODS = {
    "one-run-grid": "one run, best of five numbers of guesses",
    "one-run-fixed": "one run, one number of guesses",
    "clopper-pearson": "Clopper-Pearson on both error rates",
    "one-run-f-dp": "one run, Gaussian trade-off curve",
    "gaussian-dp": "Gaussian differential privacy",
}
_ASSUMPTIONS = {
    "none": "none",
    "independent": "canaries are scored independently of each other",
    "gaussian": "the mechanism reveals no more than Gaussian noise",
}


@dataclass(frozen=True, kw_only=True)
class BoundRow:
    """One bound as it is shown."""

    method: str
    assumption: str
    epsilon: str
    ceiling: str
    right: str


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """What one level is promised, and what it shows."""

    group: str
    insertions: int
    epsilon: str
    delta: str
    allowed: str
    """Bits, or that nothing is promised."""
    median_bits: Maybe
    high_bits: Maybe


def three_numbers(epsilon: Epsilon) -> tuple[Figure, Figure, Figure]:
    """Accounted, audited, ceiling: each means little without the other two."""
    return (_accounted(epsilon), _audited(epsilon), _ceiling(epsilon))


def key_figure(result: AuditResult) -> Figure | None:
    """The audited epsilon beside promise and policy; none if there is none."""
    epsilon = result.epsilon
    if isinstance(epsilon, NotAvailable) or isinstance(epsilon.lower_bound, NotAvailable):
        return None
    promised = "nothing" if isinstance(epsilon.accounted, NotAvailable) else numbers.epsilon(epsilon.accounted)
    note = f"promised: {promised}; {_policy_maximum(result)}; {_shown_at_most(epsilon)}"
    return Figure(label="Audited epsilon", value=numbers.epsilon(epsilon.lower_bound), unit="or more", note=note)


def _policy_maximum(result: AuditResult) -> str:
    if isinstance(result.policy, NotAvailable):
        return "no policy"
    limit = result.policy.max_epsilon
    return "policy sets no maximum" if limit is None else f"policy maximum {numbers.epsilon(limit)}"


def one_line(epsilon: Epsilon) -> str:
    """Promise and bound in one sentence."""
    if isinstance(epsilon.accounted, NotAvailable):
        promise = "no promise"
    else:
        unit = epsilon.unit if isinstance(epsilon.unit, str) else "one unit"
        promise = (
            f"{numbers.epsilon(epsilon.accounted)} promised for {unit} (delta {numbers.scientific(epsilon.delta)})"
        )
    if isinstance(epsilon.lower_bound, NotAvailable):
        return f"Epsilon: {promise}; not audited: {epsilon.lower_bound.not_available}."
    bound = f"audited {numbers.epsilon(epsilon.lower_bound)} or more ({numbers.share(epsilon.confidence)} confidence)"
    return f"Epsilon: {promise}; {bound}; {_shown_at_most(epsilon)}."


def promise_facts(promise: Accounting) -> tuple[tuple[str, str], ...]:
    """Everything an epsilon must be read with, as terms and values."""
    return (
        ("Promised epsilon", numbers.epsilon(promise.epsilon)),
        ("Delta", numbers.scientific(promise.delta)),
        ("Unit", promise.unit),
        ("Units in the data", numbers.count(promise.n_units)),
        ("Sampling", f"{promise.sampling}, each unit with probability q = {promise.sampling_rate:.4g} a step"),
        ("Steps", f"{numbers.count(promise.steps)}, {numbers.count(promise.noise_only_steps)} of them noise only"),
        ("Noise multiplier", f"{promise.noise_multiplier:.4g} times the clip norm of {promise.clip_norm:.4g}"),
        ("Accountant", promise.accountant.upper()),
    )


def audit_facts(epsilon: Epsilon) -> tuple[tuple[str, str], ...]:
    """What the audited bound rests on."""
    n_inserted = sum(coin.inserted for coin in epsilon.canaries)
    return (
        ("Confidence", numbers.share(epsilon.confidence)),
        ("Assumption", _ASSUMPTIONS[epsilon.assumption]),
        ("Membership score", epsilon.score),
        ("Guesses", _guesses(epsilon)),
        ("Power", _power(epsilon)),
        ("Inserted by the coin", f"{n_inserted:,} of {len(epsilon.canaries):,} canaries"),
        ("AUC (0.5 is chance)", numbers.loss(epsilon.auc)),
        ("p-value, Mann-Whitney", numbers.probability(epsilon.p_value)),
    )


def _power(epsilon: Epsilon) -> str:
    """What this many canaries show of an epsilon, at best."""
    rule: Rule = "fixed" if epsilon.bounds and epsilon.bounds[0].method == "one-run-fixed" else "grid"
    if len(epsilon.canaries) < 2:
        return "none"
    pairs = typical_bounds(len(epsilon.canaries), delta=epsilon.delta, rule=rule, confidence=epsilon.confidence)
    shown = ", ".join(f"{numbers.epsilon(bound)} where epsilon is {true:g}" for true, bound in pairs)
    return f"at best, half of the runs show {shown}"


def bound_rows(epsilon: Epsilon) -> tuple[BoundRow, ...]:
    """The bound that is held against the promise, and the others."""
    return tuple(
        BoundRow(
            method=_METHODS[bound.method],
            assumption=_ASSUMPTIONS[bound.assumption],
            epsilon=numbers.epsilon(bound.epsilon),
            ceiling=numbers.epsilon(bound.ceiling),
            right=_right(bound),
        )
        for bound in epsilon.bounds
    )


def group_rows(result: AuditResult) -> tuple[GroupRow, ...]:
    """Group privacy by level; empty without a promise."""
    if isinstance(result.epsilon, NotAvailable) or isinstance(promise := result.epsilon.accounting, NotAvailable):
        return ()
    space_bits = {group.name: group.space_bits for group in result.groups}
    levels = [level for level in result.levels if level.insertions > 0]
    return tuple(_group_row(level, promise, space_bits.get(level.group, math.inf)) for level in levels)


def _group_row(level: LevelResult, promise: Accounting, space_bits: float) -> GroupRow:
    together = group_promise(promise.epsilon, promise.delta, level.insertions)
    return GroupRow(
        group=level.group,
        insertions=level.insertions,
        epsilon=numbers.epsilon(together.epsilon),
        delta=numbers.scientific(together.delta) if together.delta < 1 else "1",
        allowed=_allowed(together, space_bits),
        median_bits=level.median_bits,
        high_bits=level.high_bits,
    )


def _allowed(together: GroupPromise, space_bits: float) -> str:
    bits = allowed_exposure_bits(together)
    return "any: no promise" if bits >= space_bits else numbers.bits(bits)


def _accounted(epsilon: Epsilon) -> Figure:
    label = "Accounted: what training promises"
    if isinstance(promise := epsilon.accounting, NotAvailable):
        return Figure(label=label, value="none", unit="", note=promise.not_available)
    note = f"for {promise.unit}, delta {numbers.scientific(promise.delta)}"
    return Figure(label=label, value=numbers.epsilon(promise.epsilon), unit="or less", note=note)


def _audited(epsilon: Epsilon) -> Figure:
    label = "Audited: what the canaries show"
    if isinstance(bound := epsilon.lower_bound, NotAvailable):
        return Figure(label=label, value="none", unit="", note=bound.not_available)
    shows_nothing = "; 0 shows nothing" if bound == 0 else ""
    confidence, assumption = numbers.share(epsilon.confidence), _ASSUMPTIONS[epsilon.assumption]
    note = f"at {confidence} confidence; assumption: {assumption}{shows_nothing}"
    return Figure(label=label, value=numbers.epsilon(bound), unit="or more", note=note)


def _ceiling(epsilon: Epsilon) -> Figure:
    label = "Ceiling: the most they could have shown"
    if isinstance(ceiling := epsilon.ceiling, NotAvailable):
        return Figure(label=label, value="none", unit="", note=ceiling.not_available)
    note = f"had every guess on {numbers.plural(len(epsilon.canaries), 'canary')} been right"
    return Figure(label=label, value=numbers.epsilon(ceiling), unit="at most", note=note)


def _shown_at_most(epsilon: Epsilon) -> str:
    return "" if isinstance(epsilon.ceiling, NotAvailable) else f"{numbers.epsilon(epsilon.ceiling)} at most could show"


def _guesses(epsilon: Epsilon) -> str:
    used = epsilon.bounds[0] if epsilon.bounds else None
    return _right(used) if used else f"{epsilon.guesses:,}"


def _right(bound: EpsilonBound) -> str:
    return f"{bound.correct:,} right of {bound.guesses:,}"
