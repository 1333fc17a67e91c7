"""Ranks and extraction against known truth: errors, intervals, exact counts and what they cost.

    python benchmarks/rank.py [--quick] [--model FOLDER]

The model's next-digit probabilities are recorded once into worlds of digits in which every rank is counted exactly
(`digit_worlds.py`): a whole tree of 10^5 secrets, and order-2 chains over 10^9. There, stochastic enumeration, uniform
sampling and the skew-normal extrapolation (Carlini et al. 2019, sections 4.3 and 4.4, as TensorFlow Privacy has them)
may each ask about equally many prefixes (`estimators.py`). Extraction, growth and agreement are measured on the model
itself (`on_model.py`). The last line of the output is one JSON object.
"""

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from digit_worlds import DigitWorld, chain_world, random_chain_world, tree_world
from estimators import Trial, estimation, exact_counting, make_trial
from on_model import against_big_budget, agreement, many_canaries, memorized_secrets
from subject import Subject, load_subject, read_arguments

from canary_audit.exposure.ranks import RankSettings

PREFIX = "The random number is "
N_DIGITS = 9
DEFAULT = replace(RankSettings(), exact_nodes=0)
LEAN = replace(DEFAULT, nodes_per_canary=800, replicates=4)
"""Everything asked for a canary, its score and the pilot too, stays below 450 nodes: lanes share prefixes."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much of everything."""

    tree_digits: int
    canaries: int
    repeats: int
    fits: int
    small_ranks: int
    """Ranks up to this must be counted exactly."""
    many_nodes: int
    """A larger limit of exact counting than an audit's, to see what it takes."""
    counts: tuple[int, ...]
    """Numbers of canaries measured together on the model."""
    reference_canaries: int
    agreement_canaries: int


EFFORTS = {
    "full": Effort(
        tree_digits=5,
        canaries=48,
        repeats=40,
        fits=40,
        small_ranks=1_000,
        many_nodes=2_000_000,
        counts=(1, 4, 16),
        reference_canaries=3,
        agreement_canaries=100,
    ),
    "quick": Effort(
        tree_digits=5,
        canaries=24,
        repeats=24,
        fits=4,
        small_ranks=1_000,
        many_nodes=2_000_000,
        counts=(1, 4),
        reference_canaries=0,
        agreement_canaries=0,
    ),
    "tiny": Effort(
        tree_digits=3,
        canaries=6,
        repeats=4,
        fits=1,
        small_ranks=20,
        many_nodes=40_000,
        counts=(1,),
        reference_canaries=1,
        agreement_canaries=10,
    ),
}


def worlds(subject: Subject, tree_digits: int) -> list[DigitWorld]:
    """The worlds, the one that the headline numbers are from first."""
    return [
        chain_world(subject, PREFIX, N_DIGITS),
        random_chain_world(N_DIGITS, 1.0, np.random.default_rng(1)),
        tree_world(subject, PREFIX, tree_digits),
    ]


def headline(rows: list[dict[str, Any]], exact: dict[str, Any], memorized: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of the contract."""
    lean = [row for row in rows if row["setting_nodes_per_canary"] == LEAN.nodes_per_canary]
    default = [row for row in rows if row["setting_nodes_per_canary"] == DEFAULT.nodes_per_canary]
    (nine,) = [row for row in memorized if row["candidates"] == 10**N_DIGITS]
    return {
        "exact_rank_max": exact["exact_rank_max"],
        "nodes_per_canary": lean[0]["nodes_per_canary"],
        "error_bits_p90": lean[0]["error_bits_p90"],
        "interval_coverage": round(float(np.average([row["coverage"] for row in rows])), 4),
        "intervals": sum(row["intervals"] for row in rows),
        "paper_error_ratio_small_ranks": min(map(_paper_ratio, default)),
        "extraction_nodes": nine["extraction_nodes"],
        "extraction_calls": nine["extraction_calls"],
        "extraction_certified": nine["certified"] and nine["extracted"],
    }


def _paper_ratio(row: dict[str, Any]) -> float:
    """How many times larger the better of the paper's estimators errs on small ranks."""
    best: float = min(row["uniform_sampling_rmse_bits_small_ranks"], row["skew_normal_rmse_bits_small_ranks"])
    ours: float = max(row["rmse_bits_small_ranks"], 1e-3)
    return round(best / ours, 1)


def _estimations(trials: list[Trial], effort: Effort) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        estimation(trial, settings, effort.repeats, effort.fits, rng)
        for trial in trials
        for settings in (LEAN, DEFAULT)
    ]


def main() -> None:
    """Run all comparisons and print one JSON object."""
    arguments = read_arguments((__doc__ or "").splitlines()[0])
    effort = EFFORTS[arguments.effort]
    subject = load_subject(arguments.model)
    trials = [make_trial(world, effort.canaries) for world in worlds(subject, effort.tree_digits)]
    rows = _estimations(trials, effort)
    exact = [
        exact_counting(trials[0], nodes, effort.small_ranks, np.random.default_rng(2))
        for nodes in (RankSettings().exact_nodes, effort.many_nodes)
    ]
    memorized = memorized_secrets(subject)
    report = {
        "benchmark": "rank",
        "model": arguments.model.name,
        "effort": arguments.effort,
        "threads": torch.get_num_threads(),
        **headline(rows, exact[0], memorized),
        "estimation": rows,
        "exact_counting": exact,
        "memorized": memorized,
        "growth_with_canaries": many_canaries(subject, PREFIX, effort.counts, LEAN.nodes_per_canary),
        "big_budget_reference": against_big_budget(subject, PREFIX, effort.reference_canaries, LEAN.nodes_per_canary)
        if effort.reference_canaries
        else "full run only",
        "branch_and_bound_agrees": agreement(subject, PREFIX, effort.tree_digits, effort.agreement_canaries)
        if effort.agreement_canaries
        else "full run only",
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "scipy")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
