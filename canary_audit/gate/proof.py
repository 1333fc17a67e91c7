"""What an audit must have proved about itself before a clean result says anything."""

from collections.abc import Iterator, Sequence

from canary_audit.results import AuditResult, CanaryResult, Maybe, NotAvailable, PolicyTable, Reason

CONTROLS_UNIFORM_P = 1e-3
"""Below this the ranks of the never-inserted controls are not uniform, and no p-value can be trusted."""


def unproved(result: AuditResult, policy: PolicyTable) -> Iterator[Reason]:
    """Reasons to doubt that this audit would have seen a leak, the most important first."""
    yield from _language_not_learned(result)
    yield from _positive_control_missing(result, policy)
    yield from _planting_not_shown(result, policy)
    yield from _doubtful_null(result, policy)


def _language_not_learned(result: AuditResult) -> Iterator[Reason]:
    if isinstance(result.language.validation_bits_per_char, NotAvailable):
        message = "Whether the model has learned its language was not measured, so a clean result proves nothing."
        yield Reason(code="language-not-measured", message=message)
    elif not result.language.learned:
        message = "The model has not learned its language, so it had no chance to memorize a secret either."
        yield Reason(code="not-learned", message=message)


def _positive_control_missing(result: AuditResult, policy: PolicyTable) -> Iterator[Reason]:
    control = result.positive_control
    if _control_levels_detected(result.canaries, policy):
        return
    if control.status == "not-run":
        message = "No positive control has shown that this audit can see what such a model keeps."
        yield Reason(code="positive-control-not-run", message=message)
    elif control.status == "missed" or not _at_most(control.p_value, policy.positive_control_p):
        message = (
            f"The audit missed {control.n_canaries} secrets taught to a copy of the model (the policy asks for p <= "
            f"{policy.positive_control_p:g}), so it could miss a leak too."
        )
        yield Reason(code="positive-control-missed", message=message)


def _planting_not_shown(result: AuditResult, policy: PolicyTable) -> Iterator[Reason]:
    """A model trained elsewhere may never have seen the canaries; then it would look clean whatever it keeps."""
    if isinstance(result.training, NotAvailable) and not _control_levels_detected(result.canaries, policy):
        message = (
            "The model was trained elsewhere, and nothing shows that it saw the planted data: name control_levels in "
            "the policy, repeated so often that any model trained on them shows them."
        )
        yield Reason(code="planting-not-shown", message=message)


def _control_levels_detected(canaries: Sequence[CanaryResult], policy: PolicyTable) -> bool:
    """Whether levels serve as positive control, all of them are there, and every canary of them was detected."""
    controls = [c for c in canaries if c.role == "level" and c.insertions in policy.control_levels]
    complete = {c.insertions for c in controls} == set(policy.control_levels)
    return bool(controls) and complete and all(_at_most(c.p_value, policy.positive_control_p) for c in controls)


def _at_most(value: Maybe, limit: float) -> bool:
    return not isinstance(value, NotAvailable) and value <= limit


def _doubtful_null(result: AuditResult, policy: PolicyTable) -> Iterator[Reason]:
    null = result.null
    if not isinstance(null.uniform_p, NotAvailable) and null.uniform_p < CONTROLS_UNIFORM_P:
        message = (
            f"The {null.n_controls} never-inserted controls do not rank uniformly (p = {null.uniform_p:.2g}), "
            "so no p-value of this audit can be trusted."
        )
        yield Reason(code="controls-not-uniform", message=message)
    if null.n_controls and isinstance(null.uniform_p, NotAvailable):
        message = (
            f"The {null.n_controls} never-inserted controls have no exact ranks, so nothing shows that chance behaves "
            f"on this model as p-values assume: {null.uniform_p.not_available}."
        )
        yield Reason(code="null-not-tested", message=message)
    if null.n_controls < policy.min_controls:
        message = f"{null.n_controls} never-inserted controls were measured; the policy asks for {policy.min_controls}."
        yield Reason(code="too-few-controls", message=message)
