"""Inline SVG for the HTML page: one drawing that serves light, dark and print, with the same bytes every time.

Colours are drawn as placeholders and replaced by CSS variables of the page; text stays text, in the page's font.
Matplotlib is imported inside the function: the other formats do not need it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from canary_audit.report.sanitize import sanitize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, RULE, ACCENT, LEAK, BAND, PAPER = (
    "#00000a", "#00000b", "#00000c", "#00000d", "#00000e", "#00000f", "#000010",
)  # fmt: skip
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    RULE: "--rule",
    ACCENT: "--accent",
    LEAK: "--leak",
    BAND: "--band",
    PAPER: "--paper",
}

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
}
_WIDTH_INCHES = 7.2


@contextmanager
def figure(height_inches: float, salt: str) -> "Iterator[Figure]":
    """An empty transparent figure under our own style, whatever matplotlib settings the user keeps."""
    from matplotlib import style  # noqa: PLC0415  slow to import, and only HTML draws
    from matplotlib.figure import Figure  # noqa: PLC0415

    with style.context(["default", _STYLE | {"svg.hashsalt": salt}]):
        drawing = Figure(figsize=(_WIDTH_INCHES, height_inches))
        drawing.patch.set_visible(False)
        yield drawing


def to_svg(drawing: "Figure", label: str, prefix: str) -> str:
    """The drawing as one `<svg role="img">` element with unique ids, CSS variables for colours and the page's font."""
    buffer = io.StringIO()
    drawing.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    opening = f'<svg role="img" aria-label="{escape(sanitize(label))}" '
    return re.sub(r'\A<svg[^>]*(viewBox="[^"]*")[^>]*>', lambda match: f"{opening}{match[1]}>", text).strip()
