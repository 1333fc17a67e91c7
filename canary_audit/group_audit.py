"""Measure one group of canaries on one model: ranks, p-values, extraction, coins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from canary_audit.canaries import Canary, Group, Ledger
from canary_audit.config import AuditConfig
from canary_audit.errors import BudgetSpentError
from canary_audit.exposure.estimates import RankReport, RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.exposure.references import paper_estimates
from canary_audit.exposure.reported import (
    NATS_PER_BIT,
    p_value_of,
)
from canary_audit.exposure.scores import PathScores, WholeCosts, path_scores, whole_scores
from canary_audit.exposure.windows import measure_rank_bounds
from canary_audit.extraction import ExtractionReport, extract
from canary_audit.group_results import canary_result, extraction_result, group_result
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.models.windowed import windowed
from canary_audit.results import (
    CanaryResult,
    CoinCanary,
    GroupResult,
    PaperEstimate,
)
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.spelled import spell_secrets
from canary_audit.tokens.walk import SecretWalk, TokenWalk
from canary_audit.vocabulary import Vocabulary

_FOR_EXTRACTION = 0.2
"""Part of a group's budget that ranking leaves to the extraction after it."""


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A model as the audit sees it."""

    language_model: LanguageModel
    vocabulary: Vocabulary
    lead: tuple[int, ...]
    """Tokens before a document: the separator the model was trained with."""
    most_nodes: int | None = None
    """Prefixes whose past fits the memory, where that is limited."""
    nodes_left: Callable[[], int] | None = None
    """How many more prefixes a budget pays for; None if asking costs nothing. A model with a price remembers its
    answers, and answers for all children of a prefix at once."""
    whole_costs: Callable[[TokenWalk, Sequence[tuple[int, ...]]], FloatArray] | None = None
    """Costs in nats of leaves of a walk, at the price of one prefix each; None if the model scores no whole texts."""
    own_whole: bool = False
    """Whether canaries' own costs are asked whole too: where a prefix takes several requests."""
    noise_floor_nats: float = 0.0
    """How far the score of one text was seen to spread, where that is known beforehand."""


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
    share: float = 1.0,
) -> AuditedGroup:
    """Rank every level and control canary of a group, extract as many secrets as were inserted, score the coins.

    Where there are coins only, they are scored and nothing else: no tree of the space is made, so it may be of any
    size. Where levels share their prefix with coins, extraction looks for the inserted coins too: a canary planted once
    is as likely to come out as any of them, and would else be crowded out.

    Args:
        share: part of the model's budget, where it has one, that may be spent here.

    Raises:
        BudgetSpentError: not even the canaries' own costs could be paid for.
    """
    entries = ledger.canaries_of(group.name)
    ranked = [canary for canary in entries if canary.role != "coin"]
    coins = [canary for canary in entries if canary.role == "coin"]
    if not ranked:
        return _coins_only(model, ledger, group, coins, secrets)
    walk = canonical_walk(model, ledger, group)
    has_levels = any(canary.role == "level" for canary in ranked)
    n_inserted = sum(canary.insertions > 0 for canary in entries) if has_levels else 0
    nodes_left = _part_of(model.nodes_left, share)
    ranks = _rank(
        walk,
        model,
        [secrets[canary.id] for canary in ranked],
        settings=settings,
        rng=rng,
        nodes_left=_part_of(nodes_left, 1.0 - _FOR_EXTRACTION) if n_inserted else nodes_left,
    )
    extracted = _extract(walk, model, n_inserted, settings, nodes_left)
    places = {item.secret: place for place, item in enumerate(extracted.secrets, start=1)}
    n_judged = sum(canary.role == "level" for canary in ledger.canaries)
    canaries = tuple(
        canary_result(
            canary,
            rank,
            walk.space,
            p_value=p_value_of(rank, walk.space, n_judged),
            extraction=extraction_result(places.get(secrets[canary.id]), extracted),
            estimates=estimates,
        )
        for canary, rank, estimates in zip(
            ranked, ranks.estimates, _paper_estimates(walk, model, ranks, settings, rng), strict=True
        )
    )
    return AuditedGroup(
        result=group_result(group, walk.space, walk.notice, canaries, ranks, extracted, n_inserted),
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
        result=group_result(group, space, None, (), nothing, ExtractionReport(secrets=(), nodes=0, calls=0), 0),
        canaries=(),
        coins=_score_coins(spelled.walk(), model, spelled.paths, coins, alone=True),
    )


