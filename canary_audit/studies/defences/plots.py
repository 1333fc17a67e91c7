"""The plot of a study of defences: validation loss against exposure, and the way the undefended model went."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from canary_audit.config import UNDEFENDED
from canary_audit.report.facts import NULL_95_BITS
from canary_audit.report.svg import ACCENT, BAND, INK, PAPER, SOFT, figure, to_svg
from canary_audit.results import NotAvailable
from canary_audit.studies.defences.results import DefenceResult, DefencesStudy, StudyRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN_BITS = 1.0


def pareto_plot(study: DefencesStudy, prefix: str) -> str:
    """Every defence as a dot, named in the right margin; lower and further left is better on both counts.

    Dots are means over seeds, small dots the seeds. `prefix` makes the ids of this SVG unique in its page.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  slow to import, and only HTML draws

    shown = [(defence, point) for defence in study.defences if (point := point_of(defence, study.plotted_level))]
    with figure(height_inches=4.6, salt=prefix) as drawing:
        axes = drawing.add_axes((0.085, 0.12, 0.70, 0.85))
        axes.axhspan(0, NULL_95_BITS, color=BAND, linewidth=0, zorder=0)
        _trajectories(axes, study)
        for defence, (loss, bits) in shown:
            color = INK if defence.name == UNDEFENDED else ACCENT
            for run in defence.runs:
                axes.plot(run.validation_bits_per_char, _bits(run, study.plotted_level), ".", color=color, alpha=0.4)
            axes.plot(loss, bits, "o", color=color, mfc=color if defence.on_front else PAPER, markersize=6.5)
        axes.set_ylim(-_MARGIN_BITS, study.space_bits + _MARGIN_BITS)
        _margin_names(axes, [(defence.name, point) for defence, point in shown], 0.055 * study.space_bits)
        axes.set_xlabel("validation loss (bits / character)")
        axes.set_ylabel(f"exposure after {study.plotted_level} insertions (bits)")
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        label = (
            f"Validation loss against exposure of canaries inserted {study.plotted_level} times, for {len(shown)} "
            "defences, with the course of the undefended training; the table below holds the same numbers."
        )
        return to_svg(drawing, label, prefix)


def point_of(defence: DefenceResult, level: int) -> tuple[float, float] | None:
    """(validation loss, exposure at the level), means over seeds, if both are known."""
    bits = next((one.bits for one in defence.levels if one.insertions == level), None)
    if bits is None or isinstance(defence.validation_bits_per_char, NotAvailable):
        return None
    return defence.validation_bits_per_char, bits


def _trajectories(axes: "Axes", study: DefencesStudy) -> None:
    """The undefended training of every seed, epoch by epoch."""
    for run in study.defences[0].runs:
        points = [
            (epoch.validation_bits_per_char, epoch.exposure_by_level[str(study.plotted_level)])
            for epoch in run.epochs
            if not isinstance(epoch.validation_bits_per_char, NotAvailable)
        ]
        axes.plot(*zip(*points, strict=True), "-", color=SOFT, linewidth=0.9, alpha=0.7)


def _bits(run: StudyRun, level: int) -> float:
    medians = [one.median_bits for one in run.levels if one.insertions == level]
    return next(bits for bits in medians if not isinstance(bits, NotAvailable))


def _margin_names(axes: "Axes", named: list[tuple[str, tuple[float, float]]], gap: float) -> None:
    """Names in the right margin, each with a thin line to its dot."""
    low, high = axes.get_ylim()
    heights = stacked([bits for _, (_, bits) in named], gap, low, high)
    for (name, point), height in zip(named, heights, strict=True):
        axes.annotate(
            name,
            point,
            xycoords="data",
            xytext=(1.02, height),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.5, "alpha": 0.5, "shrinkA": 0, "shrinkB": 4},
        )


def stacked(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`heights`, moved so that neighbours are `gap` apart and all between `low` and `high`, if there is room."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed = list(heights)
    limit = high
    for index in order:
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    limit = low
    for index in reversed(order):
        placed[index] = max(placed[index], limit)
        limit = placed[index] + gap
    return placed
