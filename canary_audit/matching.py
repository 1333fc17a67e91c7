"""Near-verbatim matching: how many edits lie between a secret and the closest piece of a text.

Everything is bytes, and an edit inserts, deletes or replaces one. Separators may be left out on both sides, so that
`281-265-017` is `281265017`. That never adds edits: one that touches a separator becomes cheaper or vanishes.
"""

from itertools import pairwise

SEPARATORS = b" \t\r\n-./"
"""What people put between the parts of a number."""


def bare(text: bytes) -> bytes:
    """`text` without its separators."""
    return text.translate(None, SEPARATORS)


def least_edits(secret: bytes, text: bytes, at_most: int) -> int | None:
    """Fewest edits that turn `secret` into any piece of `text`, the empty one included; None if more than `at_most`.

    The least value of the last row of Sellers (1980), "The theory and computation of evolutionary distances", computed
    by the bit-parallel automaton of Myers (1999), "A fast bit-vector algorithm for approximate string matching based on
    dynamic programming": one step of whole-number arithmetic a byte of the text, whatever the length of the secret.
    """
    if at_most < 0:
        return None
    if secret in text:
        return 0
    if not _may_match(secret, text, at_most):
        return None
    fewest = _fewest_edits(secret, text)
    return fewest if fewest <= at_most else None


def _may_match(secret: bytes, text: bytes, at_most: int) -> bool:
    """False only if there is no match: of `at_most` + 1 parts of the secret one is free of edits, so in the text."""
    n_parts = at_most + 1
    if len(secret) < n_parts:
        return True
    ends = [len(secret) * part // n_parts for part in range(n_parts + 1)]
    return any(secret[start:end] in text for start, end in pairwise(ends))


def _fewest_edits(secret: bytes, text: bytes) -> int:
    """Myers's automaton. Bit i of `rises` (`falls`) tells that entry i + 1 of the current column of the table of edits
    is one more (one less) than entry i; `edits` is the last entry."""
    last, every = 1 << (len(secret) - 1), (1 << len(secret)) - 1
    places: dict[int, int] = {}
    for place, byte in enumerate(secret):
        places[byte] = places.get(byte, 0) | 1 << place
    rises, falls = every, 0
    edits = fewest = len(secret)
    for byte in text:
        equal = places.get(byte, 0)
        level = (((equal & rises) + rises) ^ rises) | equal | falls
        up, down = falls | (every & ~(level | rises)), rises & level
        if up & last:
            edits += 1
        elif down & last:
            edits -= 1
            fewest = min(fewest, edits)
        shifted_up, shifted_down = up << 1, down << 1
        steady = equal | falls
        rises = (shifted_down | ~(steady | shifted_up)) & every
        falls = shifted_up & steady & every
    return fewest
