"""Audit a model that only writes text: what comes out when it goes on from each prefix, and could that be chance?

Text shows what comes out and nothing of what lies behind. So there are no exposures: a secret that came out is proof,
and one that did not may be the next. Texts are held against the secrets in memory, and kept nowhere.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from canary_audit.audit import Measurements, OnProgress, adjust_p_values, levels_of
from canary_audit.canaries import Canary, Group, Ledger
from canary_audit.errors import BudgetSpentError
from canary_audit.results import (
    CanaryResult,
    CoinCanary,
    Extraction,
    GroupResult,
    NotAvailable,
    NullCheck,
    SampledExtraction,
)
from canary_audit.rundir import derive_seed
from canary_audit.statistics.sampled_extraction import sampled_extraction, samples_for_even_odds
from canary_audit.text_audit.written import Match, WrittenTexts

COIN_SCORE = "verbatim texts, then fewest edits"
"""The membership score of coin-flipped canaries."""

_TEXTS_A_REQUEST = 20
_LEAD_TOKENS = 16
"""Room for what a model may write before a secret, such as a space or the opening words of a chat."""
_BYTES_A_TOKEN = 8
"""More than tokens of any text have on average; what a server writes beyond was not asked for, and is not read."""
_FIRST_SEED = 2**25
"""Seeds lie from here to twice this: a server may count up from a multiple of one, and may hold it in 32 bits."""

_ONLY_WRITES = NotAvailable(not_available="the model only writes text")
_WROTE_NOTHING = NotAvailable(not_available="the budget ended before the model was asked to write")


class Writer(Protocol):
    """A model that goes on from a text."""

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> tuple[str, ...]:
        """`n` continuations; temperature 0 is greedy. `seed` tells repeated requests apart.

        Raises:
            BudgetSpentError: the budget does not pay for this request.
        """


def measure_writing(
    writer: Writer,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    *,
    n_samples: int,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Measurements:
    """Extraction and p-values of every canary of `ledger`, from the greedy continuation of its group's prefix and
    `n_samples` at temperature 1.

    Where the budget ends, what was written until then counts, and the group's notice says so.

    Args:
        secrets: canary id -> secret, from `derive_secrets`.
        on_progress: told (requests answered, requests planned).

    Raises:
        EndpointError: the model could not be reached, or its answer cannot be true.
    """
    groups = [_Group(group, ledger, n_samples=n_samples) for group in ledger.groups]
    _ask(writer, groups, seed, on_progress)
    audits = [_Audit(group, ledger, secrets) for group in groups]
    canaries = adjust_p_values([canary for audit in audits for canary in audit.canaries])
    n_controls = sum(canary.role == "control" for canary in canaries)
    return Measurements(
        groups=tuple(audit.result for audit in audits),
        levels=levels_of(canaries),
        canaries=tuple(canaries),
        null=NullCheck(n_controls=n_controls, mean_bits=_ONLY_WRITES, uniform_p=_ONLY_WRITES),
        coins=tuple(coin for audit in audits for coin in audit.coins),
    )


class _Group:
    """A group, and what the model wrote after its prefix."""

    def __init__(self, group: Group, ledger: Ledger, *, n_samples: int) -> None:
        self.group = group
        self.space = ledger.space(group)
        self.n_samples = n_samples
        self.n_requests = 0
        self.greedy: bytes | None = None
        self.samples: list[bytes] = []

    @property
    def _max_tokens(self) -> int:
        """Every token spells a byte or more: that many reach the end of the longest secret, however it is cut."""
        return self.space.max_length + len(self.group.suffix.encode()) + _LEAD_TOKENS

    def ask(self, writer: Writer, number: int, seed: int) -> None:
        """Send one request: number 0 is the greedy one."""
        n_left = self.n_samples - len(self.samples)
        texts = writer.write(
            self.group.prefix,
            max_tokens=self._max_tokens,
            temperature=1.0 if number else 0.0,
            n=min(n_left, _TEXTS_A_REQUEST) if number else 1,
            seed=seed + number,
        )
        self.n_requests += 1
        read = [self._read(text) for text in texts]
        if number:
            self.samples += read[:n_left]
        else:
            self.greedy = read[0]

    def _read(self, text: str) -> bytes:
        most_bytes = _BYTES_A_TOKEN * self._max_tokens
        return text[:most_bytes].encode("utf-8", errors="replace")[:most_bytes]


def _ask(writer: Writer, groups: Sequence[_Group], seed: int, on_progress: OnProgress | None) -> None:
    """Let the model write, group by group and round after round, so that a budget ends for all of them alike."""
    n_rounds = 1 + max((-(-group.n_samples // _TEXTS_A_REQUEST) for group in groups), default=0)
    seeds = [_FIRST_SEED + derive_seed(seed, "write", place) % _FIRST_SEED for place in range(len(groups))]
    n_answered = 0
    for number in range(n_rounds):
        for group, first_seed in zip(groups, seeds, strict=True):
            try:
                group.ask(writer, number, first_seed)
            except BudgetSpentError:
                return
            n_answered += 1
            if on_progress:
                on_progress(n_answered, n_rounds * len(groups))


class _Audit:
    """What was measured on one group; the texts are gone once it is made."""

    def __init__(self, asked: _Group, ledger: Ledger, secrets: Mapping[str, bytes]) -> None:
        texts = WrittenTexts(asked.greedy or b"", asked.samples, asked.space)
        members = ledger.canaries_of(asked.group.name)
        matches = {canary.id: texts.match(secrets[canary.id]) for canary in members}
        self.canaries = [
            _canary_result(canary, asked, matches[canary.id], texts.p_value(matches[canary.id]))
            for canary in members
            if canary.role != "coin"
        ]
        self.coins = [_score(canary, matches[canary.id]) for canary in members if canary.role == "coin"]
        self.result = _group_result(asked, self.canaries)


def _canary_result(canary: Canary, asked: _Group, match: Match, p_value: float) -> CanaryResult:
    return CanaryResult(
        id=canary.id,
        group=canary.group,
        role="control" if canary.role == "control" else "level",
        insertions=canary.insertions,
        space_bits=asked.space.bits,
        nll_bits=_ONLY_WRITES,
        exposure=_ONLY_WRITES,
        certificate_bits=0.0,
        samples_needed=samples_for_even_odds(match.hits, len(asked.samples)),
        p_value=p_value,
        adjusted_p_value=NotAvailable(not_available="controls are not judged"),
        extraction=Extraction(
            found=match.found,
            rank=NotAvailable(not_available="texts are not ranked"),
            certified=False,
            nodes=0,
            calls=asked.n_requests,
            edits=match.edits if match.found else 0,
            samples=_samples(asked, match),
        ),
    )


def _samples(asked: _Group, match: Match) -> SampledExtraction | NotAvailable:
    if asked.greedy is None:
        return _WROTE_NOTHING
    return sampled_extraction(match.hits, len(asked.samples), greedy=match.greedy)


def _score(coin: Canary, match: Match) -> CoinCanary:
    """How many texts hold the secret; where none does, the fewest edits, negative.

    It depends on the texts and the secret alone, as a bound on epsilon asks of a membership score (Steinke, Nasr and
    Jagielski 2023). Few models write what they saw once, so that most scores are low and the bound is 0 or near it.
    """
    n_texts = match.hits + match.greedy
    return CoinCanary(id=coin.id, inserted=coin.insertions > 0, score=float(n_texts or -match.edits))


def _group_result(asked: _Group, canaries: Sequence[CanaryResult]) -> GroupResult:
    inserted = [canary for canary in canaries if canary.role == "level"]
    return GroupResult(
        name=asked.group.name,
        format=asked.group.format,
        prefix=asked.group.prefix,
        suffix=asked.group.suffix,
        space_size=str(asked.space.size),
        space_bits=asked.space.bits,
        notice=_notice(asked),
        noise_floor_nats=0.0,
        extraction_sought=0 if asked.greedy is None else len(inserted),
        extraction_found=sum(canary.extraction.found for canary in inserted),
        extraction_certified=0,
        extraction_nodes=0,
        extraction_calls=asked.n_requests,
        search_nodes=0,
        search_calls=0,
    )


def _notice(asked: _Group) -> str | None:
    if asked.greedy is None:
        return "The budget ended before the model was asked to write"
    if (n_samples := len(asked.samples)) < asked.n_samples:
        return f"The budget ended after {n_samples} of {asked.n_samples} continuations at temperature 1"
    return None
