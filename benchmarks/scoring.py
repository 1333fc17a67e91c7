"""Prefix-sharing scoring against naive batch scoring of the same candidates, and against other libraries.

    python benchmarks/scoring.py [--quick] [--model FOLDER]

Candidates are 9-digit numbers. A billion cannot be enumerated, so the first digits are held fixed and the others
enumerated: every text is as long as in the whole space, and prompt and shared beginnings are read once, as there. The
naive side scores a part of the same candidates, in full sequences and batches of 64. All sides run in one process on
one thread, in turn, and agree on the costs they share. The last line of the output is one JSON object.
"""

import copy
import json
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from matmul import flops, peak_flops
from peers import BATCH, PEERS, Scorer, installed, naive_costs
from subject import MeteredModel, Subject, cpu_seconds, load_subject, read_arguments

from canary_audit.exposure.ranks import score_paths
from canary_audit.keep import KeepAll
from canary_audit.models.interface import FloatArray, LanguageModel
from canary_audit.models.transformer import TransformerModel
from canary_audit.search import search

DIGITS = "281265017"
"""Where the fixed digits come from."""
SHORT_PREFIX = "The random number is "
LONG_PREFIX = (
    "I keep a small notebook with all the codes that I need every day, and on the last page of it I wrote one "
    "more in pencil. The random number is "
)
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much of everything."""

    n_enumerated: int
    """Digits enumerated in the main comparison."""
    growth: tuple[int, ...]
    """Digits enumerated in the table of growth with the number of candidates."""
    n_naive: int
    n_naive_long: int
    n_peers: int
    rounds: int
    rounds_long: int


EFFORTS = {
    "full": Effort(
        n_enumerated=4, growth=(3, 4, 5), n_naive=256, n_naive_long=128, n_peers=128, rounds=3, rounds_long=3
    ),
    "quick": Effort(n_enumerated=4, growth=(3,), n_naive=64, n_naive_long=64, n_peers=64, rounds=2, rounds_long=1),
    "tiny": Effort(n_enumerated=2, growth=(1,), n_naive=16, n_naive_long=16, n_peers=0, rounds=1, rounds_long=1),
}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All 9-digit numbers that begin with given digits."""

    prefix: str
    n_enumerated: int

    @property
    def fixed_prefix(self) -> str:
        """The prefix with the fixed digits."""
        return self.prefix + DIGITS[: len(DIGITS) - self.n_enumerated]

    @property
    def format(self) -> str:
        """What is enumerated behind it."""
        return f"{{digit:{self.n_enumerated}}}"

    def endings(self, n_wanted: int) -> list[bytes]:
        """`n_wanted` endings, evenly spread."""
        n_endings = 10**self.n_enumerated
        return [b"%0*d" % (self.n_enumerated, i * n_endings // n_wanted) for i in range(min(n_wanted, n_endings))]

    def first(self, n_wanted: int) -> list[bytes]:
        """The first `n_wanted` endings in numeric order."""
        return [b"%0*d" % (self.n_enumerated, number) for number in range(n_wanted)]


def enumerated(subject: Subject, model: LanguageModel, candidates: Candidates) -> FloatArray:
    """Costs in nats of all endings, in numeric order: the search of an audit, tree construction included."""
    walk = subject.walk(candidates.format, candidates.fixed_prefix)
    result = search(walk, model, thresholds_nats=np.array([np.inf]), keep=KeepAll())
    return result.leaves.costs_nats


def drawn(subject: Subject, model: LanguageModel, secrets: list[bytes]) -> FloatArray:
    """Costs in nats of chosen secrets of the whole space, which share little but the prompt."""
    walk = subject.walk(f"{{digit:{len(DIGITS)}}}", SHORT_PREFIX)
    return score_paths(walk, model, [walk.path(secret) for secret in secrets])


def timed(work: Callable[[], FloatArray]) -> tuple[float, FloatArray]:
    """Seconds and result."""
    begun = cpu_seconds()
    result = work()
    return cpu_seconds() - begun, result


def compare(subject: Subject, candidates: Candidates, n_naive: int, rounds: int) -> dict[str, Any]:
    """Enumerate and score naively, in turn; medians over the rounds of what a candidate costs."""
    meter = MeteredModel(subject.language_model)
    endings = candidates.endings(n_naive)
    places = [int(ending) for ending in endings]
    naive_seconds, our_seconds, outside, gflops, peaks = [], [], [], [], []
    for _ in range(rounds):
        peaks.append(peak_flops(subject.network))
        seconds, reference = timed(lambda: naive_costs(subject, candidates.fixed_prefix, endings))
        naive_seconds.append(seconds / len(endings))
        meter.reset()
        seconds, costs = timed(lambda: enumerated(subject, meter, candidates))
        our_seconds.append(seconds / len(costs))
        outside.append(1.0 - meter.seconds / seconds)
        gflops.append(flops(subject.network, meter) / seconds)
    return {
        "prefix_tokens": len(subject.vocabulary.encode(candidates.prefix.encode())),
        "enumerated_digits": candidates.n_enumerated,
        "candidates": len(costs),
        "naive_candidates": len(endings),
        "prefixes_read": meter.prefixes,
        "speedup": _ratio(naive_seconds, our_seconds),
        "naive_ms_per_candidate": round(1e3 * statistics.median(naive_seconds), 3),
        "ms_per_candidate": round(1e3 * statistics.median(our_seconds), 4),
        "bookkeeping_share": round(statistics.median(outside), 3),
        "peak_fraction": round(statistics.median(gflops) / max(peaks), 3),
        "peak_gflops": round(max(peaks) / 1e9, 1),
        "max_difference_nats": float(np.abs(costs[places] - reference).max()),
        "rounds": rounds,
    }


def growth(subject: Subject, digits: tuple[int, ...]) -> list[dict[str, Any]]:
    """What a candidate costs as the number of candidates grows."""
    meter = MeteredModel(subject.language_model)
    rows = []
    for n_enumerated in digits:
        meter.reset()
        candidates = Candidates(prefix=SHORT_PREFIX, n_enumerated=n_enumerated)
        seconds, costs = timed(partial(enumerated, subject, meter, candidates))
        rows.append(
            {
                "candidates": len(costs),
                "prefixes_read": meter.prefixes,
                "ms_per_candidate": round(1e3 * seconds / len(costs), 4),
            }
        )
    return rows


def half_precision(subject: Subject, n_enumerated: int) -> dict[str, Any]:
    """bf16 weights beside fp32: speed, and how far costs move."""
    candidates = Candidates(prefix=SHORT_PREFIX, n_enumerated=n_enumerated)
    seconds, costs = timed(lambda: enumerated(subject, subject.language_model, candidates))
    half = TransformerModel(copy.deepcopy(subject.network).to(torch.bfloat16))
    half_seconds, half_costs = timed(lambda: enumerated(subject, half, candidates))
    moved = np.abs(half_costs - costs)
    return {
        "candidates": len(costs),
        "speedup_over_fp32": round(seconds / half_seconds, 2),
        "mean_difference_nats": round(float(moved.mean()), 4),
        "max_difference_nats": round(float(moved.max()), 4),
    }


def random_secrets(subject: Subject, n_secrets: int) -> dict[str, Any]:
    """Random secrets of the whole space, as the paper's estimators need them: little is shared."""
    rng = random.Random(SEED)  # noqa: S311 - candidates are no secrets
    secrets = [b"%09d" % rng.randrange(10**9) for _ in range(n_secrets)]
    meter = MeteredModel(subject.language_model)
    seconds, reference = timed(lambda: naive_costs(subject, SHORT_PREFIX, secrets))
    our_seconds, costs = timed(lambda: drawn(subject, meter, secrets))
    return {
        "candidates": n_secrets,
        "prefixes_read": meter.prefixes,
        "speedup": _ratio([seconds], [our_seconds]),
        "max_difference_nats": float(np.abs(costs - reference).max()),
    }


def peers(subject: Subject, main_row: dict[str, Any], n_candidates: int) -> dict[str, Any]:
    """Other libraries on candidates of the main comparison: in their order, siblings together, and scattered."""
    candidates = Candidates(prefix=SHORT_PREFIX, n_enumerated=main_row["enumerated_digits"])
    orders = {"scattered": candidates.endings(n_candidates), "siblings_together": candidates.first(n_candidates)}
    return {
        name: {"version": version(name.replace("_", "-"))}
        | {order: _peer(subject, scorer, candidates, endings, main_row) for order, endings in orders.items()}
        if installed(name)
        else "not installed"
        for name, scorer in PEERS.items()
    }


def _peer(
    subject: Subject, scorer: Scorer, candidates: Candidates, endings: list[bytes], main_row: dict[str, Any]
) -> dict[str, float]:
    seconds, costs = timed(lambda: scorer(subject, candidates.fixed_prefix, endings))
    some = slice(0, BATCH // 4)
    reference = naive_costs(subject, candidates.fixed_prefix, endings[some])
    milliseconds = 1e3 * seconds / len(endings)
    return {
        "speedup_over_naive": round(main_row["naive_ms_per_candidate"] / milliseconds, 1),
        "ours_over_it": round(milliseconds / main_row["ms_per_candidate"], 1),
        "max_difference_nats": float(np.abs(costs[some] - reference).max()),
    }


def _ratio(naive_seconds: list[float], our_seconds: list[float]) -> float:
    """Median over the rounds of what we are faster by."""
    return round(statistics.median(naive / ours for naive, ours in zip(naive_seconds, our_seconds, strict=True)), 1)


def main() -> None:
    """Run all comparisons and print one JSON object."""
    arguments = read_arguments((__doc__ or "").splitlines()[0])
    effort = EFFORTS[arguments.effort]
    subject = load_subject(arguments.model)
    warm = Candidates(prefix=SHORT_PREFIX, n_enumerated=2)
    compare(subject, warm, 8, 1)
    short, long = (
        Candidates(prefix=prefix, n_enumerated=effort.n_enumerated) for prefix in (SHORT_PREFIX, LONG_PREFIX)
    )
    main_row = compare(subject, short, effort.n_naive, effort.rounds)
    long_row = compare(subject, long, effort.n_naive_long, effort.rounds_long)
    report = {
        "benchmark": "scoring",
        "model": arguments.model.name,
        "effort": arguments.effort,
        "threads": torch.get_num_threads(),
        "naive_batch": BATCH,
        "speedup_over_naive": main_row["speedup"],
        "speedup_over_naive_long_prefix": long_row["speedup"],
        "matmul_peak_fraction": main_row["peak_fraction"],
        "bookkeeping_share": main_row["bookkeeping_share"],
        "max_difference_nats": max(row["max_difference_nats"] for row in (main_row, long_row)),
        "prefixes": [main_row, long_row],
        "growth": growth(subject, effort.growth),
        "bf16": half_precision(subject, effort.growth[0]),
        "random_9_digit_secrets": random_secrets(subject, effort.n_naive_long),
        "peers": peers(subject, main_row, effort.n_peers) if effort.n_peers else {},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
