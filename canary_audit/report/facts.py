"""What every format says first: the verdict in one sentence, the numbers behind it, and the limits of the audit."""

import math
import shlex

from canary_audit.gate import is_judged_level
from canary_audit.report import access, numbers, privacy
from canary_audit.report.figures import Figure
from canary_audit.report.sanitize import sanitize
from canary_audit.results import AuditResult, CanaryResult, Exposure, GroupResult, NotAvailable, VerdictName
from canary_audit.statistics.power import detectable_bits

NULL_95_BITS = math.log2(20)
"""A never-inserted secret ranks uniformly, so 95 % of them show less exposure than this."""

_HEADLINES: dict[VerdictName, str] = {
    "FAIL": "This model gives away secrets it was trained on.",
    "PASS": "No planted secret leaked beyond the policy, in an audit that would have noticed.",
    "INCONCLUSIVE": "This audit can neither clear the model nor fail it.",
    "ERROR": "The evidence is incomplete or contradicts itself, so there is nothing to judge.",
}


_NO_POLICY = "no policy"

_EPSILON_HEADLINES = {
    "claim-refuted": "This model is less private than its training promises.",
    "epsilon": "This model is less private than the policy asks for.",
    "epsilon-within": "Epsilon was not shown to exceed the policy, in an audit that could have shown it.",
}
"""For verdicts that rest on epsilon alone: no secret leaked then."""


def headline(result: AuditResult) -> str:
    """The verdict in one plain sentence."""
    codes = {reason.code for reason in result.reasons}
    if codes == {"no-policy"}:
        return "This audit measured; no policy has judged it yet."
    if codes and codes <= set(_EPSILON_HEADLINES) and result.verdict in {"FAIL", "PASS"}:
        return next(sentence for code, sentence in _EPSILON_HEADLINES.items() if code in codes)
    return _HEADLINES[result.verdict]


def inserted(result: AuditResult) -> tuple[CanaryResult, ...]:
    """Canaries that were in the training data."""
    return tuple(canary for canary in result.canaries if canary.role != "control")


def judged(result: AuditResult) -> tuple[CanaryResult, ...]:
    """Inserted canaries that the result's policy judges; all of them where there is no policy."""
    policy = result.policy
    if isinstance(policy, NotAvailable):
        return inserted(result)
    return tuple(c for c in inserted(result) if c.role == "natural" or is_judged_level(c.insertions, policy))


def tested(result: AuditResult) -> tuple[CanaryResult, ...]:
    """Judged canaries with a p-value: the family that Holm's correction runs over."""
    return tuple(canary for canary in judged(result) if not isinstance(canary.p_value, NotAvailable))


def ranked_groups(result: AuditResult) -> tuple[GroupResult, ...]:
    """Groups whose canaries have an exposure; of the others, coins decided, and they only bound epsilon."""
    names = {canary.group for canary in result.canaries}
    return tuple(group for group in result.groups if group.name in names)


def key_figures(result: AuditResult) -> tuple[Figure, ...]:
    """The numbers that decide a verdict, each beside what the policy or chance allows."""
    figures = (_extracted(result), _highest_exposure(result), _smallest_p(result), _positive_control(result))
    audited = privacy.key_figure(result)
    return (*figures, audited) if audited else figures


def _extracted(result: AuditResult) -> Figure:
    canaries = judged(result)
    found = sum(canary.extraction.found for canary in canaries)
    note = f"{_tolerance(result)}; {_scope(result)}"
    return Figure(label="Secrets extracted", value=numbers.count(found), unit=f"of {len(canaries):,}", note=note)


def _tolerance(result: AuditResult) -> str:
    if isinstance(result.policy, NotAvailable):
        return _NO_POLICY
    return "the policy tolerates none" if result.policy.fail_on_extraction else "the policy does not judge this"


def _scope(result: AuditResult) -> str:
    """Which of the inserted canaries the policy judges."""
    n_planted, n_judged = len(inserted(result)), len(judged(result))
    if isinstance(result.policy, NotAvailable):
        return f"{numbers.plural(n_planted, 'canary')} inserted"
    if n_judged == n_planted:
        return "every inserted canary is judged"
    return f"{n_judged:,} of {n_planted:,} inserted canaries are judged"


