"""The ROC plot of the HTML page, on logarithmic axes: an attack matters where it accuses few innocents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from canary_audit.report import numbers
from canary_audit.report.plots import drawable
from canary_audit.report.svg import ACCENT, INK, SOFT, figure, to_svg
from canary_audit.results import MembershipResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DECADES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_DASHES = ((0, (5, 2)), (0, (9, 3)), (0, (5, 2, 1, 2)), (0, (2, 2)), (0, (9, 2, 1, 2, 1, 2)))
_LONGEST_NAME = 24


def roc_plot(members: Sequence[MembershipResult], title: str, prefix: str) -> str:
    """True against false positive rate of every score, the primary one strong, with its intervals.

    Args:
        members: scores on one sample; at least one.
        title: what the sample is, for readers who do not see the plot.
        prefix: makes the ids of this SVG unique in its page.
    """
    lowest = _lowest_rate(members)
    with figure(height_inches=4.4, salt=prefix) as drawing:
        axes = drawing.add_axes((0.1, 0.125, 0.56, 0.85))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot([lowest, 1], [lowest, 1], color=SOFT, linewidth=0.9, linestyle=(0, (1, 3)), label="chance")
        for place, member in enumerate(members):
            _draw(axes, member, lowest, _DASHES[place % len(_DASHES)])
        _scale(axes, lowest)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, labelcolor=INK, handlelength=2.8)
        label = (
            f"ROC curves of {numbers.plural(len(members), 'membership score')} on logarithmic axes. {title}. "
            "The table below holds the rates that matter."
        )
        return to_svg(drawing, label, prefix)


def _draw(axes: "Axes", member: MembershipResult, lowest: float, dashes: tuple[float, tuple[float, ...]]) -> None:
    xs, ys = zip(*[(max(fpr, lowest), max(tpr, lowest)) for fpr, tpr in member.roc] or [(1.0, 1.0)], strict=True)
    name = drawable(member.score)
    name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    if not member.primary:
        label = f"{name}, AUC {member.auc:.2f}"
        axes.plot(xs, ys, color=SOFT, linewidth=1.1, linestyle=dashes, drawstyle="steps-post", label=label)
        return
    label = f"{name} (primary), AUC {member.auc:.2f}"
    axes.plot(xs, ys, color=ACCENT, linewidth=2.0, zorder=3, drawstyle="steps-post", label=label)
    points = [point for point in member.operating_points if point.fpr >= lowest]
    axes.vlines(
        [point.fpr for point in points],
        [max(point.low, lowest) for point in points],
        [max(point.high, lowest) for point in points],
        color=ACCENT,
        linewidth=1.1,
        alpha=0.7,
    )


def _scale(axes: "Axes", lowest: float) -> None:
    """Decades as percentages, on both axes."""
    from matplotlib.ticker import NullLocator  # noqa: PLC0415  slow to import, and only HTML draws

    decades = [decade for decade in _DECADES if decade >= lowest]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(NullLocator())
        axis.set_minor_locator(NullLocator())
    axes.set_xticks(decades, [numbers.share(decade) for decade in decades])
    axes.set_yticks(decades, [numbers.share(decade) for decade in decades])
    axes.tick_params(axis="x", pad=7)
    axes.set_xlim(lowest, 1.05)
    axes.set_ylim(lowest, 1.05)
    axes.set_xlabel("false positive rate (others accused)")
    axes.set_ylabel("true positive rate (members found)")
    axes.grid()
    axes.set_axisbelow(True)


def _lowest_rate(members: Sequence[MembershipResult]) -> float:
    """The decade at or below the smallest rate that the samples resolve; 0 is drawn there."""
    finest = 1 / max(2, *(max(member.n_in, member.n_out) for member in members))
    return max((decade for decade in _DECADES[:-2] if decade <= finest), default=_DECADES[0])
