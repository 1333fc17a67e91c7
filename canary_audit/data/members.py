"""Documents that were trained on and documents that were held out, fit to be compared.

Planting holds documents out by a draw, so the two sides differ in nothing but training, as long as neither is chosen by
what it says. A text that occurs more than once is therefore left out on both: the more often it occurs, the likelier
some copy was trained on, and texts that occur often are easy to predict for everyone.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import chain

from canary_audit.errors import DataError

Documents = Callable[[], Iterable[str]]
"""Reads a file of documents from its start."""


@dataclass(frozen=True, kw_only=True)
class Members:
    """Texts by id, such as `in-007` and `out-012`."""

    trained: dict[str, str]
    held_out: dict[str, str]

    @property
    def texts(self) -> dict[str, str]:
        """Both sides together."""
        return {**self.trained, **self.held_out}


def draw_members(trained: Documents, held_out: Documents, *, excluded: Set[str], n: int, seed: int) -> Members:
    """Draw up to `n` documents of each side; which ones depends on their text, the seed and nothing else.

    Both files are read twice. Sixteen bytes are kept of each document, and the documents that are drawn.

    Args:
        trained: what training read, before any deduplication.
        held_out: what it did not, chosen by a draw from the same source.
        excluded: texts that were planted.

    Raises:
        DataError: a side has no document that occurs once.
    """
    counts = Counter(_digest(text) for text in chain(trained(), held_out()))

    def eligible(documents: Documents) -> Iterator[tuple[bytes, str]]:
        for text in documents():
            if counts[_digest(text)] == 1 and text not in excluded and text.strip():
                yield _digest(text, seed), text

    sides = [heapq.nsmallest(n, eligible(documents)) for documents in (trained, held_out)]
    if not all(sides):
        raise DataError(
            f"[audit] membership_rows: {len(sides[0])} training and {len(sides[1])} held-out documents that occur once "
            "can be compared; hold more out with [data] validation_fraction, or leave membership_rows out"
        )
    return Members(trained=_named("in", sides[0]), held_out=_named("out", sides[1]))


def _named(side: str, drawn: list[tuple[bytes, str]]) -> dict[str, str]:
    width = len(str(len(drawn)))
    return {f"{side}-{number:0{width}d}": text for number, (_, text) in enumerate(drawn, start=1)}


def _digest(text: str, seed: int | None = None) -> bytes:
    key = b"" if seed is None else f"membership/{seed}".encode()
    return hashlib.blake2b(text.encode(), digest_size=16, key=key).digest()
