"""Measure every canary of a ledger on one model: exposure, extraction, the null, the coins.

Nothing here trains, judges or writes. In: a model, its vocabulary, a ledger and its secrets. Out: frozen results.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from canary_audit.canaries import Ledger
from canary_audit.config import AuditConfig
from canary_audit.exposure.estimates import RankSettings
from canary_audit.exposure.ranks import measure_ranks
from canary_audit.group_audit import AuditedGroup, ScoredModel, audit_group, canonical_walk, pay_for_scores
from canary_audit.models.watched import watched
from canary_audit.results import (
    CanaryResult,
    CoinCanary,
    Frozen,
    GroupResult,
    LevelResult,
    Maybe,
    MembershipResult,
    NotAvailable,
    NullCheck,
)
from canary_audit.rundir import derive_seed
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.pvalues import (
    fisher_combined,
    holm,
    uniform_ks_p_value,
)

OnProgress = Callable[[int, int], None]

_CONFIDENCE = 0.95


class Measurements(Frozen):
    """All that was measured on the canaries of a ledger."""

    groups: tuple[GroupResult, ...]
    levels: tuple[LevelResult, ...]
    canaries: tuple[CanaryResult, ...]
    null: NullCheck
    coins: tuple[CoinCanary, ...]
    """Coin-flipped canaries with their scores."""
    membership: tuple[MembershipResult, ...] = ()


def measure_canaries(
    model: ScoredModel,
    ledger: Ledger,
    secrets: Mapping[str, bytes],
    *,
    settings: AuditConfig,
    seed: int,
    on_progress: OnProgress | None = None,
) -> Measurements:
    """Exposure, extraction and p-values of every canary of `ledger`.

    Args:
        secrets: canary id -> secret, from `derive_secrets`.
        on_progress: told (prefixes the model was asked about, prefixes expected in all).

    Raises:
        SpaceError: the model's tokenizer cannot spell a group's secrets in exactly one way each.
        ModelError: the model gave impossible numbers.
        BudgetSpentError: the budget does not even pay for the canaries' own costs; if it ends later, intervals widen.
    """
    if on_progress:
        n_ranked = sum(canary.role != "coin" for canary in ledger.canaries)
        model = _watched(model, settings.nodes_per_canary * n_ranked, on_progress)
    if model.nodes_left is not None:
        for group in ledger.groups:
            pay_for_scores(model, ledger, group, secrets)
    audits: list[AuditedGroup] = []
    for place, (group, share) in enumerate(zip(ledger.groups, _shares(ledger), strict=True)):
        rng = np.random.default_rng(derive_seed(seed, "audit", place))
        audits.append(audit_group(model, ledger, group, secrets, settings=settings, rng=rng, share=share))
    canaries = adjust_p_values([canary for audited in audits for canary in audited.canaries])
    return Measurements(
        groups=tuple(audited.result for audited in audits),
        levels=levels_of(canaries),
        canaries=tuple(canaries),
        null=check_null(canaries),
        coins=tuple(coin for audited in audits for coin in audited.coins),
    )


def _watched(model: ScoredModel, expected: int, on_progress: OnProgress) -> ScoredModel:
    told = watched(model.language_model, lambda nodes: on_progress(nodes, max(nodes, expected)))
    return replace(model, language_model=told)


def _shares(ledger: Ledger) -> Iterator[float]:
    """Part of what is left of a budget that each group may take, by canaries to rank of the groups still to come."""
    ranked = [sum(canary.role != "coin" for canary in ledger.canaries_of(group.name)) for group in ledger.groups]
    for place, n_ranked in enumerate(ranked):
        yield n_ranked / max(1, sum(ranked[place:]))


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
        if not canaries:
            continue  # the tree of a group of coins may be far too large to make
        walk = canonical_walk(model, ledger, group)
        report = measure_ranks(
            walk, model.language_model, [secrets[canary.id] for canary in canaries], settings=quick, rng=rng
        )
        for canary, estimate in zip(canaries, report.estimates, strict=True):
            rank = estimate.high if estimate.rank is None else estimate.rank
            bits.setdefault(canary.insertions, []).append(walk.space.bits - float(np.log2(rank)))
    return {str(level): statistics.median(values) for level, values in sorted(bits.items())}


def check_null(canaries: Sequence[CanaryResult]) -> NullCheck:
    """Never-inserted controls must rank uniformly, whatever the model has learned."""
    controls = [canary for canary in canaries if canary.role == "control"]
    p_values = [canary.p_value for canary in controls if not isinstance(canary.p_value, NotAvailable)]
    if not p_values:
        nothing = NotAvailable(not_available="no never-inserted controls were planned")
        return NullCheck(n_controls=0, mean_bits=nothing, uniform_p=nothing)
    bits = [_point(canary) for canary in controls]
    known = [value for value in bits if not isinstance(value, NotAvailable)]
    if len(known) < len(controls):
        why = f"of {len(controls) - len(known)} of {len(controls)} controls only an interval is known"
        return NullCheck(
            n_controls=len(controls),
            mean_bits=NotAvailable(not_available=why),
            uniform_p=NotAvailable(not_available=why),
        )
    return NullCheck(
        n_controls=len(controls),
        mean_bits=statistics.fmean(known),
        uniform_p=uniform_ks_p_value([2.0**-value for value in known]),
    )


def adjust_p_values(canaries: Sequence[CanaryResult]) -> list[CanaryResult]:
    """Holm's correction over all inserted canaries of the audit."""
    corrected = list(canaries)
    inserted = [place for place, canary in enumerate(canaries) if canary.role == "level"]
    p_values = [_number(canaries[place].p_value) for place in inserted]
    for place, adjusted in zip(inserted, holm(p_values), strict=True):
        corrected[place] = canaries[place].model_copy(update={"adjusted_p_value": float(adjusted)})
    return corrected


