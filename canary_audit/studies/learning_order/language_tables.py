"""Tables and charts of the experiment on language models."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

from canary_audit.report import numbers
from canary_audit.studies.findings import Chart, Grid, Series
from canary_audit.studies.language.words import level_name
from canary_audit.studies.learning_order.early_rows import EarlyRow
from canary_audit.studies.learning_order.language_looks import Followed
from canary_audit.studies.seeds import band

_SHOWN: Final = 20
_DOTS: Final = 400


def levels_grid(followed: Sequence[Followed]) -> Grid:
    """Exposure and accessibility of the secrets, level by level."""
    rows = []
    for level in followed[0].exposures:
        exposures = [one.exposures[level] for one in followed]
        cells = [f"{fmean(own):.1f} ({min(own):.1f} to {max(own):.1f})" for own in exposures]
        rows.append((level_name(level), *cells, *(f"{fmean(one.secrets[level]):.2f}" for one in followed)))
    return Grid(
        caption="Exposure of the final model in bits (mean of the canaries, their range), and share of epochs in which "
        "a token of a secret was predicted",
        columns=(
            "",
            *(f"exposure, seed {one.seed}" for one in followed),
            *(f"predicted, seed {one.seed}" for one in followed),
        ),
        rows=tuple(rows),
    )


def early_grid(early: Sequence[EarlyRow]) -> Grid:
    """The rows at the top of the list."""
    return Grid(
        caption="Rows learned early that should be hard, the most suspicious first",
        columns=("row", "canary", "occurs", "characters", "zlib bits / character", "predicted", "excess (deviations)"),
        rows=tuple(
            (
                str(one.row.number),
                one.row.canary,
                f"{one.row.occurrences}x",
                numbers.count(one.row.n_chars),
                f"{one.row.hardness:.1f}",
                f"{one.row.accessibility:.2f}",
                f"{one.excess:+.1f}",
            )
            for one in early[:_SHOWN]
        ),
    )


def charts(followed: Sequence[Followed]) -> Iterator[Chart]:
    """Documents in two trainings, and exposure by epoch."""
    first, second = followed[:2]
    pairs = [(a, b) for a, b in zip(first.rows, second.rows, strict=True)]
    ordinary = [pair for pair in pairs if not pair[0].canary]
    kinds = {
        "ordinary documents": ordinary[:: max(1, len(ordinary) // _DOTS)],
        "canaries": [pair for pair in pairs if pair[0].canary],
    }
    yield Chart(
        kind="dots",
        caption="Accessibility of training documents in two trainings: ordinary ones are the same text in both, "
        "canaries share only their number of insertions",
        x_label=f"accessibility, seed {first.seed}",
        y_label=f"accessibility, seed {second.seed}",
        series=tuple(
            Series(name=name, x=tuple(a.accessibility for a, _ in own), y=tuple(b.accessibility for _, b in own))
            for name, own in kinds.items()
        ),
    )
    yield Chart(
        kind="lines",
        caption="Median exposure after each epoch; mean over the seeds, with their range",
        x_label="epoch",
        y_label="exposure (bits)",
        series=tuple(
            band(
                level_name(level),
                [one.course.exposures[level] for one in followed],
            )
            for level in first.course.exposures
        ),
    )
