"""How numbers are written, the same in every format: rounded to what they can bear, never without their meaning."""

import math

from canary_audit.results import Maybe, NotAvailable

_LONGEST_COUNT_BITS = 50
"""Above 2^50 a count is written as a power of two: sixteen digits tell a reader nothing more."""

DASH = "\u2013"
"""Stands in a table for what is not known; the reason is told once, in the text beside it."""


def missing(value: NotAvailable) -> str:
    """The standard phrase for a number that could not be measured."""
    return f"not available: {value.not_available}"


def bits(value: Maybe) -> str:
    """Bits, to a tenth."""
    if isinstance(value, NotAvailable):
        return missing(value)
    return f"{value + 0.0:.1f}" if abs(value) >= 0.05 else "0.0"


def loss(value: Maybe) -> str:
    """Bits per character or token, to a thousandth."""
    return missing(value) if isinstance(value, NotAvailable) else f"{value:.3f}"


def probability(value: Maybe) -> str:
    """A p-value: three decimals, or two significant digits below 0.001."""
    if isinstance(value, NotAvailable):
        return missing(value)
    return f"{value:.3f}" if value >= 0.001 else scientific(value)


def epsilon(value: Maybe) -> str:
    """Epsilon, a number without a unit: two decimals, and none from 100 on."""
    if isinstance(value, NotAvailable):
        return missing(value)
    return f"{value:.2f}" if value < 100 else count(value)


def score(value: float) -> str:
    """A membership score, whose scale depends on its kind: four significant digits."""
    return f"{value:.4g}"


def share(value: float) -> str:
    """A rate in percent, to a tenth, such as `0.1 %`; smaller ones in full."""
    percent = 100 * value
    if percent in (0, 100) or (percent >= 1 and percent == round(percent)):
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.2g} %"


def count(value: float | NotAvailable) -> str:
    """A count with thousands separators; estimated ones (ranks) are rounded to whole numbers."""
    if isinstance(value, NotAvailable):
        return missing(value)
    return f"{value:,.0f}" if abs(value) < 2**_LONGEST_COUNT_BITS else scientific(value)


def power(value_bits: float) -> str:
    """The number 2**value_bits, written out where that is readable."""
    return f"{2**value_bits:,.0f}" if value_bits < _LONGEST_COUNT_BITS else f"2^{value_bits:.1f}"


def needed(value: Maybe) -> str:
    """How often to try: in full below a million, then `3.2e6`, and from 2^50 on a power of two; a dash if unknown."""
    if isinstance(value, NotAvailable):
        return DASH
    if value >= 2**_LONGEST_COUNT_BITS:
        return power(math.log2(value))
    return f"{max(1, math.ceil(value)):,}" if value < 1e6 else scientific(value)


def scientific(value: float) -> str:
    """Two significant digits with a short exponent, such as `1.2e-7`."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def bits_or_dash(value: Maybe) -> str:
    """Bits, to a tenth, or a dash."""
    return DASH if isinstance(value, NotAvailable) else bits(value)


def span(low: Maybe, high: Maybe) -> str:
    """From low to high in bits, or a dash."""
    if isinstance(low, NotAvailable) or isinstance(high, NotAvailable):
        return DASH
    return f"{bits(low)} to {bits(high)}"


def plural(n: int, noun: str) -> str:
    """`n` with its noun, such as `1 canary` or `24 canaries`."""
    if n == 1:
        return f"{n} {noun}"
    stem = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n:,} {stem}"


def savings(space_bits: float, nodes: int) -> str:
    """How many times fewer model evaluations `nodes` are than trying every secret of the space."""
    return power(max(0.0, space_bits - math.log2(max(1, nodes))))
