"""Estimators of a canary's rank at equal budgets, on worlds where every rank is known.

    python benchmarks/rank.py [--quick]

Each world is a table over all 10^6 six-digit secrets. Stochastic enumeration, uniform sampling and the skew-normal
extrapolation (Carlini et al. 2019, sections 4.3 and 4.4) may each ask the model about equally many prefixes for one
canary. Reported are root-mean-square errors in bits, the bias and coverage of our estimates, and what it costs to
extract memorized secrets. The last line of the output is one JSON object.
"""

import argparse
import json
import math
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy import stats

from canary_audit.exposure.ranks import RankSettings, measure_ranks
from canary_audit.extraction import extract
from canary_audit.models.interface import FloatArray
from canary_audit.models.table import TableModel, digit_costs, digit_tree, memorizing
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

N_DIGITS = 6
SPACE_BITS = N_DIGITS * math.log2(10)
SPREADS = (1.0, 2.0)
"""Standard deviation of the logits of a world: mild and strong preferences among the digits."""
RANKS = (3, 30, 300, 5_000, 50_000, 500_000)
BUDGETS = (300, 1_200)
MEMORIZED = (b"281265", b"903117", b"555012")
N_ALONE = 10
"""Calls from which the nodes of one canary alone are taken; together, canaries share nodes and look cheaper."""


def main() -> None:
    """Run all comparisons and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = parser.parse_args().quick
    repeats, fits = (100, 4) if quick else (1_000, 40)
    walk = CanonicalWalk(parse_space(f"{{digit:{N_DIGITS}}}"), ByteVocabulary(), prefix="pin ")
    rows = [row for spread in SPREADS for row in _world(walk, spread, repeats, fits)]
    report = {
        "benchmark": "rank",
        "space": 10**N_DIGITS,
        "repeats": repeats,
        "fits": fits,
        "rows": rows,
        "least_coverage_by_budget": {
            budget: min(row["coverage"] for row in rows if row["budget"] == budget) for budget in BUDGETS
        },
        "extraction": _extraction(walk),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }
    print(json.dumps(report))


def _world(walk: CanonicalWalk, spread: float, repeats: int, fits: int) -> list[dict[str, Any]]:
    """One row for each budget and rank of a world."""
    rng = np.random.default_rng(int(10 * spread))
    model = digit_tree(N_DIGITS, rng, spread=spread)
    costs = digit_costs(model, N_DIGITS)
    order = np.argsort(costs)
    rows = []
    for budget in BUDGETS:
        settings = RankSettings(exact_nodes=0, nodes_per_canary=budget)
        for rank in RANKS:
            canary = int(order[rank - 1])
            ours = _ours(walk, model, canary, rank, settings, repeats, rng)
            papers = _papers(costs, canary, rank, ours["nodes_per_canary"], repeats, fits, rng)
            rows.append({"spread": spread, "budget": budget, "rank": rank, **ours, **papers})
    return rows


def _ours(
    walk: CanonicalWalk,
    model: TableModel,
    canary: int,
    rank: int,
    settings: RankSettings,
    repeats: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Stochastic enumeration: independent estimates of one canary's rank."""
    secret = walk.space.secret(canary)
    alone = [measure_ranks(walk, model, [secret], settings=settings, rng=rng).nodes for _ in range(N_ALONE)]
    estimates = measure_ranks(walk, model, [secret] * repeats, settings=settings, rng=rng).estimates
    ranks = np.array([estimate.rank for estimate in estimates])
    return {
        "nodes_per_canary": round(float(np.mean(alone))),
        "rmse_bits": _rmse_bits(np.log2(ranks), rank),
        "relative_bias": round(float(ranks.mean() / rank - 1.0), 4),
        "coverage": round(float(np.mean([one.low <= rank <= one.high for one in estimates])), 3),
    }


def _papers(
    costs: FloatArray, canary: int, rank: int, nodes: int, repeats: int, fits: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The paper's two estimators, from as many random references as the same nodes can score."""
    n_references = _affordable_references(nodes)
    n_cheaper = rng.hypergeometric(rank, len(costs) - rank, n_references, repeats)
    samples = [rng.choice(costs, n_references, replace=False, shuffle=False) for _ in range(fits)]
    fitted = [-stats.skewnorm.logcdf(costs[canary], *stats.skewnorm.fit(sample)) / math.log(2.0) for sample in samples]
    return {
        "references_at_equal_nodes": n_references,
        "uniform_sampling_rmse_bits": _rmse_bits(SPACE_BITS + np.log2((1 + n_cheaper) / (1 + n_references)), rank),
        "skew_normal_rmse_bits": _rmse_bits(SPACE_BITS - np.clip(fitted, 0.0, SPACE_BITS), rank),
    }


def _affordable_references(nodes: int) -> int:
    """Most random secrets whose shared beginnings are at most `nodes` prefixes, as expected over the draw."""
    per_level = 10.0 ** np.arange(1, N_DIGITS)

    def expected_nodes(n_references: int) -> float:
        return 1.0 + float((per_level * (1.0 - (1.0 - 1.0 / per_level) ** n_references)).sum())

    n_references = 2  # the fewest a distribution can be fitted to
    while expected_nodes(n_references + 1) <= nodes:
        n_references += 1
    return n_references


def _rmse_bits(log2_ranks: FloatArray, rank: int) -> float:
    """Root-mean-square error of log2 rank, and so of exposure."""
    return round(float(np.sqrt(np.mean((log2_ranks - math.log2(rank)) ** 2))), 3)


def _extraction(walk: CanonicalWalk) -> dict[str, Any]:
    """What it takes to extract secrets that each got 30 % of the probability left at each of their digits."""
    model = digit_tree(N_DIGITS, np.random.default_rng(0), spread=0.3)
    for secret in MEMORIZED:
        model = memorizing(model, secret, share=0.3)
    report = extract(walk, model, len(MEMORIZED), max_width=512)
    return {
        "secrets": len(MEMORIZED),
        "found": sum(item.secret in MEMORIZED for item in report.secrets),
        "certified": sum(item.certified for item in report.secrets),
        "nodes": report.nodes,
        "calls": report.calls,
        "candidates": 10**N_DIGITS,
    }


if __name__ == "__main__":
    main()
