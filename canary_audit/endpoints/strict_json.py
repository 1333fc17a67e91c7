"""JSON from a server that may be broken or hostile."""

import json
import math
from typing import Any

from canary_audit.errors import EndpointError


class BrokenJsonError(Exception):
    """Not JSON at all, or cut short: the next try may be whole. It never leaves `endpoints`."""


def decode_json(body: bytes) -> Any:
    """Decode one JSON text in UTF-8.

    Raises:
        BrokenJsonError: it is none.
        EndpointError: it holds NaN, an infinity, an object with two equal keys, half a character, or is nested too
            deeply. The message does not repeat it, nor does it say where it came from.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct,
        )
        if b"\\u" in body:  # an escape may spell half of a surrogate pair, which no text can hold
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise EndpointError("the answer is nested too deeply") from None
    except UnicodeEncodeError:
        raise EndpointError("the answer holds half a character") from None
    except ValueError:  # includes invalid UTF-8 and numbers of thousands of digits
        raise BrokenJsonError from None
    return value


def _refuse_constant(_name: str) -> float:
    raise EndpointError("the answer holds NaN or an infinity, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise EndpointError("the answer holds a number that is too large")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise EndpointError("the answer holds an object with two equal keys")
    return table
