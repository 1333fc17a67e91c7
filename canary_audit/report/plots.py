"""The plots of the HTML page: exposure against insertions, and exposure beside validation loss over training."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from canary_audit.report import numbers
from canary_audit.report.facts import NULL_95_BITS
from canary_audit.report.known import exposure_bits
from canary_audit.report.sanitize import sanitize
from canary_audit.report.svg import ACCENT, BAND, INK, LEAK, PAPER, SOFT, figure, to_svg
from canary_audit.results import (
    AuditResult,
    CanaryResult,
    EpochResult,
    Exposure,
    GroupResult,
    NotAvailable,
    TrainingResult,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def exposure_plot(result: AuditResult, group: GroupResult, prefix: str) -> str:
    """Every canary of a group as a dot with its interval, over the number of insertions; a bar where there is no dot.

    Args:
        result: the audit; its policy gives the line of the largest exposure allowed.
        group: the group to draw.
        prefix: makes the ids of this SVG unique in its page.
    """
    canaries = [canary for canary in result.canaries if canary.group == group.name]
    levels = sorted({canary.insertions for canary in canaries})
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  slow to import, and only HTML draws

    with figure(height_inches=3.9, salt=prefix) as drawing:
        axes = drawing.add_axes((0.085, 0.135, 0.715, 0.83))
        most = None if isinstance(result.policy, NotAvailable) else result.policy.max_exposure_bits
        _bound_lines(axes, most, group.space_bits)
        for position, level in enumerate(levels):
            _draw_level(axes, position, [canary for canary in canaries if canary.insertions == level])
        axes.set_xticks(range(len(levels)), [_level_name(level) for level in levels])
        axes.set_xlim(-0.6, max(1, len(levels)) - 0.4)
        axes.set_ylim(-0.02 * group.space_bits, 1.06 * group.space_bits)
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
        axes.set_xlabel("insertions in the training data (levels evenly spaced)")
        axes.set_ylabel("exposure (bits)")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        label = (
            f"Exposure in bits of {numbers.plural(len(canaries), 'canary')} of group {group.name} "
            "against the number of insertions; the table below holds the same numbers."
        )
        return to_svg(drawing, label, prefix)


def _bound_lines(axes: "Axes", max_exposure_bits: float | None, space_bits: float) -> None:
    """The null band and the two lines that exposure is held against, named in the right margin."""
    axes.axhspan(0, NULL_95_BITS, color=BAND, linewidth=0, zorder=0)
    axes.axhline(space_bits, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)))
    names = [(NULL_95_BITS / 2, "95 % of secrets\nnever inserted", SOFT), (space_bits, "whole space,\nlog2|R|", SOFT)]
    if max_exposure_bits is not None and max_exposure_bits <= space_bits:
        axes.axhline(max_exposure_bits, color=LEAK, linewidth=1.1, linestyle=(0, (5, 3)))
        names.append((max_exposure_bits, "policy maximum", LEAK))
    heights = spread([height for height, _, _ in names], 0.1 * space_bits)
    for (_, name, color), height in zip(names, heights, strict=True):
        _margin_label(axes, height, f"{name}", color)


def _margin_label(axes: "Axes", height: float, text: str, color: str) -> None:
    axes.annotate(
        text,
        (1.0, height),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=8.5,
        annotation_clip=False,
    )


def _draw_level(axes: "Axes", position: int, canaries: Sequence[CanaryResult]) -> None:
    """One column of dots: filled if the secret was extracted, with the level's median as a short bar."""
    _draw_median(axes, position, canaries)
    step = min(0.13, 0.56 / max(1, len(canaries) - 1))
    places = [position + (index - (len(canaries) - 1) / 2) * step for index in range(len(canaries))]
    for found, color, fill in ((False, ACCENT, PAPER), (True, LEAK, LEAK)):
        shown = [
            (x, canary.exposure)
            for x, canary in zip(places, canaries, strict=True)
            if canary.extraction.found == found and isinstance(canary.exposure, Exposure)
        ]
        xs = [x for x, _ in shown]
        axes.vlines(xs, [e.low for _, e in shown], [e.high for _, e in shown], color=color, linewidth=1.1, alpha=0.7)
        dots = [(x, e.bits) for x, e in shown if not isinstance(e.bits, NotAvailable)]
        xs = [x for x, _ in dots]
        axes.plot(xs, [bits for _, bits in dots], "o", color=color, mfc=fill, markersize=4.6, markeredgewidth=1.2)
        _draw_caps(axes, [(x, e) for x, e in shown if isinstance(e.bits, NotAvailable)], step, color)


def _draw_median(axes: "Axes", position: int, canaries: Sequence[CanaryResult]) -> None:
    """Only where every canary has a point value: the median of some would be biased."""
    values = [bits for c in canaries if not isinstance(bits := exposure_bits(c), NotAvailable)]
    if len(values) == len(canaries):
        median = statistics.median(values)
        axes.plot([position - 0.34, position + 0.34], [median, median], color=INK, linewidth=1.8, solid_capstyle="butt")


