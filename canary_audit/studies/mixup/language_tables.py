"""A study of defences in words, tables and charts of this study."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from canary_audit.report import numbers
from canary_audit.results import Maybe, NotAvailable
from canary_audit.studies.defences.report import MATCHED, headers, level_cell, matched_cell, notes
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, StudyRun
from canary_audit.studies.findings import Chart, Grid, Series


def findings(study: DefencesStudy) -> Iterator[str]:
    """What was done and what came out; paragraphs."""
    named = "; ".join(f"{one.name}: {one.about}" for one in study.defences if one.about)
    yield (
        f"Trainings with {numbers.plural(len(study.seeds), 'seed')}, each with secrets of its own that all share: "
        f"{named}. Mixup takes the embeddings of two rows of a batch, mixed position by position, and the same mixture "
        "of their two losses."
    )
    yield MATCHED
    slower = [
        f"{one.name} {signed(change)}"
        for one in study.defences[1:]
        if not isinstance(change := equal_epochs(study.defences[0].runs, one.runs, study.plotted_level), NotAvailable)
    ]
    if slower:
        yield (
            f"After equally many epochs the exposure of canaries inserted {study.plotted_level} times differs by so "
            f"many bits from that without a defence: {', '.join(slower)}. That is no comparison: by then a regularizer "
            "may also have learned more or less of the language."
        )
    if len(study.seeds) < 4:
        yield (
            f"{numbers.plural(len(study.seeds), 'seed')} make wide intervals: a difference of a few bits could not "
            "have been shown, and none that was not shown is excluded. More seeds narrow them."
        )
    if clear := _clear(study):
        yield (
            f"Intervals that lie below zero: {', '.join(clear)}. Each of the table's intervals misses by chance one "
            "time in twenty, so a single one is a hint, and none of them is a promise for another secret."
        )
    if (ceiling := study.space_bits - 2) < max(level.bits for one in study.defences for level in one.levels):
        yield (
            f"Exposure ends at {study.space_bits:.1f} bits, the size of the space of secrets. Where two models are "
            f"both within two bits of it ({ceiling:.1f} or more), no difference could have shown; longer secrets "
            "would tell."
        )
    if remarks := notes(study):
        yield " ".join(remarks)


def _clear(study: DefencesStudy) -> list[str]:
    """Defences and levels whose whole interval lies below zero."""
    return [
        f"{one.name} at {change.insertions}x"
        for one in study.defences[1:]
        for change in one.matched
        if not isinstance(change.high_bits, NotAvailable) and change.high_bits < 0
    ]


def equal_epochs(undefended: Sequence[StudyRun], defended: Sequence[StudyRun], level: int) -> Maybe:
    """Change of a level's exposure, in bits, at the end of equally long trainings; mean over the seeds of both."""
    before = {run.seed: run for run in undefended}
    changes = [
        run.exposure_by_level[str(level)] - before[run.seed].exposure_by_level[str(level)]
        for run in defended
        if run.seed in before and len(run.epochs) == len(before[run.seed].epochs)
    ]
    return fmean(changes) if changes else NotAvailable(not_available="no two trainings of a seed are equally long")


def final_grid(study: DefencesStudy) -> Grid:
    """Loss and exposure of the final models."""
    return _grid(
        study,
        "The final models: validation loss in bits a character, exposure in bits (mean and range of the seeds)",
        "validation loss",
        [
            (one.name, numbers.loss(one.validation_bits_per_char), *map(level_cell, one.levels))
            for one in study.defences
        ],
    )


def matched_grid(study: DefencesStudy) -> Grid:
    """Changes of exposure at equal validation loss."""
    return _grid(
        study,
        "Change of exposure against the undefended model at equal validation loss, in bits (95 % interval)",
        "",
        [(one.name, *(matched_cell(change, len(study.seeds)) for change in one.matched)) for one in study.defences[1:]],
    )


def charts(study: DefencesStudy) -> Iterator[Chart]:
    """Every training's way through loss and exposure, and the changes at equal loss."""
    level = study.plotted_level
    yield Chart(
        kind="lines",
        caption=f"Validation loss against exposure of canaries inserted {level} times, epoch by epoch, seed "
        f"{study.seeds[0]}; training goes from right to left, and lower at the same loss is better",
        x_label="validation loss (bits a character)",
        y_label="exposure (bits)",
        series=tuple(
            Series(
                name="no defence" if one is study.defences[0] else one.name,
                x=tuple(loss for loss, _ in points),
                y=tuple(bits for _, bits in points),
            )
            for one in study.defences
            if (points := _way(one, level))
        ),
    )
    names = headers(study)
    yield Chart(
        kind="bars",
        caption="Change of exposure at equal validation loss, mean over the seeds; below zero leaks less",
        x_label="insertions",
        y_label="change (bits)",
        names=tuple(names),
        series=tuple(
            Series(name=one.name, x=tuple(x for x, _ in bars), y=tuple(y for _, y in bars))
            for one in study.defences[1:]
            if (bars := _bars(one))
        ),
    )


def signed(value: Maybe) -> str:
    """A change in bits."""
    return f"{value:+.1f}" if not isinstance(value, NotAvailable) else numbers.missing(value)


def _grid(study: DefencesStudy, caption: str, second: str, rows: Sequence[Sequence[str]]) -> Grid:
    """A table by level; a defence whose trainings failed has empty cells."""
    columns = ("", *([second] if second else []), *headers(study))
    filled = tuple((*row, *[""] * (len(columns) - len(row))) for row in rows)
    return Grid(caption=caption, columns=columns, rows=filled)


def _way(defence: DefenceResult, level: int) -> list[tuple[float, float]]:
    return [
        (epoch.validation_bits_per_char, epoch.exposure_by_level[str(level)])
        for run in defence.runs[:1]
        for epoch in run.epochs
        if not isinstance(epoch.validation_bits_per_char, NotAvailable)
    ]


def _bars(defence: DefenceResult) -> list[tuple[float, float]]:
    return [
        (float(place), change.change_bits)
        for place, change in enumerate(defence.matched)
        if not isinstance(change.change_bits, NotAvailable)
    ]
