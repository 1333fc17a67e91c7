"""Charts of a study as SVG: drawn from the data in `study.json` and nothing else."""

from textwrap import fill
from typing import TYPE_CHECKING

from canary_audit.report.svg import ACCENT, INK, LEAK, SOFT, figure, to_svg
from canary_audit.studies.findings import Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = (INK, ACCENT, LEAK, SOFT)
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_LEGEND_CHARACTERS = 24
_MARKERS = ("o", "s", "^", "D", "v", "P")


def chart_svg(chart: Chart, prefix: str) -> str:
    """One `<svg>`; `prefix` makes its ids unique in the page. Colours come first, then dashes and markers."""
    with figure(height_inches=3.3, salt=prefix) as drawing:
        axes = drawing.add_axes((0.09, 0.15, 0.63, 0.81))
        for place, series in enumerate(chart.series):
            _DRAW[chart.kind](axes, chart, series, place)
        if chart.log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        if chart.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        if chart.names:
            axes.set_xticks(range(len(chart.names)), chart.names)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        if len(chart.series) > 1:
            names = [fill(series.name, _LEGEND_CHARACTERS) for series in chart.series]
            axes.legend(
                axes.get_legend_handles_labels()[0],
                names,
                loc="upper left",
                bbox_to_anchor=(1.01, 1.02),
                frameon=False,
                fontsize=8.5,
                handlelength=2.2,
            )
        return to_svg(drawing, chart.caption, prefix)


def _line(axes: "Axes", chart: Chart, series: Series, place: int) -> None:
    color, dash = _COLORS[place % len(_COLORS)], _DASHES[place // len(_COLORS) % len(_DASHES)]
    marker = "." if len(series.x) <= 40 else ""
    axes.plot(series.x, series.y, linestyle=dash, marker=marker, color=color, linewidth=1.4, label=series.name)
    if series.low:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.13, linewidth=0)


def _dots(axes: "Axes", chart: Chart, series: Series, place: int) -> None:
    color, marker = _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
    many = len(series.x) > 50
    axes.plot(
        series.x,
        series.y,
        linestyle="",
        marker=marker,
        markersize=2.5 if many else 5.5,
        alpha=0.5 if many else 0.9,
        color=color,
        label=series.name,
    )


def _bars(axes: "Axes", chart: Chart, series: Series, place: int) -> None:
    width = 0.8 / len(chart.series)
    x = [center - 0.4 + (place + 0.5) * width for center in series.x]
    errors = None
    if series.low:
        below = [y - low for y, low in zip(series.y, series.low, strict=True)]
        errors = (below, [high - y for y, high in zip(series.y, series.high, strict=True)])
    axes.bar(
        x,
        series.y,
        width=0.9 * width,
        color=_COLORS[place % len(_COLORS)],
        alpha=1 - 0.35 * (place // len(_COLORS)),
        yerr=errors,
        ecolor=SOFT,
        label=series.name,
    )


_DRAW = {"lines": _line, "dots": _dots, "bars": _bars}
