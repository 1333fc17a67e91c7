"""Errors and intervals of rank estimators in worlds of known ranks, at equal numbers of model evaluations."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from digit_worlds import DigitWorld, ExactRanks, log_spaced_ranks
from scipy import stats
from subject import MeteredModel

from canary_audit.exposure.ranks import RankEstimate, RankSettings, measure_ranks
from canary_audit.models.interface import FloatArray, IntArray
from canary_audit.spaces import parse_space
from canary_audit.tokens.choose import secret_walk
from canary_audit.tokens.walk import SecretWalk
from canary_audit.vocabulary import ByteVocabulary

SMALL_RANK = 1_000
"""Up to here an audit counts; above it estimates."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A world, its canaries and their exact ranks."""

    world: DigitWorld
    truth: ExactRanks
    walk: SecretWalk
    numbers: IntArray
    ranks: IntArray

    def secrets(self, chosen: IntArray) -> list[bytes]:
        """The chosen canaries as text."""
        return [b"%0*d" % (self.world.n_digits, number) for number in self.numbers[chosen].tolist()]


def make_trial(world: DigitWorld, n_canaries: int) -> Trial:
    """Canaries of ranks from 1 to half the space, even in bits."""
    truth = ExactRanks(world)
    numbers, ranks = truth.canaries(log_spaced_ranks(world.size, n_canaries))
    walk = secret_walk(parse_space(f"{{digit:{world.n_digits}}}"), ByteVocabulary(), prefix="pin ")
    return Trial(world=world, truth=truth, walk=walk, numbers=numbers, ranks=ranks)


def estimation(
    trial: Trial, settings: RankSettings, repeats: int, fits: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Estimate all canaries together, as an audit does, `repeats` times; the paper's estimators compete.

    Nodes are everything the model was asked, the canaries' own scores and the pilot too, a canary.
    """
    meter = MeteredModel(trial.world.model())
    secrets = trial.secrets(np.arange(len(trial.ranks)))
    reports = [measure_ranks(trial.walk, meter, secrets, settings=settings, rng=rng) for _ in range(repeats)]
    nodes = round(meter.prefixes / (repeats * len(secrets)))
    estimates = [report.estimates for report in reports]
    errors = np.log2([[one.rank for one in row] for row in estimates]) - np.log2(trial.ranks)
    covered = np.array(
        [[one.low <= rank <= one.high for one, rank in zip(row, trial.ranks, strict=True)] for row in estimates]
    )
    n_references = affordable_references(trial.world.n_digits, nodes)
    small = trial.ranks <= min(SMALL_RANK, trial.world.size // 100)
    papers = _paper_errors(trial, n_references, repeats, fits, rng)
    return {
        "world": trial.world.name,
        "setting_nodes_per_canary": settings.nodes_per_canary,
        "replicates": settings.replicates,
        "nodes_per_canary": nodes,
        "intervals": covered.size,
        "coverage": round(float(covered.mean()), 4),
        "least_coverage_of_a_rank": round(float(covered.mean(axis=0).min()), 3),
        "error_bits_p90": round(float(np.quantile(np.abs(errors[:, ~small]), 0.9)), 3),
        "rmse_bits": _rms(errors[:, ~small]),
        "relative_bias": round(float(np.mean(2.0**errors)) - 1.0, 4),
        "rmse_bits_small_ranks": _rms(errors[:, small]),
        "references_at_equal_nodes": n_references,
    } | {f"{name}_rmse_bits_small_ranks": _rms(error) for name, error in papers.items()}


def exact_counting(trial: Trial, exact_nodes: int, n_small: int, rng: np.random.Generator) -> dict[str, Any]:
    """The `n_small` likeliest secrets measured together, and then the trial's rarer canaries one by one."""
    settings = RankSettings(exact_nodes=exact_nodes)
    numbers, ranks = trial.truth.canaries(np.arange(1, n_small + 1))
    small = Trial(world=trial.world, truth=trial.truth, walk=trial.walk, numbers=numbers, ranks=ranks)
    secrets = small.secrets(np.arange(len(ranks)))
    together = measure_ranks(trial.walk, trial.world.model(), secrets, settings=settings, rng=rng)
    exact = [_is_exact(one, rank) for one, rank in zip(together.estimates, ranks.tolist(), strict=True)]
    reached = int(ranks[: [*exact, False].index(False)].max(initial=0))
    return {
        "world": trial.world.name,
        "exact_nodes": exact_nodes,
        "small_ranks": len(ranks),
        "small_ranks_counted_exactly": sum(exact),
        "wrong_counts": sum(
            one.exact and one.rank != rank for one, rank in zip(together.estimates, ranks.tolist(), strict=True)
        ),
        "exact_rank_max": _exact_rank_max(trial, reached, settings, rng) if all(exact) else reached,
        "nodes_together": together.nodes,
    }


def _exact_rank_max(trial: Trial, reached: int, settings: RankSettings, rng: np.random.Generator) -> int:
    """Largest rank up to which each of the trial's canaries, measured alone, was counted and counted right."""
    for canary, rank in enumerate(trial.ranks.tolist()):
        if rank <= reached:
            continue
        secrets = trial.secrets(np.array([canary]))
        report = measure_ranks(trial.walk, trial.world.model(), secrets, settings=settings, rng=rng)
        if not _is_exact(report.estimates[0], rank):
            break
        reached = rank
    return reached


def _is_exact(estimate: RankEstimate, rank: int) -> bool:
    return estimate.exact and estimate.rank == rank


def affordable_references(n_digits: int, nodes: int) -> int:
    """Most random secrets whose shared beginnings are at most `nodes` prefixes, as expected over the draw."""
    per_level = 10.0 ** np.arange(1, n_digits)

    def expected_nodes(n_references: int) -> float:
        return 1.0 + float((per_level * (1.0 - (1.0 - 1.0 / per_level) ** n_references)).sum())

    n_references = 2  # the fewest a distribution can be fitted to
    while n_references < 10**n_digits and expected_nodes(n_references + 1) <= nodes:
        n_references += 1
    return n_references


def _paper_errors(
    trial: Trial, n_references: int, repeats: int, fits: int, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Errors in bits on the small ranks of uniform sampling and of the skew-normal fit (sections 4.3 and 4.4)."""
    small = trial.ranks <= min(SMALL_RANK, trial.world.size // 100)
    ranks, costs = trial.ranks[small], trial.world.costs_nats(trial.numbers[small])
    bits = math.log2(trial.world.size)
    exposures = bits - np.log2(ranks)
    n_cheaper = rng.binomial(n_references, ranks / trial.world.size, (repeats, len(ranks)))
    uniform = -np.log2((1 + n_cheaper) / (1 + n_references))
    fitted = []
    for _ in range(fits):
        references = trial.world.costs_nats(rng.integers(trial.world.size, size=n_references))
        found = -stats.skewnorm.logcdf(costs, *stats.skewnorm.fit(references)) / math.log(2.0)
        fitted.append(np.clip(found, 0.0, bits))
    return {"uniform_sampling": uniform - exposures, "skew_normal": np.array(fitted) - exposures}


def _rms(errors: FloatArray) -> float:
    return round(float(np.sqrt(np.mean(errors**2))), 3)
