"""The slots of secret formats: one table of patterns, and the few slots whose pattern depends on a number.

Shapes follow the public rules of whoever issues the real thing; the source stands beside each entry.
"""

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from canary_audit.automata import Checksum
from canary_audit.checksums import LUHN, iban_checksum

CHARACTERS: Mapping[str, str] = {
    "digit": "[0-9]",
    "hex": "[0-9a-f]",
    "letter": "[a-z]",
    "upper": "[A-Z]",
    "alnum": "[0-9A-Za-z]",
    "password": "[!#$%&*+.0-9=?@A-Z^_a-z~-]",
}
"""Kind -> pattern of one character; repeated as often as the slot says."""


@dataclass(frozen=True)
class Shape:
    """A pattern, and the checksum its strings must satisfy."""

    pattern: str
    checksum: Checksum[Any] | None = None


def _iban(country: str, body: str) -> Shape:
    """ISO 13616: country, two check digits from 02 to 98, and a body of `a` (letters) and `n` (digits)."""
    classes = "".join("[A-Z]" if kind == "a" else "[0-9]" for kind in body)
    return Shape(f"{country}(0[2-9]|[1-8][0-9]|9[0-8]){classes}", iban_checksum(body))


_CARDS = {  # ISO/IEC 7812 prefixes as the networks publish them
    "amex": "3[47][0-9]{13}",
    "discover": "(6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12}",
    "mastercard": "(5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}",
    "visa": "4[0-9]{15}",
}

SHAPES: Mapping[str, Mapping[str, Shape]] = {
    "card": {name: Shape(pattern, LUHN) for name, pattern in {**_CARDS, "any": "|".join(_CARDS.values())}.items()},
    "email": {"": Shape(r"<first-names>[._-]?<last-names>[0-9]{0,4}@example\.(com|net|org)")},  # domains: RFC 2606
    "iban": {  # countries whose account numbers have no check digits of their own
        "at": _iban("AT", "n" * 16),
        "de": _iban("DE", "n" * 18),
        "gb": _iban("GB", "a" * 4 + "n" * 14),
        "ie": _iban("IE", "a" * 4 + "n" * 14),
        "nl": _iban("NL", "a" * 4 + "n" * 10),
    },
    "key": {  # as secret scanners know them
        "aws": Shape("AKIA[A-Z2-7]{16}"),
        "aws-secret": Shape("[A-Za-z0-9/+]{40}"),
        "github": Shape("ghp_[A-Za-z0-9]{36}"),
        "google": Shape("AIza[A-Za-z0-9_-]{35}"),
        "openai": Shape("sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
        "stripe": Shape("sk_live_[A-Za-z0-9]{24}"),
    },
    "name": {"": Shape("<^first-names> <^last-names>")},
    "phone": {
        # ITU-T E.164: at most 15 digits. NANP: no area code N11 or N9X, no exchange N11.
        "e164": Shape(r"\+[1-9][0-9]{7,14}"),
        "us": Shape("[2-9]([02-8][0-9]|1[02-9])-[2-9]([02-9][0-9]|1[02-9])-[0-9]{4}"),
    },
    "ssn": {  # Social Security Administration: no area 000, 666 or 9xx, no group 00, no serial 0000
        "": Shape(
            "(00[1-9]|0[1-9][0-9]|[1-57-8][0-9]{2}|6[0-57-9][0-9]|66[0-57-9])-(0[1-9]|[1-9][0-9])"
            "-(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
        )
    },
    "uuid": {"": Shape("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")},  # version 4, RFC 9562
}
"""Kind -> variant ("" where there is only one) -> what it spells."""

_BASE64 = {"base64": "[A-Za-z0-9+/]", "base64url": "[A-Za-z0-9_-]"}


def base64_pattern(kind: str, n_bytes: int) -> str:
    """`n_bytes` bytes in base64, padded (RFC 4648 section 4), or in base64url, not padded (section 5)."""
    character = _BASE64[kind]
    pad = "=" if kind == "base64" else ""
    n_triples, n_left = divmod(n_bytes, 3)
    # The last character of an incomplete group encodes the bits that are left, followed by zeros.
    tail = ["", f"{character}[AQgw]{pad}{pad}", f"{character}{character}[AEIMQUYcgkosw048]{pad}"][n_left]
    return (f"{character}{{{4 * n_triples}}}" if n_triples else "") + tail


_NUMBERED = [f"{month:02}" for month in range(1, 13)]
_NAMED = list(calendar.month_name)[1:]
_PADDED = [f"{day:02}" for day in range(1, 32)]
_PLAIN = [str(day) for day in range(1, 32)]
DATES: Mapping[str, tuple[str, list[str], list[str]]] = {
    "iso": ("{year}-{month}-{day}", _NUMBERED, _PADDED),
    "long": ("{month} {day}, {year}", _NAMED, _PLAIN),
    "us": ("{month}/{day}/{year}", _NUMBERED, _PADDED),
}
"""Style of a date -> its layout, the months and the days."""


def date_pattern(style: str, first_year: int, last_year: int) -> str:
    """The days of these years, in the Gregorian calendar."""
    layout, months, days = DATES[style]
    years = range(first_year, last_year + 1)
    leap_years = [year for year in years if calendar.isleap(year)]
    spans: list[tuple[list[str], list[str], Any]] = [
        ([month for month in months if month not in _short(months)], days, years),
        ([months[number - 1] for number in (4, 6, 9, 11)], days[:30], years),
        ([months[1]], days[:28], years),
        ([months[1]], days[28:29], leap_years),
    ]
    return "|".join(
        layout.format(year=_one_of(some_years), month=_one_of(some_months), day=_one_of(some_days))
        for some_months, some_days, some_years in spans
        if some_years
    )


def _short(months: list[str]) -> list[str]:
    return [months[number - 1] for number in (2, 4, 6, 9, 11)]


def _one_of(options: Any) -> str:
    return f"({'|'.join(map(str, options))})"
