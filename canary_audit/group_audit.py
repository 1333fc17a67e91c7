"""Measure one group of canaries on one model: ranks, p-values, extraction, coins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from canary_audit.canaries import Canary, Group, Ledger
from canary_audit.config import AuditConfig
from canary_audit.exposure.ranks import RankEstimate, RankReport, RankSettings, measure_ranks, score_paths
from canary_audit.exposure.references import paper_estimates
from canary_audit.extraction import ExtractionReport, extract
from canary_audit.models.interface import LanguageModel
from canary_audit.results import (
    CanaryResult,
    CoinCanary,
    Exposure,
    Extraction,
    GroupResult,
    NotAvailable,
    PaperEstimate,
)
from canary_audit.spaces import SecretSpace
from canary_audit.statistics.intervals import log_t_interval
from canary_audit.statistics.pvalues import estimated_rank_p_value, exact_rank_p_value
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.spelled import spell_secrets
from canary_audit.tokens.walk import SecretWalk, TokenWalk
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
    most_nodes: int | None = None
    """Prefixes whose past fits the memory, where that is limited."""


def canonical_walk(model: ScoredModel, ledger: Ledger, group: Group) -> SecretWalk:
    """The tree of a group's secrets under the model's tokenizer."""
    space = ledger.space(group)
    return secret_walk(space, model.vocabulary, prefix=group.prefix, suffix=group.suffix, lead=model.lead)


@dataclass(frozen=True, kw_only=True)
class AuditedGroup:
    """One group of canaries, measured."""

    result: GroupResult
    canaries: tuple[CanaryResult, ...]
    """Levels and controls, p-values not yet corrected."""
    coins: tuple[CoinCanary, ...]


def audit_group(
    model: ScoredModel,
    ledger: Ledger,
    group: Group,
    secrets: Mapping[str, bytes],
    *,
    settings: AuditConfig,
    rng: np.random.Generator,
) -> AuditedGroup:
    """Rank every level and control canary of a group, extract as many secrets as were inserted, score the coins.

    Where there are coins only, they are scored and nothing else: no tree of the space is made, so it may be of any
    size. Where levels share their prefix with coins, extraction looks for the inserted coins too: a canary planted once
    is as likely to come out as any of them, and would else be crowded out.
    """
    entries = ledger.canaries_of(group.name)
    ranked = [canary for canary in entries if canary.role != "coin"]
    coins = [canary for canary in entries if canary.role == "coin"]
    if not ranked:
        return _coins_only(model, ledger, group, coins, secrets)
    walk = canonical_walk(model, ledger, group)
    ranks = measure_ranks(
        walk,
        model.language_model,
        [secrets[canary.id] for canary in ranked],
        settings=RankSettings(
            nodes_per_canary=settings.nodes_per_canary,
            exact_nodes=_countable_nodes(settings, model),
            replicates=settings.replicates,
        ),
        rng=rng,
    )
    has_levels = any(canary.role == "level" for canary in ranked)
    n_inserted = sum(canary.insertions > 0 for canary in entries) if has_levels else 0
    extracted = _extract(walk, model, n_inserted, settings)
    places = {item.secret: place for place, item in enumerate(extracted.secrets, start=1)}
    n_judged = sum(canary.role == "level" for canary in ledger.canaries)
    canaries = tuple(
        _canary_result(
            canary,
            rank,
            walk.space,
            p_value=_p_value(rank, walk.space, n_judged),
            extraction=_extraction(places.get(secrets[canary.id]), extracted),
            estimates=estimates,
        )
        for canary, rank, estimates in zip(
            ranked, ranks.estimates, _paper_estimates(walk, model, ranks, settings, rng), strict=True
        )
    )
    return AuditedGroup(
        result=_group_result(group, walk.space, walk.notice, canaries, ranks, extracted, n_inserted),
        canaries=canaries,
        coins=_score_coins(walk, model, walk.paths([secrets[coin.id] for coin in coins]), coins),
    )


def _coins_only(
    model: ScoredModel, ledger: Ledger, group: Group, coins: list[Canary], secrets: Mapping[str, bytes]
) -> AuditedGroup:
    """A group of coin-flipped canaries: nothing is ranked or extracted."""
    space = ledger.space(group)
    spelled = spell_secrets(
        [secrets[coin.id] for coin in coins],
        model.vocabulary,
        prefix=group.prefix,
        suffix=group.suffix,
        lead=model.lead,
        prefix_free=space.prefix_free,
    )
    nothing = RankReport(estimates=(), noise_floor_nats=0.0, nodes=0, calls=0)
    return AuditedGroup(
        result=_group_result(group, space, None, (), nothing, ExtractionReport(secrets=(), nodes=0, calls=0), 0),
        canaries=(),
        coins=_score_coins(spelled.walk(), model, spelled.paths, coins),
    )


def _countable_nodes(settings: AuditConfig, model: ScoredModel) -> int:
    """Largest tree to count; one that was predicted too small may take twice as many nodes."""
    return settings.exact_nodes if model.most_nodes is None else min(settings.exact_nodes, model.most_nodes // 2)


def _extract(walk: SecretWalk, model: ScoredModel, n_inserted: int, settings: AuditConfig) -> ExtractionReport:
    """As many secrets as were inserted behind this prefix; none where none was."""
    if not n_inserted:
        return ExtractionReport(secrets=(), nodes=0, calls=0)
    return extract(walk, model.language_model, n_inserted, max_width=settings.extraction_width)


def _extraction(place: int | None, extracted: ExtractionReport) -> Extraction:
    """Whether one canary is among what came out; `place` counts from 1."""
    if place is None:
        why = f"not among the {len(extracted.secrets)} likeliest secrets found"
        return Extraction(
            found=False,
            rank=NotAvailable(not_available=why),
            certified=False,
            nodes=extracted.nodes,
            calls=extracted.calls,
        )
    item = extracted.secrets[place - 1]
    return Extraction(found=True, rank=place, certified=item.certified, nodes=item.nodes, calls=item.calls)


def _paper_estimates(
    walk: SecretWalk, model: ScoredModel, ranks: RankReport, settings: AuditConfig, rng: np.random.Generator
) -> list[tuple[PaperEstimate, ...]]:
    """The paper's estimators, where the configuration asks for them."""
    if not settings.references:
        return [()] * len(ranks.estimates)
    costs = np.array([estimate.nll_nats for estimate in ranks.estimates])
    return paper_estimates(walk, model.language_model, costs, n_references=settings.references, rng=rng)


