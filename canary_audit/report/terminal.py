"""The summary a command prints when it is done: verdict, reasons, levels, extraction.

All text becomes `rich.text.Text`, which knows no markup: what a stranger wrote is shown, not interpreted.
"""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from canary_audit.report import access, extracted, facts, known, numbers, privacy
from canary_audit.report.sanitize import sanitize
from canary_audit.results import AuditResult, LevelResult, NotAvailable, VerdictName

_STYLES: dict[VerdictName, str] = {
    "FAIL": "bold red",
    "PASS": "bold green",
    "INCONCLUSIVE": "bold yellow",
    "ERROR": "bold magenta",
}


def summary(result: AuditResult) -> RenderableType:
    """What a console prints of `result`; where the report lies is for the caller to add."""
    verdict = Text(result.verdict, style=_STYLES[result.verdict]).append(f"  {facts.headline(result)}", style="bold")
    reasons = [Text(f"  - {sanitize(reason.message)}") for reason in result.reasons]
    levels = [_levels(result.levels)] if result.levels else [Text("No canary was inserted.")]
    lines = (
        known.without_median(result.levels),
        f"{extracted.totals(result)}.",
        "" if isinstance(result.epsilon, NotAvailable) else privacy.one_line(result.epsilon),
        access.one_line(result),
    )
    return Group(verdict, *reasons, *levels, *(Text(sanitize(line)) for line in lines if line))


def _levels(levels: tuple[LevelResult, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    several_groups = len({level.group for level in levels}) > 1
    if several_groups:
        table.add_column("group", overflow="fold")
    for column in ("insertions", "median (bits)", "range (bits)", "extracted", "p-value"):
        table.add_column(column, justify="right", overflow="fold")
    for level in levels:
        cells = (
            numbers.count(level.insertions),
            numbers.bits_or_dash(level.median_bits),
            numbers.span(level.low_bits, level.high_bits),
            extracted.of_level(level),
            numbers.probability(level.p_value),
        )
        group = (Text(sanitize(level.group)),) if several_groups else ()
        table.add_row(*group, *(Text(cell) for cell in cells))
    return table
