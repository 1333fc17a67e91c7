"""What is known of numbers that a served model may hide: exact values, intervals only, or nothing."""

from collections.abc import Iterable

from canary_audit.report import numbers
from canary_audit.results import AuditResult, CanaryResult, Exposure, LevelResult, Maybe, NotAvailable


def exposure_bits(canary: CanaryResult) -> Maybe:
    """The point value of its exposure."""
    return canary.exposure if isinstance(canary.exposure, NotAvailable) else canary.exposure.bits


def bounded(exposure: Exposure | NotAvailable) -> bool:
    """Whether it lies in a known interval and nowhere closer."""
    return isinstance(exposure, Exposure) and isinstance(exposure.bits, NotAvailable)


def some_bounded(result: AuditResult, group: str) -> bool:
    """Whether of any canary of a group only an interval is known."""
    return any(bounded(canary.exposure) for canary in result.canaries if canary.group == group)


def span(exposure: Exposure | NotAvailable) -> str:
    """The interval of an exposure in bits."""
    return numbers.DASH if isinstance(exposure, NotAvailable) else numbers.span(exposure.low, exposure.high)


def rank(exposure: Exposure | NotAvailable) -> str:
    """The rank, or the most it can be."""
    if isinstance(exposure, NotAvailable):
        return numbers.DASH
    if isinstance(exposure.rank, NotAvailable):
        return f"\u2264 {numbers.count(exposure.rank_high)}"
    return numbers.count(exposure.rank)


def certainty(exposure: Exposure | NotAvailable) -> str:
    """Whether a rank was counted, estimated or only bounded."""
    if isinstance(exposure, NotAvailable):
        return numbers.DASH
    if isinstance(exposure.bits, NotAvailable):
        return "bounded"
    return "exact" if exposure.exact else "estimated"


def method(exposure: Exposure | NotAvailable) -> str:
    """How a rank was found."""
    return "" if isinstance(exposure, NotAvailable) else exposure.method.replace("-", " ")


def measured(result: AuditResult, group: str) -> bool:
    """Whether any canary of a group has an exposure."""
    return any(isinstance(c.exposure, Exposure) for c in result.canaries if c.group == group)


def without_exposure(result: AuditResult, group: str) -> str:
    """Why a group has no exposures."""
    return _together(c.exposure for c in result.canaries if c.group == group)


def without_median(levels: Iterable[LevelResult]) -> str:
    """A note on levels whose median is not known; empty if there are none."""
    return _note(level.median_bits for level in levels)


def without_point(canaries: Iterable[CanaryResult]) -> str:
    """A note on canaries whose exposure is not known exactly; empty if there are none."""
    return _note(map(exposure_bits, canaries))


def without_need(canaries: Iterable[CanaryResult]) -> str:
    """A note on canaries of which no number of continuations is known; empty if there are none."""
    return _note(canary.samples_needed for canary in canaries)


def _note(values: Iterable[object]) -> str:
    reasons = _together(values)
    return f"{numbers.DASH} not available: {reasons}." if reasons else ""


def _together(values: Iterable[object]) -> str:
    """The reasons of all that is missing, each once, in order."""
    return "; ".join(dict.fromkeys(value.not_available for value in values if isinstance(value, NotAvailable)))
