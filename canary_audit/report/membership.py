"""Membership scores in every format: how well each tells what was trained on from what was not."""

from collections.abc import Sequence
from dataclasses import dataclass

from canary_audit.report import numbers
from canary_audit.results import AuditResult, MembershipResult, OperatingPoint

MEANING = (
    "A membership score is higher for what the model was trained on, if it works. The primary score was fixed before "
    "the run; of the others the best is chosen by chance too, so they are shown for comparison and decide nothing."
)
_SAMPLES = {
    "canaries": "Coin-flipped canaries: inserted against left out",
    "rows": "Rows of the data: trained on against held out",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its 95 % interval."""

    value: str
    interval: str

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One score as a row of the table."""

    score: str
    primary: bool
    n_in: int
    n_out: int
    auc: Measured
    rates: tuple[Measured, ...]
    """True positive rates at the false positive rates of the table's columns."""


_NOT_MEASURED = Measured(value="not measured", interval="")


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """All scores on one sample, the primary one first."""

    title: str
    fprs: tuple[str, ...]
    """False positive rates of the columns."""
    rows: tuple[ScoreRow, ...]
    members: tuple[MembershipResult, ...]


def tables(result: AuditResult) -> tuple[SampleTable, ...]:
    """One table for each sample that was scored."""
    by_sample = {sample: [m for m in result.membership if m.sample == sample] for sample in _SAMPLES}
    return tuple(_table(_SAMPLES[sample], found) for sample, found in by_sample.items() if found)


def _table(title: str, members: Sequence[MembershipResult]) -> SampleTable:
    ordered = tuple(sorted(members, key=lambda member: not member.primary))
    fprs = sorted({point.fpr for member in ordered for point in member.operating_points})
    return SampleTable(
        title=title,
        fprs=tuple(numbers.share(fpr) for fpr in fprs),
        rows=tuple(_row(member, fprs) for member in ordered),
        members=ordered,
    )


def _row(member: MembershipResult, fprs: Sequence[float]) -> ScoreRow:
    points = {point.fpr: point for point in member.operating_points}
    return ScoreRow(
        score=member.score,
        primary=member.primary,
        n_in=member.n_in,
        n_out=member.n_out,
        auc=Measured(
            value=numbers.loss(member.auc),
            interval=f"{numbers.loss(member.auc_low)} to {numbers.loss(member.auc_high)}",
        ),
        rates=tuple(_rate(points[fpr]) if fpr in points else _NOT_MEASURED for fpr in fprs),
    )


def _rate(point: OperatingPoint) -> Measured:
    interval = f"{numbers.share(point.low)} to {numbers.share(point.high)}"
    return Measured(value=numbers.share(point.tpr), interval=interval)
