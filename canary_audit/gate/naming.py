"""Reasons that name what they are about."""

from collections.abc import Sequence

from canary_audit.results import CanaryResult, Reason

_NAMED_AT_MOST = 5


def reason_about(code: str, statement: str, canaries: Sequence[CanaryResult]) -> Reason:
    """A reason that names its canaries: all of them for machines, the first few in the message."""
    ids = tuple(canary.id for canary in canaries)
    return Reason(code=code, message=f"{statement} ({listed(ids)}).", canaries=ids)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
