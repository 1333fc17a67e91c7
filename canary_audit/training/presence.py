"""Did every canary reach the loss, as often as planned?

A canary that a filter, a deduplication or a cut removed has no exposure, and its absence would look like safety. So the
rows the loss is computed on are spelled back into bytes, and each canary is counted there.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from canary_audit.errors import DataError
from canary_audit.results import PresenceCheck
from canary_audit.training.stream import TokenRows
from canary_audit.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BOUNDARY = b"\xff"
"""Stands between rows and for special tokens: UTF-8 text never holds this byte, so no match can span it."""
_ROWS_PER_SCAN = 4_096


def count_canaries(rows: TokenRows, tokenizer: "PreTrainedTokenizerFast", texts: Mapping[str, str]) -> dict[str, int]:
    """Occurrences of each text (by canary id) among the predicted tokens, each whole within one row and one document.

    Raises:
        SpaceError: the tokenizer rewrites text in general.
    """
    spelled = _spelled(vocabulary_of(tokenizer))
    wanted = {canary: text.encode() for canary, text in texts.items()}
    counts = dict.fromkeys(texts, 0)
    for start in range(0, rows.n_rows, _ROWS_PER_SCAN):
        stream = _BOUNDARY.join(_row_bytes(rows, range(start, min(start + _ROWS_PER_SCAN, rows.n_rows)), spelled))
        for canary, text in wanted.items():
            counts[canary] += stream.count(text)
    return counts


def check_presence(
    rows: TokenRows,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    texts: Mapping[str, str],
    planned: Mapping[str, int],
    deduplicated: bool = False,
) -> PresenceCheck:
    """Compare the counts with the plan, for one epoch; ids of `planned` and `texts` are the same, controls plan 0.

    With `deduplicated`, a canary planted more than once is expected exactly once.

    Raises:
        DataError: any count differs; the message names ids and counts.
    """
    expected = {canary: min(count, 1) if deduplicated else count for canary, count in planned.items()}
    seen = count_canaries(rows, tokenizer, texts)
    wrong = [
        f"{canary}: planned {expected[canary]}, seen {seen[canary]}"
        for canary in sorted(expected)
        if seen[canary] != expected[canary]
    ]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(expected)} canaries do not reach the loss as planned ({'; '.join(wrong)}); look for "
            "a filter, a deduplication or a cut between planting and training: a canary must fit into one context"
        )
    return PresenceCheck(planned=sum(expected.values()), seen=sum(seen.values()), deduplicated=deduplicated)


def check_representable(tokenizer: "PreTrainedTokenizerFast", texts: Mapping[str, str]) -> None:
    """Make sure that the tokenizer gives each text (by canary id) back byte for byte, alone and amid other text.

    A space that it puts before a text is no matter. One that fails, say because it rewrites digits, trains the model on
    other secrets than those measured.

    Raises:
        DataError: some canary does not survive; the message names its id.
        SpaceError: the tokenizer cannot be audited (see `vocabulary_of`).
    """
    vocabulary = vocabulary_of(tokenizer)
    lost = [
        canary
        for canary, text in texts.items()
        if not all(_survives(vocabulary, context.encode()) for context in (text, f"A {text}. B"))
    ]
    if lost:
        raise DataError(
            f"canary not representable: the tokenizer does not give back the text of {', '.join(sorted(lost))}; it "
            "rewrites or drops characters, so the model would learn other text than was planted"
        )


def _survives(vocabulary: Vocabulary, text: bytes) -> bool:
    spelled = b"".join(map(vocabulary.spelled, vocabulary.encode(text)))
    return spelled in {text, b" " + text}


def _spelled(vocabulary: Vocabulary) -> list[bytes]:
    """Bytes of each token; special tokens are boundaries."""
    return [vocabulary.spelled(token) or _BOUNDARY for token in range(vocabulary.size)]


def _row_bytes(rows: TokenRows, indices: Iterable[int], spelled: list[bytes]) -> Iterable[bytes]:
    for index in indices:
        predicted = rows.tokens[index, 1 : rows.lengths[index] + 1].tolist()
        yield b"".join([spelled[token] for token in predicted])
