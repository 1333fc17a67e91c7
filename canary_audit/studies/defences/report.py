"""A study as one HTML page and as Markdown; both are pure functions of the study and hold the same numbers."""

import functools
from collections.abc import Iterable, Sequence

from jinja2 import Template
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from canary_audit.report import numbers
from canary_audit.report.html import environment
from canary_audit.report.markdown import code, escape
from canary_audit.report.sanitize import sanitize
from canary_audit.results import Maybe, NotAvailable
from canary_audit.studies.defences.plots import pareto_plot
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, LevelSummary, MatchedChange, PaperTable

MEANING = (
    "Exposure says how far up the model's ranking of all possible secrets a planted one stands, in bits. Losses are in "
    "bits per character of held-out text. Both are of the final model and are means over seeds."
)
MATCHED = (
    "Whatever slows training down lowers exposure, and costs as much of the language. So each final model is held "
    "against the undefended model of the same seed at the moment when that, on its way down, had the same validation "
    "loss. One that ends better than the undefended ever was is compared on its own way down, at the least loss that "
    "both had. Negative: the defence leaks less than training less would have. The intervals are 95 % each, by "
    "Student's t over seeds; among so many, one in twenty misses by chance."
)
ROUNDED = (
    "Quantization is simulated: weights are rounded to the nearest of 2^b - 1 values per output channel and computed "
    "with in fp32."
)


def headers(study: DefencesStudy) -> list[str]:
    """Names of the level columns, such as `16x number`."""
    levels = next((defence.levels for defence in study.defences if defence.levels), ())
    return [f"{level.insertions}x {level.group}" for level in levels]


def level_range(level: LevelSummary) -> str:
    """The range of the seeds."""
    return f"{numbers.bits(level.low_bits)} to {numbers.bits(level.high_bits)}"


def level_cell(level: LevelSummary) -> str:
    """Mean over seeds, and the range of the seeds."""
    return f"{numbers.bits(level.bits)} ({level_range(level)})"


def extracted_cell(defence: DefenceResult) -> str:
    """Secrets that came out, of all that were planted, over all levels and seeds."""
    found = sum(level.n_extracted for level in defence.levels)
    return f"{found} of {sum(level.n_canaries for level in defence.levels)}"


def matched_cell(change: MatchedChange, n_seeds: int) -> str:
    """Change with its interval, and over how many seeds if not over all; a dash where nothing could be compared."""
    if isinstance(change.change_bits, NotAvailable):
        return "not comparable"
    text = _signed(change.change_bits)
    if not isinstance(change.low_bits, NotAvailable) and not isinstance(change.high_bits, NotAvailable):
        text += f" ({_signed(change.low_bits)} to {_signed(change.high_bits)})"
    return text if change.n_seeds == n_seeds else f"{text}, {numbers.plural(change.n_seeds, 'seed')}"


def epsilon_cell(value: Maybe) -> str:
    """The promise, or that there is none."""
    return "none" if isinstance(value, NotAvailable) else numbers.epsilon(value)


def notes(study: DefencesStudy) -> list[str]:
    """What could not be compared at its end, and what failed: one sentence each."""
    found = []
    for defence in study.defences:
        reasons = dict.fromkeys(reason for change in defence.matched for reason in change.remarks)
        found += [f"{defence.name}: {reason}." for reason in reasons]
        found += [f"{defence.name}, seed {failed.seed}, failed: {failed.reason}" for failed in defence.failures]
    return found


def render_html(study: DefencesStudy) -> str:
    """The page: self-contained, no script."""
    plot = Markup(pareto_plot(study, "defences"))  # noqa: S704  our own SVG
    return _template().render(study=study, plot=plot, **_words())


def render_markdown(study: DefencesStudy) -> str:
    """The same without the plot."""
    blocks = [
        f"## Defences compared: {code(study.name)}",
        f"{numbers.plural(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))}), each with secrets of its "
        f"own; training text: {code(study.source)}; canary-audit {code(study.tool_version)}.",
        MEANING,
        "### The final models",
        _table(
            ("Defence", "Validation loss", *headers(study), "Extracted", "Epsilon"), map(_final_row, study.defences)
        ),
        "### At equal validation loss",
        MATCHED,
        _table(("Defence", *headers(study)), [_matched_row(defence, len(study.seeds)) for defence in study.defences]),
        "\n".join(f"- {escape(note)}" for note in notes(study)),
        ROUNDED,
        *_paper(study.paper),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def summary_table(study: DefencesStudy) -> Table:
    """What a console prints: loss, and exposure of the plotted level, of the final models and at equal loss."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("defence", overflow="fold")
    for column in ("loss", f"{study.plotted_level}x (bits)", "extracted", "epsilon", "at equal loss (bits)"):
        table.add_column(column, justify="right", overflow="fold")
    for defence in study.defences:
        bits = [numbers.bits(level.bits) for level in defence.levels if level.insertions == study.plotted_level]
        changes = [
            matched_cell(change, len(study.seeds))
            for change in defence.matched
            if change.insertions == study.plotted_level
        ]
        cells = (
            numbers.loss(defence.validation_bits_per_char) if defence.runs else "failed",
            *(bits or [""]),
            extracted_cell(defence),
            epsilon_cell(defence.epsilon),
            *(changes or [""]),
        )
        table.add_row(Text(sanitize(defence.name)), *(Text(cell) for cell in cells))
    return table


def _words() -> dict[str, object]:
    """What the template calls and quotes."""
    return {
        "headers": headers,
        "level_range": level_range,
        "extracted_cell": extracted_cell,
        "matched_cell": matched_cell,
        "epsilon_cell": epsilon_cell,
        "notes": notes,
        "meaning": MEANING,
        "matched": MATCHED,
        "rounded": ROUNDED,
    }


@functools.cache
def _template() -> Template:
    return environment("canary_audit.studies.defences", "canary_audit.report").get_template("defences.html.j2")


def _signed(value: float) -> str:
    text = numbers.bits(value)
    return f"+{text}" if value >= 0.05 else text


def _final_row(defence: DefenceResult) -> tuple[str, ...]:
    return (
        code(defence.name),
        escape(numbers.loss(defence.validation_bits_per_char)),
        *map(level_cell, defence.levels),
        extracted_cell(defence),
        epsilon_cell(defence.epsilon),
    )


def _matched_row(defence: DefenceResult, n_seeds: int) -> tuple[str, ...]:
    return (code(defence.name), *(matched_cell(change, n_seeds) for change in defence.matched))


def _paper(paper: PaperTable) -> list[str]:
    rows = [
        tuple(map(escape, (row.defence, row.epsilon, row.test_loss, row.exposure_bits, row.extracted)))
        for row in paper.rows
    ]
    return [
        "### The paper's own table",
        f"{escape(paper.source)}. {escape(paper.caution)}",
        _table(("Defence", "Epsilon", "Test loss", "Exposure (bits)", "Extracted"), rows),
        "\n".join(f"- {escape(remark)}" for remark in paper.remarks),
        "Why the numbers differ:",
        "\n".join(f"- {escape(difference)}" for difference in paper.differences),
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text; short rows are filled up."""
    rule = ("---", *("---:" for _ in columns[1:]))
    filled = [(*row, *[""] * (len(columns) - len(row))) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *filled))
