"""One key number as every format shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One key number with its unit and the number it is to be held against."""

    label: str
    value: str
    unit: str
    note: str
