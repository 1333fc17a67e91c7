"""Estimators of a canary's rank at equal budgets, on worlds where every rank is known.

    python benchmarks/rank.py [--quick]

Each world is a table over all 10^6 six-digit secrets. Stochastic enumeration, uniform sampling and the skew-normal
extrapolation (Carlini et al. 2019, sections 4.3 and 4.4) each may ask the model about equally many prefixes for one
canary. Reported are the root-mean-square errors in bits, the bias and coverage of our intervals, and what it costs to
extract memorized secrets. The last line of the output is one JSON object.
"""

import argparse
import json
import math
from importlib.metadata import version
from typing import Any

import numpy as np

from canary_audit.models.interface import FloatArray
from canary_audit.models.table import TableModel, digit_tree
from canary_audit.spaces import parse_space
from canary_audit.tokens.canonical import CanonicalWalk
from canary_audit.vocabulary import ByteVocabulary

N_DIGITS = 6
SPACE_BITS = N_DIGITS * math.log2(10)
SPREADS = (1.0, 2.0)
"""Standard deviation of the logits of a world: mild and strong preferences among the digits."""
RANKS = (3, 30, 300, 5_000, 50_000, 500_000)
MEMORIZED = (b"281265", b"903117", b"555012")
SECRETS_PER_CALL = 25


def main() -> None:
    """Run all comparisons and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 50 if parser.parse_args().quick else 400
    walk = CanonicalWalk(parse_space(f"{{digit:{N_DIGITS}}}"), ByteVocabulary(), prefix="pin ")
    rows = [row for spread in SPREADS for row in _world(walk, spread, repeats)]
    report = {
        "benchmark": "rank",
        "space": 10**N_DIGITS,
        "repeats": repeats,
        "rows": rows,
        "least_coverage": min(row["coverage"] for row in rows),
        "extraction": _extraction(walk),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }
    print(json.dumps(report))


def _world(walk: CanonicalWalk, spread: float, repeats: int) -> list[dict[str, Any]]:
    """One row for each rank of a world."""
    rng = np.random.default_rng(int(10 * spread))
    model = digit_tree(N_DIGITS, rng, spread=spread)
    costs = enumerated_costs(model)
    order = np.argsort(costs)
    return [_row(walk, model, costs, int(order[rank - 1]), rank, repeats, rng) | {"spread": spread} for rank in RANKS]


def _row(
    walk: CanonicalWalk,
    model: TableModel,
    costs: FloatArray,
    canary: int,
    rank: int,
    repeats: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Ours and the paper's estimators on the canary with this rank, at the nodes that ours used."""
    reports = _repeated(walk, model, walk.space.secret(canary), repeats, rng)
    estimates = [report.estimates[0] for report in reports]
    nodes = float(np.mean([report.nodes for report in reports]))
    n_references = _affordable_references(nodes)
    ranks = np.array([estimate.rank for estimate in estimates])
    sampled, fitted = zip(
        *(_paper_bits(costs[canary], rng.choice(costs, n_references, replace=False)) for _ in range(repeats)),
        strict=True,
    )
    truth = SPACE_BITS - math.log2(rank)
    return {
        "rank": rank,
        "nodes_per_canary": round(nodes),
        "references_at_equal_nodes": n_references,
        "rmse_bits": round(_rmse(SPACE_BITS - np.log2(ranks), truth), 3),
        "uniform_sampling_rmse_bits": round(_rmse(np.array(sampled), truth), 3),
        "skew_normal_rmse_bits": round(_rmse(np.array(fitted), truth), 3),
        "relative_bias": round(float(ranks.mean() / rank - 1), 4),
        "coverage": round(float(np.mean([one.low <= rank <= one.high for one in estimates])), 3),
    }
