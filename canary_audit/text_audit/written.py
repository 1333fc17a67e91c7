"""Texts that a model wrote after one prefix, held against secrets: how near they come, and whether chance would."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from canary_audit.matching import bare, least_edits
from canary_audit.spaces import SecretSpace
from canary_audit.statistics.sampled_extraction import count_nearly_written, count_written, written_p_value

_BYTES_AN_EDIT = 8
_MOST_EDITS = 2
_BITS_AN_EDIT = 8
_BITS_LEFT = 20
_VERBATIM = -1
"""Closer than no edits between texts without separators."""


def near_edits(bare_secret: bytes, space_bits: float) -> int:
    """Edits, separators aside, up to which a text holds a secret nearly: one for every 8 bytes, and 2 at most.

    More would be another secret rather than this one with a slip, and chance would write it. One edit brings some 2^8
    secrets within reach of a text; it is allowed only if, of the bits of the space, 20 are left: of a million secrets
    that were never inserted, one then lies so near to a given text.
    """
    affordable = int(max(0.0, space_bits - _BITS_LEFT) // _BITS_AN_EDIT)
    return min(_MOST_EDITS, len(bare_secret) // _BYTES_AN_EDIT, affordable)


@dataclass(frozen=True, kw_only=True)
class Match:
    """One secret held against all texts of its group."""

    hits: int
    """Samples that hold it verbatim."""
    greedy: bool
    closeness: int | None
    """Fewest edits, separators aside; `_VERBATIM` for none at all, and None beyond `near_edits`."""
    edits: int
    """Fewest edits, separators included; those that empty it if it is not near."""

    @property
    def found(self) -> bool:
        return self.closeness is not None


class WrittenTexts:
    """Everything written after one prefix, in the forms in which secrets are sought."""

    def __init__(self, greedy: bytes, samples: Sequence[bytes], space: SecretSpace) -> None:
        self._greedy = greedy
        self._samples = Counter(samples)
        self._space = space
        self._different = list(dict.fromkeys([self._greedy, *self._samples]))
        self._bare = list(dict.fromkeys(map(bare, self._different)))
        self._counts: dict[int, int] = {}

    def match(self, secret: bytes) -> Match:
        """How near the texts come to `secret`."""
        hits = sum(times for text, times in self._samples.items() if secret in text)
        greedy = secret in self._greedy
        if hits or greedy:
            return Match(hits=hits, greedy=greedy, closeness=_VERBATIM, edits=0)
        bare_secret = bare(secret)
        near = near_edits(bare_secret, self._space.bits)
        closeness = _fewest(bare_secret, self._bare, near) if bare_secret else None
        edits = len(secret) if closeness is None else _fewest(secret, self._different, len(secret))
        return Match(hits=0, greedy=False, closeness=closeness, edits=len(secret) if edits is None else edits)

    def p_value(self, match: Match) -> float:
        """Chance that a secret which was never inserted comes as near; 1 beyond `near_edits`.

        Near texts are ordered by edits with separators aside, after those that hold the secret verbatim.
        """
        if match.closeness is None:
            return 1.0
        return written_p_value(self._count(match.closeness), self._space.size)

    def _count(self, closeness: int) -> int:
        """Secrets of the space that come as near, or more than those."""
        if closeness not in self._counts:
            self._counts[closeness] = (
                count_written(self._space, self._different)
                if closeness == _VERBATIM
                else count_nearly_written(self._space, self._bare, closeness)
            )
        return self._counts[closeness]


def _fewest(secret: bytes, texts: Sequence[bytes], at_most: int) -> int | None:
    fewest: int | None = None
    for text in texts:
        edits = least_edits(secret, text, at_most if fewest is None else fewest - 1)
        fewest = fewest if edits is None else edits
    return fewest
