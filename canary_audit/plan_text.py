"""The plan of an audit as plain text, for the terminal."""

from canary_audit.planning import AuditPlan, GroupPlan
from canary_audit.results import Maybe, NotAvailable


def plan_text(plan: AuditPlan) -> str:
    """What a design plants, what it can detect, and what it cannot see."""
    share = plan.data_share
    of_data = share.not_available if isinstance(share, NotAvailable) else f"{share:.2%} of the planted data"
    lines = [
        *(_group(group) for group in plan.groups),
        f"insertions    about {plan.expected_insertions:.0f} in all ({of_data})",
        f"detects       exposure above {plan.failing_bits:.1f} bits on a single canary "
        f"({plan.detectable_bits:.1f} bits are significant after correction over {plan.n_judged} canaries)",
        *_model(plan.model_weights),
        f"false alarms  at most {plan.false_alarm_rate:.0%} of models that memorize nothing",
        "cannot see",
        *(f"  - {spot}" for spot in plan.cannot_see),
    ]
    return "\n".join(lines)


def _model(n_weights: Maybe) -> list[str]:
    """Size of a pretrained model; nothing of a built-in one."""
    if isinstance(n_weights, NotAvailable):
        return []
    return [f"model         {n_weights / 1e6:.0f} million weights, {n_weights * 4 / 1e9:.1f} GB in fp32"]


def _group(group: GroupPlan) -> str:
    return (
        f"{group.name:12}  {group.format}: {group.space_size:.3g} secrets, {group.space_bits:.1f} bits; "
        f"{group.n_judged} canaries judged, {group.n_not_judged} not, {group.n_controls} controls, "
        f"{group.n_coin_flips} coin flips"
    )