def pay_for_scores(model: ScoredModel, ledger: Ledger, group: Group, secrets: Mapping[str, bytes]) -> None:
    """Ask a model with a price for what the group's own canaries cost, and nothing else.

    It remembers, so the audit of the group asks for none of it again. With every group's own costs known, a budget that
    ends early leaves no canary without an interval.

    Raises:
        BudgetSpentError: the budget does not even allow this.
    """
    entries = ledger.canaries_of(group.name)
    if all(canary.role == "coin" for canary in entries):
        _coins_only(model, ledger, group, list(entries), secrets)
    elif entries:
        walk = canonical_walk(model, ledger, group)
        _own_scores(model, walk, walk.paths([secrets[canary.id] for canary in entries]))


def _own_scores(
    model: ScoredModel, walk: TokenWalk, paths: Sequence[tuple[int, ...]], *, alone: bool = False
) -> PathScores:
    """Costs of canaries, asked as the rest of the audit asks; `alone` if no search of this walk follows."""
    whole_costs = _whole_costs(model, walk)
    if whole_costs is not None and (model.own_whole or alone):
        return whole_scores(whole_costs, paths)
    return path_scores(walk, model.language_model, paths, siblings=model.nodes_left is not None)


def _part_of(nodes_left: Callable[[], int] | None, share: float) -> Callable[[], int] | None:
    """What is left of this share of what is left now."""
    if nodes_left is None:
        return None
    now = nodes_left()
    kept = now - int(share * now)
    return lambda: max(0, nodes_left() - kept)


def _rank(
    walk: SecretWalk,
    model: ScoredModel,
    secrets: Sequence[bytes],
    *,
    settings: AuditConfig,
    rng: np.random.Generator,
    nodes_left: Callable[[], int] | None,
) -> RankReport:
    """Ranks, or bounds on them where the model answers for its likeliest tokens only."""
    effort = RankSettings(
        nodes_per_canary=settings.nodes_per_canary,
        exact_nodes=_countable_nodes(settings, model),
        replicates=settings.replicates,
    )
    floor = model.noise_floor_nats
    if window := windowed(model.language_model):
        return measure_rank_bounds(
            walk, window, secrets, settings=effort, rng=rng, noise_floor_nats=floor, nodes_left=nodes_left
        )
    return measure_ranks(
        walk,
        model.language_model,
        secrets,
        settings=effort,
        rng=rng,
        noise_floor_nats=floor,
        nodes_left=nodes_left,
        whole_costs=_whole_costs(model, walk),
        own_whole=model.own_whole,
    )


def _whole_costs(model: ScoredModel, walk: TokenWalk) -> WholeCosts | None:
    return None if model.whole_costs is None else partial(model.whole_costs, walk)


def _countable_nodes(settings: AuditConfig, model: ScoredModel) -> int:
    """Largest tree to count; one that was predicted too small may take twice as many nodes."""
    return settings.exact_nodes if model.most_nodes is None else min(settings.exact_nodes, model.most_nodes // 2)


def _extract(
    walk: SecretWalk,
    model: ScoredModel,
    n_inserted: int,
    settings: AuditConfig,
    nodes_left: Callable[[], int] | None,
) -> ExtractionReport:
    """As many secrets as were inserted behind this prefix; none where none was."""
    if not n_inserted:
        return ExtractionReport(secrets=(), nodes=0, calls=0)
    return extract(walk, model.language_model, n_inserted, max_width=settings.extraction_width, nodes_left=nodes_left)


def _paper_estimates(
    walk: SecretWalk, model: ScoredModel, ranks: RankReport, settings: AuditConfig, rng: np.random.Generator
) -> list[tuple[PaperEstimate, ...]]:
    """The paper's estimators, where the configuration asks for them and every cost that they need can be had."""
    nothing: list[tuple[PaperEstimate, ...]] = [()] * len(ranks.estimates)
    if not settings.references or windowed(model.language_model):
        return nothing
    costs = np.array([estimate.nll_nats for estimate in ranks.estimates])
    try:
        return paper_estimates(walk, model.language_model, costs, n_references=settings.references, rng=rng)
    except BudgetSpentError:
        return nothing


def _score_coins(
    walk: TokenWalk, model: ScoredModel, paths: Sequence[tuple[int, ...]], coins: list[Canary], *, alone: bool = False
) -> tuple[CoinCanary, ...]:
    """The coins' log-likelihoods; where a token lies outside a model's window, the most it can be.

    That is a score like any other: a bound on epsilon holds for every function of the model and the canary that does
    not see the coin. It only tells less.
    """
    if not coins:
        return ()
    costs = _own_scores(model, walk, paths, alone=alone).costs_nats
    return tuple(
        CoinCanary(id=coin.id, inserted=coin.insertions > 0, score=-float(cost) / NATS_PER_BIT)
        for coin, cost in zip(coins, costs, strict=True)
    )
