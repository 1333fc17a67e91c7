"""Measure every canary of a ledger on one model: exposure, extraction, the null, the coins.

Nothing here trains, judges or writes. In: a model, its vocabulary, a ledger and its secrets. Out: frozen results.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.canaries import Canary, Group, Ledger
from canary_audit.config import AuditConfig
from canary_audit.exposure.ranks import RankEstimate, RankSettings, measure_ranks, score_paths
from canary_audit.exposure.references import paper_estimates
from canary_audit.extraction import ExtractionReport, extract
from canary_audit.models.interface import LanguageModel
from canary_audit.results import (
    CanaryResult,
    CoinCanary,
    Epsilon,
    Exposure,
    Extraction,
    Frozen,
    GroupResult,
    LevelResult,
    Maybe,
    NotAvailable,
    NullCheck,
    PaperEstimate,
)
from canary_audit.rundir import derive_seed
from canary_audit.spaces import SecretSpace, parse_space
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.statistics.pvalues import (
    estimated_rank_p_value,
    exact_rank_p_value,
    fisher_combined,
    holm,
    mann_whitney,
    uniform_ks_p_value,
)
from canary_audit.tokens import CanonicalWalk
from canary_audit.vocabulary import Vocabulary

_NATS_PER_BIT = float(np.log(2.0))

_INTERVAL_ERROR = 0.005
"""Error spent, over all canaries together, on the intervals that estimated p-values rest on: a tenth of 5 %."""


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A model as the audit sees it."""

    language_model: LanguageModel
    vocabulary: Vocabulary
    lead: tuple[int, ...]
    """Tokens before a document: the separator the model was trained with."""


class Measurements(Frozen):
    """All that was measured on the canaries of a ledger."""

    groups: tuple[GroupResult, ...]
    levels: tuple[LevelResult, ...]
    canaries: tuple[CanaryResult, ...]
    null: NullCheck
    epsilon: Epsilon | NotAvailable


def measure_canaries(
    model: ScoredModel,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    *,
    settings: AuditConfig,
    seed: int,
    on_group: Callable[[str], None] | None = None,
) -> Measurements:
    """Exposure, extraction and p-values of every canary of `ledger`.

    Args:
        secrets: canary id -> secret, from `derive_secrets`.
        on_group: told the name of each group before it is measured.

    Raises:
        SpaceError: the model's tokenizer cannot spell a group's secrets in exactly one way each.
        ModelError: the model gave impossible numbers.
    """
    audits = []
    for place, group in enumerate(ledger.groups):
        if on_group:
            on_group(group.name)
        rng = np.random.default_rng(derive_seed(seed, "audit", place))
        audits.append(_GroupAudit(model, ledger, group, secrets, settings, rng))
    canaries = _adjust([canary for audit in audits for canary in audit.canaries])
    return Measurements(
        groups=tuple(audit.result for audit in audits),
        levels=_levels(canaries),
        canaries=tuple(canaries),
        null=check_null(canaries),
        epsilon=_coins([coin for audit in audits for coin in audit.coins]),
    )


def exposure_by_level(
    model: ScoredModel, ledger: Ledger, secrets: Mapping[str, bytes], *, settings: AuditConfig, seed: int
) -> dict[str, float]:
    """Median exposure in bits by number of insertions: the cheap measurement made after each epoch."""
    quick = RankSettings(
        nodes_per_canary=settings.tracking_nodes_per_canary,
        exact_nodes=settings.tracking_nodes_per_canary,
        replicates=2,
    )
    bits: dict[int, list[float]] = {}
    for place, group in enumerate(ledger.groups):
        rng = np.random.default_rng(derive_seed(seed, "tracking", place))
        canaries = [canary for canary in ledger.canaries_of(group.name) if canary.role == "level"]
        walk = canonical_walk(model, group)
        report = measure_ranks(
            walk, model.language_model, [secrets[canary.id] for canary in canaries], settings=quick, rng=rng
        )
        for canary, estimate in zip(canaries, report.estimates, strict=True):
            bits.setdefault(canary.insertions, []).append(walk.space.bits - float(np.log2(estimate.rank)))
    return {str(level): statistics.median(values) for level, values in sorted(bits.items())}


def canonical_walk(model: ScoredModel, group: Group) -> CanonicalWalk:
    """The tree of a group's secrets under the model's tokenizer."""
    space = parse_space(group.format)
    return CanonicalWalk(space, model.vocabulary, prefix=group.prefix, suffix=group.suffix, lead=model.lead)


