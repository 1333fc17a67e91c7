"""What extraction and ranks cost on the language model itself, and how well they agree with other ways to know."""

import math
import random
from typing import Any

import numpy as np
from digit_worlds import tree_world
from memorizer import MEMORIZED, memorizing_copy
from subject import MeteredModel, Subject, cpu_seconds

from canary_audit.exposure.ranks import RankSettings, measure_ranks
from canary_audit.extraction import extract

_WIDTH = 512
_SEED = 3


def memorized_secrets(subject: Subject) -> list[dict[str, Any]]:
    """Extraction and rank of memorized numbers of 6, 9 and 12 digits: growth with the size of the space."""
    memorizing = memorizing_copy(subject)
    rng = np.random.default_rng(_SEED)
    rows = []
    for n_digits, (prefix, secret) in MEMORIZED.items():
        walk = memorizing.walk(f"{{digit:{n_digits}}}", prefix)
        found = extract(walk, memorizing.language_model, 1, max_width=_WIDTH)
        report = measure_ranks(walk, memorizing.language_model, [secret], settings=RankSettings(), rng=rng)
        best, estimate = found.secrets[0], report.estimates[0]
        rows.append(
            {
                "candidates": 10**n_digits,
                "nll_nats": round(estimate.nll_nats, 4),
                "extracted": best.secret == secret,
                "certified": best.certified,
                "extraction_nodes": found.nodes,
                "extraction_calls": found.calls,
                "rank": estimate.rank,
                "rank_is_exact": estimate.exact,
                "rank_nodes": report.nodes,
            }
        )
    return rows


def many_canaries(
    subject: Subject, prefix: str, counts: tuple[int, ...], nodes_per_canary: int
) -> list[dict[str, Any]]:
    """What a canary costs as more of one format are measured together."""
    rng = random.Random(_SEED)  # noqa: S311 - these secrets are nobody's
    walk = subject.walk("{digit:9}", prefix)
    meter = MeteredModel(subject.language_model)
    settings = RankSettings(exact_nodes=0, nodes_per_canary=nodes_per_canary)
    rows = []
    for n_canaries in counts:
        meter.reset()
        begun = cpu_seconds()
        secrets = walk.space.draw(n_canaries, rng)
        measure_ranks(walk, meter, secrets, settings=settings, rng=np.random.default_rng(_SEED))
        seconds = cpu_seconds() - begun
        rows.append(
            {
                "canaries": n_canaries,
                "nodes_per_canary": round(meter.prefixes / n_canaries),
                "calls": meter.calls,
                "seconds_per_canary": round(seconds / n_canaries, 2),
                "bookkeeping_share": round(1.0 - meter.seconds / seconds, 3),
            }
        )
    return rows


def against_big_budget(subject: Subject, prefix: str, n_canaries: int, nodes_per_canary: int) -> dict[str, Any]:
    """Estimates of one canary each against a hundred times the setting, which is fewer nodes: prefixes are shared."""
    walk = subject.walk("{digit:9}", prefix)
    secrets = [_sampled(subject, prefix, np.random.default_rng(seed)) for seed in range(n_canaries)]
    rng = np.random.default_rng(_SEED)
    rows = []
    for secret in secrets:
        lean, rich = (
            measure_ranks(
                walk,
                subject.language_model,
                [secret],
                settings=RankSettings(exact_nodes=0, nodes_per_canary=nodes),
                rng=rng,
            )
            for nodes in (nodes_per_canary, 100 * nodes_per_canary)
        )
        one, reference = lean.estimates[0], rich.estimates[0]
        rows.append(
            {
                "reference_rank": round(reference.rank),
                "reference_interval_bits": round(math.log2(reference.high / reference.low), 3),
                "error_bits": round(abs(math.log2(one.rank / reference.rank)), 3),
                "intervals_overlap": one.low <= reference.high and reference.low <= one.high,
                "nodes": lean.nodes,
                "reference_nodes": rich.nodes,
            }
        )
    return {"canaries": rows, "largest_error_bits": max(row["error_bits"] for row in rows)}


def _sampled(subject: Subject, prefix: str, rng: np.random.Generator) -> bytes:
    """A number whose first three digits are drawn as the model would: likelier than a random one."""
    world = tree_world(subject, prefix, 3)
    numbers = np.arange(world.size)
    chances = np.exp(-world.costs_nats(numbers))
    head = int(rng.choice(numbers, p=chances / chances.sum()))
    return b"%03d%06d" % (head, int(rng.integers(10**6)))


def agreement(subject: Subject, prefix: str, n_digits: int, n_canaries: int) -> dict[str, Any]:
    """Ranks by branch and bound on the model against ranks in the full enumeration that recorded the world."""
    world = tree_world(subject, prefix, n_digits)
    rng = random.Random(_SEED)  # noqa: S311 - these secrets are nobody's
    walk = subject.walk(f"{{digit:{n_digits}}}", prefix)
    secrets = walk.space.draw(n_canaries, rng)
    settings = RankSettings(exact_nodes=10**n_digits)
    report = measure_ranks(walk, subject.language_model, secrets, settings=settings, rng=np.random.default_rng(_SEED))
    costs = np.sort(world.beginnings(0, n_digits)[0])
    numbers = np.array([int(secret) for secret in secrets])
    own = world.beginnings(0, n_digits)[0][numbers]
    ranks = np.searchsorted(costs, own, side="right").tolist()
    return {
        "canaries": n_canaries,
        "counted_exactly": sum(one.exact for one in report.estimates),
        "equal_ranks": sum(int(one.rank) == rank for one, rank in zip(report.estimates, ranks, strict=True)),
        "within_noise_floor": sum(
            one.low <= rank <= one.high for one, rank in zip(report.estimates, ranks, strict=True)
        ),
        "noise_floor_nats": report.noise_floor_nats,
    }
