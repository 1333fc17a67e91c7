"""The plan of an audit as plain text, for the terminal."""

from canary_audit.planning import AuditPlan, GroupPlan
from canary_audit.planning.epsilon import EpsilonPlan
from canary_audit.results import Maybe, NotAvailable

_LARGEST_FLOAT_BITS = 1_000


def plan_text(plan: AuditPlan) -> str:
    """What a design plants, what it can detect, and what it cannot see."""
    share = plan.data_share
    of_data = share.not_available if isinstance(share, NotAvailable) else f"{share:.2%} of the planted data"
    lines = [
        *(_group(group) for group in plan.groups),
        f"insertions    about {plan.expected_insertions:.0f} in all ({of_data})",
        *_exposure(plan),
        *_epsilon(plan.epsilon),
        *_model(plan.model_weights),
        f"false alarms  at most {plan.false_alarm_rate:.0%} of models that memorize nothing{_of_which(plan)}",
        "cannot see",
        *(f"  - {spot}" for spot in plan.cannot_see),
    ]
    return "\n".join(lines)


def _model(n_weights: Maybe) -> list[str]:
    """Size of a pretrained model; nothing of a built-in one."""
    if isinstance(n_weights, NotAvailable):
        return []
    return [f"model         {n_weights / 1e6:.0f} million weights, {n_weights * 4 / 1e9:.1f} GB in fp32"]


def _exposure(plan: AuditPlan) -> list[str]:
    if isinstance(plan.failing_bits, NotAvailable) or isinstance(plan.detectable_bits, NotAvailable):
        return []
    return [
        f"detects       exposure above {plan.failing_bits:.1f} bits on a single canary "
        f"({plan.detectable_bits:.1f} bits are significant after correction over {plan.n_judged} canaries)"
    ]


def _epsilon(plan: EpsilonPlan) -> list[str]:
    """What training promises, and what the coin flips could show; nothing where there is neither."""
    lines = [] if isinstance(plan.promise, NotAvailable) else [f"promises      {plan.promise}"]
    lines += [
        f"bounds        epsilon from below by {plan.n_coin_flips:,} coin flips: {ceiling:.2f} at most{assuming}"
        for ceiling, assuming in _ceilings(plan)
    ]
    if plan.power:
        shown = ", ".join(f"{bound:.2f} where epsilon is {epsilon:g}" for epsilon, bound in plan.power)
        lines.append(f"power         at best, half of the runs show {shown}")
    return lines


def _ceilings(plan: EpsilonPlan) -> list[tuple[float, str]]:
    ceilings = [(plan.ceiling, ", had every guess been right")]
    if plan.limit_ceiling != plan.ceiling:
        ceilings.append((plan.limit_ceiling, " for the policy's bound, which assumes DP-SGD"))
    return [(ceiling, assuming) for ceiling, assuming in ceilings if not isinstance(ceiling, NotAvailable)]


def _of_which(plan: AuditPlan) -> str:
    by_epsilon = plan.epsilon.false_alarm_rate
    by_exposure = plan.false_alarm_rate - by_epsilon
    return f": {by_exposure:.0%} by exposure, {by_epsilon:.0%} by epsilon" if by_epsilon else ""


def _group(group: GroupPlan) -> str:
    least = "at least " if group.generated else ""
    size = f"{group.space_size:.3g}" if group.space_bits < _LARGEST_FLOAT_BITS else f"2^{group.space_bits:.0f}"
    return (
        f"{group.name:12}  {group.format}: {least}{size} secrets, {group.space_bits:.1f} bits; "
        f"{group.n_judged} canaries judged, {group.n_not_judged} not, {group.n_controls} controls, "
        f"{group.n_coin_flips} coin flips"
    )
