"""The study of a paper as one HTML page, as Markdown, and as a table for the console; all hold the same trends."""

import functools
from collections.abc import Iterable, Sequence

from jinja2 import Template
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from canary_audit.report import numbers
from canary_audit.report.html import environment
from canary_audit.report.markdown import escape
from canary_audit.report.sanitize import sanitize
from canary_audit.studies.charts import chart_svg
from canary_audit.studies.findings import Grid, PaperStudy, Section, Trend

NO_TRENDS = "The experiments that were run hold no claim of the paper against a criterion."


def render_html(study: PaperStudy) -> str:
    """The page: self-contained, no script."""
    return _template().render(study=study, charts=_charts, verdict=verdict, tally=tally(study))


def render_markdown(study: PaperStudy) -> str:
    """The same without the charts."""
    blocks = [
        f"## {escape(study.title)}: {escape(study.question)}",
        *(escape(section.answer) for section in study.sections if section.answer),
        f"{escape(study.source)}. {escape(_made_from(study))} {escape(tally(study))}",
        _table(
            ("Trend", "Paper", "Ours", "Criterion", "Holds"),
            [(f"{t.id}: {t.claim}", t.paper, t.ours, t.criterion, verdict(t)) for t in study.trends],
        ),
        *(block for section in study.sections for block in _section_blocks(section)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def summary_table(study: PaperStudy) -> Table:
    """What a console prints: every trend, with the paper's number beside ours."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("claim", "paper", "ours"):
        table.add_column(column, overflow="fold")
    table.add_column("holds", justify="right")
    for trend in study.trends:
        table.add_row(
            *(Text(sanitize(text)) for text in (trend.id, trend.claim, trend.paper, trend.ours)), verdict(trend)
        )
    return table


def answers(study: PaperStudy) -> list[str]:
    """What the experiments say to the question of the study."""
    return [sanitize(section.answer) for section in study.sections if section.answer]


def verdict(trend: Trend) -> str:
    """Whether the trend shows here."""
    return "yes" if trend.holds else "no"


def tally(study: PaperStudy) -> str:
    """How many trends hold."""
    held = sum(trend.holds for trend in study.trends)
    return f"{held} of {numbers.plural(len(study.trends), 'trend')} hold here." if study.trends else NO_TRENDS


def _made_from(study: PaperStudy) -> str:
    on = f"Classifiers: {study.dataset}. " if study.dataset else ""
    return f"{on}{numbers.plural(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))})."


def _section_blocks(section: Section) -> Iterable[str]:
    yield f"### {escape(section.title)}"
    yield from (escape(finding) for finding in section.findings)
    yield from (f"{escape(grid.caption)}\n\n{_grid(grid)}" for grid in section.grids)


def _grid(grid: Grid) -> str:
    return _table(grid.columns, grid.rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = [map(escape, columns), ("---" for _ in columns), *(map(escape, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _charts(section: Section) -> list[tuple[str, Markup]]:
    """Caption and drawing of every chart of a section."""
    return [
        (chart.caption, Markup(chart_svg(chart, f"{section.experiment}-{place}")))  # noqa: S704  our own SVG
        for place, chart in enumerate(section.charts, start=1)
    ]


@functools.cache
def _template() -> Template:
    made = environment("canary_audit.studies", "canary_audit.report")
    made.filters["made_from"] = _made_from
    return made.get_template("study.html.j2")
