"""What a study of a paper found: frozen types, and their JSON form in `study.json`.

A study is made of experiments, and each leaves one section. What people read is in sentences, grids and charts; what
decides is in the trends. Nothing here quotes training text.
"""

import json
from typing import Final, Literal, Self

from pydantic import computed_field, model_validator

from canary_audit.results import Frozen

STUDY_SCHEMA_VERSION: Final = 1


class Trend(Frozen):
    """One claim of a paper, and whether it shows here."""

    id: str
    """That of the table in `docs/papers.md`, such as A1."""
    claim: str
    """What the paper says, in a few words."""
    paper: str
    """Its number, or that it gives none."""
    ours: str
    """Our numbers, over the seeds."""
    criterion: str
    """What was asked of them, fixed before they were known."""
    holds: bool


class Grid(Frozen):
    """A table: text as it is shown, one tuple a row; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _is_rectangular(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("every row of a grid has a cell for every column")
        return self


class Series(Frozen):
    """Points of one name, in the order in which a line goes through them."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """Least and greatest of the seeds at each point, drawn as a band; both or neither."""

    @model_validator(mode="after")
    def _is_aligned(self) -> Self:
        lengths = {len(self.x), len(self.y), *(len(end) for end in (self.low, self.high) if end)}
        if len(lengths) > 1 or bool(self.low) != bool(self.high):
            raise ValueError("x, y, low and high of a series have the same length")
        return self


class Chart(Frozen):
    """A plot as data: `lines` join the points of each series, `dots` do not, `bars` stand side by side at `names`."""

    kind: Literal["lines", "dots", "bars"]
    caption: str
    """What it shows; also read out where it cannot be seen."""
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    names: tuple[str, ...] = ()
    """Of the places 0, 1, ... on the horizontal axis; without them it is a number line."""
    log_x: bool = False
    log_y: bool = False


class Section(Frozen):
    """What one experiment found."""

    experiment: str
    """Name by which the command line asks for it."""
    title: str
    answer: str = ""
    """One or two sentences to the question of the study, from this experiment; the page begins with them."""
    findings: tuple[str, ...]
    """Paragraphs: what was done and what came out, and what that does not show."""
    trends: tuple[Trend, ...] = ()
    grids: tuple[Grid, ...] = ()
    charts: tuple[Chart, ...] = ()


class PaperStudy(Frozen):
    """A study of one paper, whole: the content of `study.json`."""

    schema_version: Literal[1] = STUDY_SCHEMA_VERSION
    study: str
    tool_version: str
    title: str
    source: str
    """The paper."""
    question: str
    """What an auditor asks that it answers."""
    dataset: str
    seeds: tuple[int, ...]
    sections: tuple[Section, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def trends(self) -> tuple[Trend, ...]:
        """Those of all sections."""
        return tuple(trend for section in self.sections for trend in section.trends)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, two-space indent, one trailing newline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, allow_nan=False) + "\n"