def _highest_exposure(result: AuditResult) -> Figure:
    label, limit = "Highest exposure", _NO_POLICY
    if not isinstance(result.policy, NotAvailable):
        limit = f"policy maximum {numbers.bits(result.policy.max_exposure_bits)} bits"
    canaries = judged(result)
    exposures = [(c.exposure.low, c.space_bits) for c in canaries if isinstance(c.exposure, Exposure)]
    if not exposures:
        nothing = "none of them was measured" if canaries else "no canary is judged"
        return Figure(label=label, value="none", unit="", note=f"{nothing}; {limit}")
    low, space_bits = max(exposures, key=lambda exposure: exposure[0])
    unit = f"of {numbers.bits(space_bits)} bits"
    return Figure(label=label, value=numbers.bits(low), unit=unit, note=f"{limit}; low end of its 95 % interval")


def _smallest_p(result: AuditResult) -> Figure:
    label, policy = "Smallest adjusted p-value", result.policy
    limit = _NO_POLICY if isinstance(policy, NotAvailable) else f"significant up to {policy.alpha:g}"
    values = [canary.adjusted_p_value for canary in judged(result)]
    known = [value for value in values if not isinstance(value, NotAvailable)]
    if not known:
        return Figure(label=label, value="none", unit="", note=f"no judged canary has one; {limit}")
    note = limit
    if not isinstance(policy, NotAvailable):
        n_significant = sum(value <= policy.alpha for value in known)
        note = f"{limit}; {n_significant:,} of {numbers.plural(len(known), 'canary')} are"
    return Figure(label=label, value=numbers.probability(min(known)), unit="", note=note)


def _positive_control(result: AuditResult) -> Figure:
    control, policy = result.positive_control, result.policy
    if isinstance(control.p_value, NotAvailable):
        note = control.reason
    else:
        limit = _NO_POLICY
        if not isinstance(policy, NotAvailable):
            limit = f"needed {numbers.probability(policy.positive_control_p)} or less"
        note = f"p = {numbers.probability(control.p_value)}; {limit}"
    if not isinstance(policy, NotAvailable) and policy.control_levels:
        note += f"; control levels: {', '.join(f'{level:,}' for level in policy.control_levels)} insertions"
    return Figure(label="Positive control", value=control.status.replace("-", " "), unit="", note=note)


def limits(result: AuditResult) -> tuple[str, ...]:
    """What this audit could not have found, as sentences."""
    sizes = "; ".join(
        f"{group.name}: {numbers.bits(group.space_bits)} bits ({space_size(group)} possible secrets)"
        for group in result.groups
    )
    return (
        _power(result),
        f"Exposure cannot exceed the size of the secret space. {sizes or 'No group of canaries was audited'}.",
        "Only secrets of these formats behind these prefixes were looked for; other kinds of data may still leak.",
        f"Access to the model: {access.TIERS[result.model.tier]}",
        *(f"{notice}." for notice in result.model.notices),
        *(f"{group.name}: {group.notice}." for group in result.groups if group.notice),
    )


def _power(result: AuditResult) -> str:
    n_tested = len(tested(result))
    if n_tested == 0:
        return "No judged canary has a p-value, so no exposure would have been significant."
    if isinstance(result.policy, NotAvailable):
        return "No policy, so no alpha: what exposure would be significant is not said."
    if result.model.tier == "text-only":
        return "A secret that did not come out may be close to coming out: text shows no exposure."
    detectable = detectable_bits(n_tested, result.policy.alpha)
    return (
        f"A single canary below {numbers.bits(detectable)} bits of exposure cannot be told from chance: that is "
        f"log2(m / alpha) for m = {numbers.plural(n_tested, 'tested canary')} and alpha = {result.policy.alpha:g}."
    )


def space_size(group: GroupResult) -> str:
    """|R| with thousands separators, or as a power of two where the digits would say nothing."""
    size = group.space_size
    return numbers.count(int(size)) if size.isdecimal() and len(size) <= 15 else numbers.power(group.space_bits)


def reproduce(result: AuditResult) -> tuple[str, ...]:
    """Commands that check this result, judge it anew, and measure it anew; safe to paste whatever the audit's name."""
    run = sanitize(f"reports/{result.name}")
    again = f"canary-audit run CONFIG.toml --seed {result.seed}"
    if not isinstance(result.endpoint, NotAvailable):
        address, api = (shlex.quote(sanitize(text)) for text in (result.endpoint.url, result.endpoint.api))
        window = f"--endpoint {address} --api {api} --tier {result.model.tier}"
        again = f"canary-audit audit --ledger LEDGER.json {window} --model MODEL --tokenizer DIR --seed {result.seed}"
    return (
        f"canary-audit verify {shlex.quote(run)}",
        f"canary-audit gate {shlex.quote(run + '/result.json')} --policy POLICY.toml",
        again,
    )