def _draw_caps(axes: "Axes", bars: Sequence[tuple[float, Exposure]], step: float, color: str) -> None:
    """Ends of intervals without a point value, so that they are not taken for lines of dots."""
    for x, exposure in bars:
        for end in (exposure.low, exposure.high):
            axes.plot([x - 0.3 * step, x + 0.3 * step], [end, end], color=color, linewidth=1.6, solid_capstyle="butt")


def _level_name(insertions: int) -> str:
    return "0 (controls)" if insertions == 0 else f"{insertions:,}"


def training_plot(training: TrainingResult, prefix: str) -> str:
    """Median exposure of every level above validation loss, over a shared epoch axis with the best epoch marked."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  slow to import, and only HTML draws

    with figure(height_inches=4.3, salt=prefix) as drawing:
        upper = drawing.add_axes((0.12, 0.475, 0.73, 0.47))
        lower = drawing.add_axes((0.12, 0.115, 0.73, 0.27), sharex=upper)
        _draw_exposure(upper, training.epochs)
        _draw_loss(lower, training.epochs)
        for axes in (upper, lower):
            if not isinstance(training.best_epoch, NotAvailable):
                axes.axvline(training.best_epoch, color=SOFT, linewidth=0.9, linestyle=(0, (5, 3)))
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        if not isinstance(training.best_epoch, NotAvailable):
            place = (training.best_epoch, 1.02)
            upper.annotate(
                "best epoch", place, xycoords=("data", "axes fraction"), ha="center", va="bottom", color=SOFT
            )
        upper.tick_params(labelbottom=False)
        drawing.align_ylabels([upper, lower])
        lower.set_xlabel("epoch")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        label = (
            f"Two panels over {numbers.plural(len(training.epochs), 'epoch')}: median exposure of each insertion level "
            "in bits, and validation loss in bits per character; the table below holds the same numbers."
        )
        return to_svg(drawing, label, prefix)


def _draw_exposure(axes: "Axes", epochs: Sequence[EpochResult]) -> None:
    names = level_names(epochs)
    ends: list[tuple[float, str]] = []
    for index, name in enumerate(names):
        points = [(epoch.epoch, epoch.exposure_by_level[name]) for epoch in epochs if name in epoch.exposure_by_level]
        strength = 0.45 + 0.55 * (index + 1) / len(names)
        axes.plot(*zip(*points, strict=True), "o-", color=ACCENT, alpha=strength, linewidth=1.6, markersize=3.2)
        ends.append((points[-1][1], name))
    low, high = axes.get_ylim()
    heights = spread([height for height, _ in ends], 0.085 * (high - low))
    for (_, name), height in zip(ends, heights, strict=True):
        _margin_label(axes, height, f"{drawable(name)} insertions" if name != "1" else "1 insertion", INK)
    axes.set_ylabel("median exposure\n(bits)")


def level_names(epochs: Sequence[EpochResult]) -> list[str]:
    """Names of all levels tracked in training, by number of insertions."""
    names = {name for epoch in epochs for name in epoch.exposure_by_level}
    return sorted(names, key=lambda name: (len(name), name))


def _draw_loss(axes: "Axes", epochs: Sequence[EpochResult]) -> None:
    points = [
        (epoch.epoch, epoch.validation_bits_per_char)
        for epoch in epochs
        if not isinstance(epoch.validation_bits_per_char, NotAvailable)
    ]
    if points:
        axes.plot(*zip(*points, strict=True), "s-", color=INK, linewidth=1.6, markersize=3.2)
    else:
        axes.text(0.5, 0.5, "not available", transform=axes.transAxes, ha="center", va="center", color=SOFT)
    axes.set_ylabel("validation loss\n(bits / character)")


def drawable(text: str) -> str:
    """ASCII only: the drawing's font need not hold every character there is."""
    return sanitize(text).encode("ascii", "backslashreplace").decode("ascii")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """`heights`, moved as little as keeps neighbours `gap` apart, in the order given."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    blocks: list[tuple[float, list[int]]] = []  # centre of each run of labels that touch, and who is in it
    for index in order:
        centre, members = heights[index], [index]
        while blocks and centre - blocks[-1][0] < gap * (len(members) + len(blocks[-1][1])) / 2:
            other_centre, others = blocks.pop()
            total = len(members) + len(others)
            centre = (centre * len(members) + other_centre * len(others)) / total
            members = others + members
        blocks.append((centre, members))
    placed = {
        index: centre + (place - (len(members) - 1) / 2) * gap
        for centre, members in blocks
        for place, index in enumerate(members)
    }
    return [placed[index] for index in range(len(heights))]