def _p_value(rank: RankEstimate, space: SecretSpace, n_judged: int) -> float:
    """Chance of so small a rank for a secret drawn uniformly and never inserted."""
    if rank.exact:
        return exact_rank_p_value(rank.high, space.size)
    error = _INTERVAL_ERROR / max(1, n_judged)
    _, _, upper = log_t_interval(rank.replicates, 1.0 - 2.0 * error)
    return estimated_rank_p_value(
        space_bits=space.bits, nll_bits=rank.nll_nats / _NATS_PER_BIT, rank_high=upper, error=error
    )


def _canary_result(
    canary: Canary,
    rank: RankEstimate,
    space: SecretSpace,
    *,
    p_value: float,
    extraction: Extraction,
    estimates: tuple[PaperEstimate, ...],
) -> CanaryResult:
    nll_bits = rank.nll_nats / _NATS_PER_BIT
    return CanaryResult(
        id=canary.id,
        group=canary.group,
        role="control" if canary.role == "control" else "level",
        insertions=canary.insertions,
        space_bits=space.bits,
        nll_bits=nll_bits,
        exposure=_exposure(rank, space.bits),
        certificate_bits=max(0.0, space.bits - nll_bits),
        p_value=p_value,
        adjusted_p_value=NotAvailable(not_available="controls are not judged"),
        extraction=extraction,
        paper_estimates=estimates,
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


def _score_coins(
    walk: TokenWalk, model: ScoredModel, paths: Sequence[tuple[int, ...]], coins: list[Canary]
) -> tuple[CoinCanary, ...]:
    if not coins:
        return ()
    costs = score_paths(walk, model.language_model, paths)
    return tuple(
        CoinCanary(id=coin.id, inserted=coin.insertions > 0, score=-float(cost) / _NATS_PER_BIT)
        for coin, cost in zip(coins, costs, strict=True)
    )


def _group_result(
    group: Group,
    space: SecretSpace,
    notice: str | None,
    canaries: tuple[CanaryResult, ...],
    ranks: RankReport,
    extracted: ExtractionReport,
    n_inserted: int,
) -> GroupResult:
    planted = [canary.extraction for canary in canaries if canary.insertions > 0]
    return GroupResult(
        name=group.name,
        format=group.format,
        prefix=group.prefix,
        suffix=group.suffix,
        space_size=str(space.size),
        space_bits=space.bits,
        notice=notice,
        noise_floor_nats=ranks.noise_floor_nats,
        extraction_sought=n_inserted,
        extraction_found=sum(extraction.found for extraction in planted),
        extraction_certified=sum(extraction.certified for extraction in planted),
        extraction_nodes=extracted.nodes,
        extraction_calls=extracted.calls,
        search_nodes=ranks.nodes,
        search_calls=ranks.calls,
    )