def check_null(canaries: Sequence[CanaryResult]) -> NullCheck:
    """Never-inserted controls must rank uniformly, whatever the model has learned."""
    controls = [canary for canary in canaries if canary.role == "control"]
    p_values = [canary.p_value for canary in controls if not isinstance(canary.p_value, NotAvailable)]
    if not p_values:
        nothing = NotAvailable(not_available="no never-inserted controls were planned")
        return NullCheck(n_controls=0, mean_bits=nothing, uniform_p=nothing)
    ranks = [2.0**-canary.exposure.bits for canary in controls]
    return NullCheck(
        n_controls=len(controls),
        mean_bits=statistics.fmean(canary.exposure.bits for canary in controls),
        uniform_p=uniform_ks_p_value(ranks),
    )


class _GroupAudit:
    """One group of canaries, measured."""

    def __init__(
        self,
        model: ScoredModel,
        ledger: Ledger,
        group: Group,
        secrets: Mapping[str, bytes],
        settings: AuditConfig,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._settings = model, settings
        self._walk = canonical_walk(model, group)
        self._space: SecretSpace = self._walk.space
        entries = ledger.canaries_of(group.name)
        self._ranked = [canary for canary in entries if canary.role != "coin"]
        self._n_judged = sum(canary.role == "level" for canary in ledger.canaries)
        self._ranks = measure_ranks(
            self._walk,
            model.language_model,
            [secrets[canary.id] for canary in self._ranked],
            settings=_rank_settings(settings),
            rng=rng,
        )
        self._inserted = [canary for canary in entries if canary.insertions > 0]
        self._extracted = self._extract()
        self._place = {item.secret: place for place, item in enumerate(self._extracted.secrets)}
        estimates = self._paper_estimates(rng)
        self.canaries = [
            self._canary(canary, secrets[canary.id], rank, estimate)
            for canary, rank, estimate in zip(self._ranked, self._ranks.estimates, estimates, strict=True)
        ]
        self.coins = self._score_coins([canary for canary in entries if canary.role == "coin"], secrets)
        self.result = self._summary(group)

    def _extract(self) -> ExtractionReport:
        """As many secrets as were inserted behind this prefix; none where none was."""
        if not self._inserted:
            return ExtractionReport(secrets=(), nodes=0, calls=0)
        return extract(
            self._walk,
            self._model.language_model,
            len(self._inserted),
            max_width=self._settings.extraction_width,
        )

    def _paper_estimates(self, rng: np.random.Generator) -> list[tuple[PaperEstimate, ...]]:
        if not self._settings.references:
            return [()] * len(self._ranked)
        costs = np.array([estimate.nll_nats for estimate in self._ranks.estimates])
        return paper_estimates(
            self._walk, self._model.language_model, costs, n_references=self._settings.references, rng=rng
        )

    def _canary(
        self, canary: Canary, secret: bytes, rank: RankEstimate, estimates: tuple[PaperEstimate, ...]
    ) -> CanaryResult:
        nll_bits = rank.nll_nats / _NATS_PER_BIT
        return CanaryResult(
            id=canary.id,
            group=canary.group,
            role="control" if canary.role == "control" else "level",
            insertions=canary.insertions,
            space_bits=self._space.bits,
            nll_bits=nll_bits,
            exposure=_exposure(rank, self._space.bits),
            certificate_bits=max(0.0, self._space.bits - nll_bits),
            p_value=self._p_value(rank),
            adjusted_p_value=NotAvailable(not_available="controls are not judged"),
            extraction=self._extraction(secret),
            paper_estimates=estimates,
        )

    def _p_value(self, rank: RankEstimate) -> float:
        """Chance of so small a rank for a secret drawn uniformly and never inserted."""
        if rank.exact:
            return exact_rank_p_value(rank.high, self._space.size)
        error = _INTERVAL_ERROR / max(1, self._n_judged)
        _, _, upper = log_t_interval(rank.replicates, 1.0 - 2.0 * error)
        return estimated_rank_p_value(
            space_bits=self._space.bits,
            nll_bits=rank.nll_nats / _NATS_PER_BIT,
            rank_high=upper,
            error=error,
        )

    def _extraction(self, secret: bytes) -> Extraction:
        place = self._place.get(secret)
        if place is None:
            return Extraction(
                found=False,
                rank=NotAvailable(
                    not_available=f"not among the {len(self._extracted.secrets)} likeliest secrets found"
                ),
                certified=False,
                nodes=self._extracted.nodes,
                calls=self._extracted.calls,
            )
        item = self._extracted.secrets[place]
        return Extraction(found=True, rank=place + 1, certified=item.certified, nodes=item.nodes, calls=item.calls)

    def _score_coins(self, coins: list[Canary], secrets: Mapping[str, bytes]) -> list[CoinCanary]:
        if not coins:
            return []
        paths = [self._walk.path(secrets[coin.id]) for coin in coins]
        costs = score_paths(self._walk, self._model.language_model, paths)
        return [
            CoinCanary(id=coin.id, inserted=coin.insertions > 0, score=-float(cost) / _NATS_PER_BIT)
            for coin, cost in zip(coins, costs, strict=True)
        ]

    def _summary(self, group: Group) -> GroupResult:
        planted = [canary for canary in self.canaries if canary.insertions > 0]
        return GroupResult(
            name=group.name,
            format=group.format,
            prefix=group.prefix,
            suffix=group.suffix,
            space_size=str(self._space.size),
            space_bits=self._space.bits,
            noise_floor_nats=self._ranks.noise_floor_nats,
            extraction_sought=len(self._inserted),
            extraction_found=sum(canary.extraction.found for canary in planted),
            extraction_certified=sum(canary.extraction.certified for canary in planted),
            extraction_nodes=self._extracted.nodes,
            extraction_calls=self._extracted.calls,
            search_nodes=self._ranks.nodes,
            search_calls=self._ranks.calls,
        )


def _rank_settings(settings: AuditConfig) -> RankSettings:
    return RankSettings(
        nodes_per_canary=settings.nodes_per_canary,
        exact_nodes=settings.exact_nodes,
        replicates=settings.replicates,
    )


def _exposure(rank: RankEstimate, space_bits: float) -> Exposure:
    """Ranks in bits. A larger rank is a smaller exposure, so the interval's ends swap."""
    bits, low, high = (space_bits - float(np.log2(value)) for value in (rank.rank, rank.high, rank.low))
    return Exposure(
        bits=max(0.0, bits),
        low=max(0.0, low),
        high=max(0.0, high),
        method="branch-and-bound" if rank.exact else "stochastic-enumeration",
        exact=rank.exact,
        rank=rank.rank,
        rank_high=rank.high,
    )


def _adjust(canaries: list[CanaryResult]) -> list[CanaryResult]:
    """Holm's correction over all inserted canaries of the audit."""
    inserted = [place for place, canary in enumerate(canaries) if canary.role == "level"]
    p_values = [_number(canaries[place].p_value) for place in inserted]
    for place, adjusted in zip(inserted, holm(p_values), strict=True):
        canaries[place] = canaries[place].model_copy(update={"adjusted_p_value": float(adjusted)})
    return canaries


def _levels(canaries: Sequence[CanaryResult]) -> tuple[LevelResult, ...]:
    """Canaries of one group and number of insertions, together."""
    levels: dict[tuple[str, int], list[CanaryResult]] = {}
    for canary in canaries:
        if canary.role == "level":
            levels.setdefault((canary.group, canary.insertions), []).append(canary)
    return tuple(_level(*key, members) for key, members in sorted(levels.items()))


def _level(group: str, insertions: int, members: list[CanaryResult]) -> LevelResult:
    bits = [canary.exposure.bits for canary in members]
    return LevelResult(
        group=group,
        insertions=insertions,
        n_canaries=len(members),
        n_extracted=sum(canary.extraction.found for canary in members),
        median_bits=statistics.median(bits),
        low_bits=min(bits),
        high_bits=max(bits),
        p_value=fisher_combined([_number(canary.p_value) for canary in members]),
    )


def _coins(coins: list[CoinCanary]) -> Epsilon | NotAvailable:
    """Do the canaries a coin put in score higher than those it left out?"""
    inserted = [coin.score for coin in coins if coin.inserted]
    left_out = [coin.score for coin in coins if not coin.inserted]
    if not inserted or not left_out:
        return NotAvailable(not_available="no coin-flipped canaries were planned (coin_flips)")
    auc, p_value = mann_whitney(inserted, left_out)
    return Epsilon(canaries=tuple(coins), auc=auc, p_value=p_value)


def _number(value: Maybe) -> float:
    """A p-value that planted canaries always have."""
    if isinstance(value, NotAvailable):
        raise TypeError(value.not_available)
    return value