def levels_of(canaries: Sequence[CanaryResult]) -> tuple[LevelResult, ...]:
    """Canaries of one group and number of insertions, together."""
    levels: dict[tuple[str, int], list[CanaryResult]] = {}
    for canary in canaries:
        if canary.role == "level":
            levels.setdefault((canary.group, canary.insertions), []).append(canary)
    return tuple(_level(*key, members) for key, members in sorted(levels.items()))


def _level(group: str, insertions: int, members: list[CanaryResult]) -> LevelResult:
    median, low, high = _level_bits(members)
    n_extracted = sum(canary.extraction.found for canary in members)
    extracted_low, extracted_high = clopper_pearson(n_extracted, len(members), _CONFIDENCE)
    return LevelResult(
        group=group,
        insertions=insertions,
        n_canaries=len(members),
        n_extracted=n_extracted,
        extracted_low=extracted_low,
        extracted_high=extracted_high,
        median_bits=median,
        low_bits=low,
        high_bits=high,
        p_value=fisher_combined([_number(canary.p_value) for canary in members]),
    )


def _level_bits(members: list[CanaryResult]) -> tuple[Maybe, Maybe, Maybe]:
    """Median, smallest and largest exposure of a level; ends of the intervals where not all have a point value."""
    points = [_point(canary) for canary in members]
    known = [value for value in points if not isinstance(value, NotAvailable)]
    if len(known) == len(points):
        return statistics.median(known), min(known), max(known)
    exposures = [canary.exposure for canary in members if not isinstance(canary.exposure, NotAvailable)]
    if not exposures and isinstance(points[0], NotAvailable):
        return points[0], points[0], points[0]
    missing = len(points) - len(known)
    if len(exposures) < len(members):
        why = NotAvailable(not_available=f"{missing} of {len(members)} canaries have no exposure")
        return why, why, why
    why = NotAvailable(not_available=f"of {missing} of {len(members)} canaries only an interval is known")
    return why, min(exposure.low for exposure in exposures), max(exposure.high for exposure in exposures)


def _point(canary: CanaryResult) -> Maybe:
    """Exposure in bits, where it is a number and not only an interval."""
    return canary.exposure if isinstance(canary.exposure, NotAvailable) else canary.exposure.bits


def _number(value: Maybe) -> float:
    """A p-value that planted canaries always have."""
    if isinstance(value, NotAvailable):
        raise TypeError(value.not_available)
    return value
