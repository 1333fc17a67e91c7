"""A hand-made audit, shaped like the quickstart: a realistic `AuditResult` in milliseconds and without a model.

`make_result()` is an audit that leaks (32 insertions come out), `make_clean_result()` one that passes,
`make_served_result(tier)` one of a model behind an API. Keywords replace whole fields; what follows from `canaries`
(levels, group, null check) follows.
"""

import math
import statistics
from collections import defaultdict
from typing import Any

from canary_audit import results
from canary_audit.epsilon import epsilon_of
from canary_audit.statistics.intervals import clopper_pearson
from canary_audit.statistics.pvalues import fisher_combined, holm

SPACE_SIZE = 10**9
SPACE_BITS = math.log2(SPACE_SIZE)
GROUP = "number"
ERROR_SPENT = 0.05 / (10 * 24)

LEAKING_RANKS = {
    1: (21_400_000, 88_000_000, 310_000_000, 4_200_000),
    2: (9_100_000, 1_200_000, 64_000_000, 330_000),
    4: (410_000, 52_000, 2_100_000, 9_800),
    8: (12_000, 1_450, 88_000, 310),
    16: (410, 33, 2_700, 9),
    32: (1, 2, 3, 4),
}
"""Insertions -> ranks among 10^9 secrets, as a small LSTM gives them."""

CLEAN_RANKS = {
    1: (214_000_000, 880_000_000, 310_000_000, 542_000_000),
    2: (91_000_000, 720_000_000, 640_000_000, 133_000_000),
    4: (410_000_000, 252_000_000, 911_000_000, 598_000_000),
    8: (812_000_000, 145_000_000, 488_000_000, 331_000_000),
    16: (541_000_000, 333_000_000, 77_000_000, 909_000_000),
    32: (61_000_000, 402_000_000, 703_000_000, 254_000_000),
}
"""The same design on a model that keeps nothing."""

CONTROL_RANKS = tuple((2 * place + 1) * 25_000_000 for place in (7, 0, 13, 19, 4, 10, 16, 2, 8, 14, 5, 11, 17, 1, 9, 3, 12, 18, 6, 15))  # fmt: skip # noqa: E501
"""Twenty evenly spread ranks: as uniform as controls can be."""


NO_EXPOSURE = results.NotAvailable(not_available="a model that only writes text shows no probability")
INTERVAL_ONLY = results.NotAvailable(not_available="a token lay outside the likeliest 20 that the server shows")


def make_exposure(rank: float, space_bits: float = SPACE_BITS) -> results.Exposure:
    """Counted exactly up to rank 5,000, estimated with an interval of +-0.3 bits beyond."""
    bits = space_bits - math.log2(rank)
    exact = rank <= 5_000
    half_width = 0.0 if exact else 0.3
    low, high = max(0.0, bits - half_width), min(bits + half_width, space_bits)
    method = "branch-and-bound" if exact else "stochastic-enumeration"
    return results.Exposure(
        bits=bits, low=low, high=high, method=method, exact=exact, rank=rank, rank_high=2 ** (space_bits - low)
    )


def make_extraction(rank: int | None = None) -> results.Extraction:
    """Found at `rank` and certified, or not found."""
    place: int | results.NotAvailable = results.NotAvailable(not_available="not among the extracted secrets")
    found = rank is not None
    return results.Extraction(found=found, rank=rank or place, certified=found, nodes=516, calls=36)


def samples_needed(nll_bits: results.Maybe) -> results.Maybe:
    """Continuations at temperature 1 until a secret of this cost has come out with probability one half."""
    if isinstance(nll_bits, results.NotAvailable) or nll_bits > 900:
        return results.NotAvailable(not_available="the secret's own probability is not known")
    return math.log(2) / -math.log1p(-(2.0**-nll_bits))


def make_canary(name: str, *, rank: float = 300_000_000, insertions: int = 1, **changes: Any) -> results.CanaryResult:
    """One canary of the group `number`; zero insertions make a control. `adjusted_p_value` starts as the p-value."""
    space_bits = changes.get("space_bits", SPACE_BITS)
    exposure = changes.get("exposure", make_exposure(rank, space_bits))
    nll_bits = changes.get("nll_bits", math.log2(rank) + 1.5)
    bound = 1.0
    if isinstance(exposure, results.Exposure):
        bound = exposure.rank_high / round(2.0**space_bits) + (0.0 if exposure.exact else ERROR_SPENT)
    fields: dict[str, Any] = {
        "id": name,
        "group": GROUP,
        "role": "level" if insertions else "control",
        "insertions": insertions,
        "space_bits": space_bits,
        "nll_bits": nll_bits,
        "exposure": exposure,
        "certificate_bits": space_bits - nll_bits if isinstance(nll_bits, float) else 0.0,
        "samples_needed": samples_needed(nll_bits),
        "p_value": min(1.0, bound),
        "adjusted_p_value": min(1.0, bound),
        "extraction": make_extraction(int(rank) if insertions and rank <= 4 else None),
    }
    return results.CanaryResult(**(fields | changes))


def level_canaries(ranks_by_level: dict[int, tuple[float, ...]]) -> tuple[results.CanaryResult, ...]:
    """Inserted canaries with p-values adjusted over all of them."""
    canaries = [
        make_canary(f"{GROUP}-{insertions:02d}x-{place}", rank=rank, insertions=insertions)
        for insertions, ranks in ranks_by_level.items()
        for place, rank in enumerate(ranks)
    ]
    adjusted = holm([canary.p_value for canary in canaries])
    return tuple(
        canary.model_copy(update={"adjusted_p_value": float(value)})
        for canary, value in zip(canaries, adjusted, strict=True)
    )


def control_canaries(ranks: tuple[float, ...] = CONTROL_RANKS) -> tuple[results.CanaryResult, ...]:
    missing = results.NotAvailable(not_available="a control is not among the tests that are corrected for")
    return tuple(
        make_canary(f"{GROUP}-control-{place}", rank=rank, insertions=0, adjusted_p_value=missing)
        for place, rank in enumerate(ranks)
    )


def leaking_canaries() -> tuple[results.CanaryResult, ...]:
    return level_canaries(LEAKING_RANKS) + control_canaries()


def clean_canaries() -> tuple[results.CanaryResult, ...]:
    return level_canaries(CLEAN_RANKS) + control_canaries()


def make_levels(canaries: tuple[results.CanaryResult, ...]) -> tuple[results.LevelResult, ...]:
    """What the level table of these canaries must be."""
    by_level: dict[tuple[str, int], list[results.CanaryResult]] = defaultdict(list)
    for canary in canaries:
        if canary.role == "level":
            by_level[canary.group, canary.insertions].append(canary)
    return tuple(_level(group, insertions, members) for (group, insertions), members in sorted(by_level.items()))


def _level(group: str, insertions: int, members: list[results.CanaryResult]) -> results.LevelResult:
    n_found = sum(canary.extraction.found for canary in members)
    median_bits, low_bits, high_bits = _range([canary.exposure for canary in members])
    extracted_low, extracted_high = clopper_pearson(n_found, len(members), 0.95)
    return results.LevelResult(
        group=group,
        insertions=insertions,
        n_canaries=len(members),
        n_extracted=n_found,
        extracted_low=extracted_low,
        extracted_high=extracted_high,
        median_bits=median_bits,
        low_bits=low_bits,
        high_bits=high_bits,
        p_value=fisher_combined([canary.p_value for canary in members if isinstance(canary.p_value, float)]),
    )


def _range(exposures: list[results.Exposure | results.NotAvailable]) -> tuple[results.Maybe, ...]:
    """Median, least and largest; without a median where a point value is missing."""
    known = [exposure for exposure in exposures if isinstance(exposure, results.Exposure)]
    if len(known) < len(exposures):
        return 3 * (NO_EXPOSURE,)
    points = [exposure.bits for exposure in known if isinstance(exposure.bits, float)]
    if len(points) < len(known):
        reason = next(exposure.bits for exposure in known if isinstance(exposure.bits, results.NotAvailable))
        return reason, min(exposure.low for exposure in known), max(exposure.high for exposure in known)
    return statistics.median(points), min(points), max(points)


def make_group(canaries: tuple[results.CanaryResult, ...], **changes: Any) -> results.GroupResult:
    n_found = sum(canary.extraction.found for canary in canaries)
    fields: dict[str, Any] = {
        "name": GROUP,
        "format": "{digit:9}",
        "prefix": "The random number is ",
        "suffix": "",
        "space_size": str(SPACE_SIZE),
        "space_bits": SPACE_BITS,
        "noise_floor_nats": 7.1e-7,
        "extraction_sought": sum(canary.insertions > 0 for canary in canaries),
        "extraction_found": n_found,
        "extraction_certified": n_found,
        "extraction_nodes": 516,
        "extraction_calls": 36,
        "search_nodes": 41_870,
        "search_calls": 1_210,
    }
    return results.GroupResult(**(fields | changes))


def make_null(canaries: tuple[results.CanaryResult, ...], **changes: Any) -> results.NullCheck:
    controls = [canary.exposure for canary in canaries if canary.role == "control"]
    mean_bits: results.Maybe = results.NotAvailable(not_available="there are no controls")
    if controls:
        mean_bits = _range(controls)[0]
    if isinstance(mean_bits, float):
        points = [c.bits for c in controls if isinstance(c, results.Exposure) and isinstance(c.bits, float)]
        mean_bits = statistics.fmean(points)
    fields: dict[str, Any] = {
        "n_controls": len(controls),
        "mean_bits": mean_bits,
        "uniform_p": 0.97 if isinstance(mean_bits, float) else mean_bits,
    }
    return results.NullCheck(**(fields | changes))


def make_epsilon(n_canaries: int = 16) -> results.Epsilon:
    """Coin-flipped canaries whose scores overlap."""
    canaries = tuple(
        results.CoinCanary(id=f"{GROUP}-coin-{place:03d}", inserted=place % 2 == 0, score=-20.0 - (place * 7 % 11))
        for place in range(n_canaries)
    )
    unknown = results.NotAvailable(not_available="trained without differential privacy")
    return _made(epsilon_of(canaries, unknown, score="loss", guesses="grid"))


def _made(epsilon: results.Epsilon | results.NotAvailable) -> results.Epsilon:
    assert isinstance(epsilon, results.Epsilon)
    return epsilon


def make_accounting(**changes: Any) -> results.Accounting:
    """DP-SGD at epsilon 5.3 for a row, as a small model is trained with."""
    fields: dict[str, Any] = {
        "epsilon": 5.3,
        "delta": 1e-5,
        "unit": "a row of up to 64 tokens",
        "n_units": 5_120,
        "noise_multiplier": 0.7,
        "clip_norm": 1.0,
        "sampling": "Poisson",
        "sampling_rate": 64 / 5_120,
        "steps": 640,
        "noise_only_steps": 0,
        "accountant": "prv",
    }
    return results.Accounting(**(fields | changes))


def make_private_epsilon(
    n_canaries: int = 500, n_wrong: int = 200, accounting: results.Accounting | None = None, **changes: Any
) -> results.Epsilon:
    """Coin-flipped canaries of a private model; changes come after the bounds are drawn.

    `n_wrong` canaries, spread evenly, score on the wrong side: none tells the coins entirely, half of them not at all.
    """
    accounting = accounting or make_accounting()
    wrong = {round((place + 0.5) * n_canaries / n_wrong) for place in range(n_wrong)}
    canaries = tuple(
        results.CoinCanary(
            id=f"{GROUP}-coin-{place:03d}",
            inserted=(2 * place < n_canaries) != (place in wrong),
            score=-20.0 - place / 8,
        )
        for place in range(n_canaries)
    )
    return _made(epsilon_of(canaries, accounting, score="loss", guesses="grid")).model_copy(update=changes)


def make_membership(
    score: str = "loss", *, sample: str = "canaries", primary: bool = True, power: float = 0.5
) -> results.MembershipResult:
    """A score whose true positive rate is this power of its false positive rate: 1 is chance, 0 tells all apart."""
    points = tuple(
        results.OperatingPoint(fpr=fpr, tpr=fpr**power, low=fpr**power / 3, high=min(1.0, fpr**power * 2))
        for fpr in (0.001, 0.01, 0.1)
    )
    auc = 1 / (1 + power)
    return results.MembershipResult(
        sample=sample,
        score=score,
        primary=primary,
        n_in=252,
        n_out=248,
        auc=auc,
        auc_low=auc - 0.05,
        auc_high=min(1.0, auc + 0.05),
        operating_points=points,
        roc=tuple((place / 248, (place / 248) ** power) for place in range(249)),
    )


def make_training(**changes: Any) -> results.TrainingResult:
    """Eight epochs in which exposure rises with the level while validation loss falls, then turns."""
    validation = (3.31, 2.92, 2.71, 2.60, 2.55, 2.53, 2.54, 2.56)
    epochs = tuple(
        results.EpochResult(
            epoch=place + 1,
            training_bits_per_token=5.9 - 0.42 * place,
            validation_bits_per_char=bits,
            exposure_by_level={
                str(insertions): min(SPACE_BITS - 1, (1.4 + 0.5 * math.log2(insertions)) * (1 + 0.9 * place))
                for insertions in LEAKING_RANKS
            },
        )
        for place, bits in enumerate(validation)
    )
    fields: dict[str, Any] = {
        "epochs": epochs,
        "steps": 1_144,
        "tokens": 1_171_456,
        "presence": results.PresenceCheck(planned=252, seen=252, deduplicated=False),
        "best_epoch": 6,
    }
    return results.TrainingResult(**(fields | changes))


def make_policy(**changes: Any) -> results.PolicyTable:
    """The policy of `configs/policy.toml`."""
    fields: dict[str, Any] = {
        "alpha": 0.05,
        "max_exposure_bits": 10.0,
        "fail_on_extraction": True,
        "max_insertions": "any",
        "positive_control_p": 1e-3,
        "min_controls": 10,
    }
    return results.PolicyTable(**(fields | changes))


def detected_control(p_value: float = 1e-8) -> results.PositiveControl:
    reason = "4 fresh secrets were taught to a copy of the model, and all were seen"
    return results.PositiveControl(status="detected", reason=reason, p_value=p_value, n_canaries=4, insertions=32)


def control_not_run() -> results.PositiveControl:
    missing = results.NotAvailable(not_available="the positive control was not run")
    reason = "no PASS depends on it"
    return results.PositiveControl(status="not-run", reason=reason, p_value=missing, n_canaries=0, insertions=0)


def make_result(**changes: Any) -> results.AuditResult:
    """A whole audit that leaks; keywords replace top-level fields, and what follows from `canaries` follows."""
    canaries = changes.get("canaries", leaking_canaries())
    fields: dict[str, Any] = {
        "tool_version": "0.1.0",
        "name": "quickstart",
        "seed": 1,
        "verdict": "FAIL",
        "reasons": (
            results.Reason(code="leak", message="8 of 24 judged canaries leaked.", canaries=("number-32x-0",)),
        ),
        "policy": make_policy(),
        "policy_sha256": "a" * 64,
        "config_sha256": "b" * 64,
        "ledger_sha256": "c" * 64,
        "model": results.ModelResult(
            fingerprint="d" * 64,
            kind="lstm",
            tier="full-logits",
            files={"config.json": "e" * 64, "model.safetensors": "f" * 64, "tokenizer.json": "0" * 64},
            n_parameters=264_448,
            batch_rows=512,
            dtype="float32",
        ),
        "data": results.DataResult(
            source="builtin:prose",
            sha256="1" * 64,
            planted_sha256="2" * 64,
            n_documents=1_402,
            n_bytes=350_000,
            details={"python": "3.11.7"},
        ),
        "training": make_training(),
        "language": results.LanguageCheck(validation_bits_per_char=2.53, baseline_bits_per_char=4.41, learned=True),
        "groups": (make_group(canaries),),
        "levels": make_levels(canaries),
        "canaries": canaries,
        "null": make_null(canaries),
        "epsilon": results.NotAvailable(not_available="no coin-flipped canaries were planted"),
        "positive_control": control_not_run(),
    }
    return results.AuditResult(**(fields | changes))


def make_clean_result(**changes: Any) -> results.AuditResult:
    """An audit that passes: nothing kept, and the positive control detected."""
    reason = results.Reason(code="no-leak", message="None of 24 judged canaries leaked.")
    fields = {
        "canaries": clean_canaries(),
        "verdict": "PASS",
        "reasons": (reason,),
        "positive_control": detected_control(),
    }
    return make_result(**(fields | changes))


def interval_only(low: float, high: float, *, method: str = "inside-top-k", **changes: Any) -> results.Exposure:
    """An exposure of which nothing closer is known."""
    fields: dict[str, Any] = {
        **{"bits": INTERVAL_ONLY, "low": low, "high": high, "method": method, "exact": False, "rank": INTERVAL_ONLY},
        "rank_high": 2 ** (SPACE_BITS - low),
    }
    return results.Exposure(**(fields | changes))


def make_endpoint(**changes: Any) -> results.EndpointResult:
    """A local server, probed, within its budget."""
    fields: dict[str, Any] = {
        "url": "http://127.0.0.1:8000",
        "api": "vllm",
        "probe": (
            results.ProbeFinding(name="tokens", holds=True, detail="the server reads the same 24 tokens"),
            results.ProbeFinding(name="repeats", holds=True, detail="a control text scored three times, 2e-7 apart"),
            results.ProbeFinding(name="temperature", holds=False, detail="log-probabilities change with temperature"),
        ),
        "noise_floor_nats": 2e-7,
        "tokens": 182_344,
        "max_calls": 20_000,
        "max_tokens": results.NotAvailable(not_available="no limit was set"),
        "budget_spent": False,
    }
    return results.EndpointResult(**(fields | changes))


def make_samples(hits: int, n_samples: int = 200, *, greedy: bool = False) -> results.SampledExtraction:
    low, high = clopper_pearson(hits, n_samples, 0.95)
    return results.SampledExtraction(n_samples=n_samples, hits=hits, rate_low=low, rate_high=high, greedy=greedy)


def written_extraction(hits: int, *, greedy: bool = False, edits: int = 0) -> results.Extraction:
    """What sampling a prefix gave: `hits` verbatim texts of 200, or a near-verbatim one."""
    return results.Extraction(
        found=hits > 0 or greedy or edits > 0,
        rank=results.NotAvailable(not_available="a model that only writes text ranks nothing"),
        certified=False,
        nodes=0,
        calls=2,
        edits=edits,
        samples=make_samples(hits, greedy=greedy),
    )


def _inside_top_k(canary: results.CanaryResult) -> results.CanaryResult:
    """Likely secrets lie inside the top k entirely; of the others only bounds are known."""
    assert isinstance(canary.exposure, results.Exposure)
    assert isinstance(canary.exposure.bits, float)
    if canary.exposure.exact:
        return canary.model_copy(update={"exposure": canary.exposure.model_copy(update={"method": "inside-top-k"})})
    low, high = max(0.0, canary.exposure.bits - 6.0), min(SPACE_BITS, canary.exposure.bits + 4.0)
    return _limited(canary, interval_only(low, high), nll_bits=INTERVAL_ONLY)


def _certified(canary: results.CanaryResult) -> results.CanaryResult:
    """Its own probability is known, and so what it implies; the budget ended before any rank was estimated."""
    ended = results.NotAvailable(not_available="the budget ended before its rank was estimated")
    return _limited(
        canary,
        interval_only(max(0.0, canary.certificate_bits), SPACE_BITS, method="certificate", bits=ended, rank=ended),
    )


def _limited(canary: results.CanaryResult, exposure: results.Exposure, **changes: Any) -> results.CanaryResult:
    p_value = min(1.0, 2.0**-exposure.low)
    if isinstance(changes.get("nll_bits"), results.NotAvailable):
        changes |= {"samples_needed": samples_needed(changes["nll_bits"]), "certificate_bits": 0.0}
    return canary.model_copy(
        update={"exposure": exposure, "p_value": p_value, "extraction": make_extraction(), **changes}
    )


def _written(canary: results.CanaryResult) -> results.CanaryResult:
    """The level of 32 comes out, once nearly; all else stays inside the model."""
    place = int(canary.id[-1]) if canary.insertions == 32 else 9
    wrote = {0: written_extraction(121, greedy=True), 1: written_extraction(33), 2: written_extraction(0, edits=1)}
    extraction = wrote.get(place, written_extraction(0))
    return canary.model_copy(
        update={
            "exposure": NO_EXPOSURE,
            "nll_bits": NO_EXPOSURE,
            "certificate_bits": 0.0,
            "samples_needed": math.log(2) / -math.log1p(-extraction.samples.hits / 200)
            if isinstance(extraction.samples, results.SampledExtraction) and extraction.samples.hits
            else results.NotAvailable(not_available="it did not come out verbatim"),
            "p_value": 200 / SPACE_SIZE if extraction.found else 1.0,
            "extraction": extraction,
        }
    )


_SEEN_THROUGH = {"top-k": _inside_top_k, "prompt-logprobs": _certified, "text-only": _written}


def served_canaries(
    tier: results.Tier, canaries: tuple[results.CanaryResult, ...] | None = None
) -> tuple[results.CanaryResult, ...]:
    """These canaries (the leaking ones if not given) as a model of this tier shows them, p-values corrected anew."""
    seen = [_SEEN_THROUGH.get(tier, lambda canary: canary)(canary) for canary in canaries or leaking_canaries()]
    levels = [place for place, canary in enumerate(seen) if canary.role == "level"]
    adjusted = holm([p for place in levels if isinstance(p := seen[place].p_value, float)])
    for place, value in zip(levels, adjusted, strict=True):
        seen[place] = seen[place].model_copy(update={"adjusted_p_value": float(value)})
    return tuple(seen)


def make_served_result(tier: results.Tier = "chosen-tokens", **changes: Any) -> results.AuditResult:
    """An audit of a served model that leaks: `prompt-logprobs` spent its budget, `top-k` is censored."""
    canaries = changes.get("canaries", served_canaries(tier))
    elsewhere = results.NotAvailable(not_available="the model was trained elsewhere")
    unknown = results.NotAvailable(not_available="the server does not say")
    language = results.LanguageCheck(validation_bits_per_char=2.53, baseline_bits_per_char=4.41, learned=True)
    if tier == "text-only":
        language = results.LanguageCheck(
            validation_bits_per_char=NO_EXPOSURE, baseline_bits_per_char=4.41, learned=False
        )
    fields: dict[str, Any] = {
        "name": f"served-{tier}",
        "canaries": canaries,
        "model": results.ModelResult(
            fingerprint="9" * 64,
            kind="served",
            tier=tier,
            files={"address": "7" * 64, "model": "8" * 64, "tokenizer.json": "0" * 64},
            n_parameters=unknown,
            batch_rows=unknown,
            dtype="unknown",
        ),
        "endpoint": make_endpoint(
            api="chat" if tier == "text-only" else "vllm", budget_spent=tier == "prompt-logprobs"
        ),
        "calls": 20_000 if tier == "prompt-logprobs" else 4_312,
        "data": elsewhere,
        "training": elsewhere,
        "language": language,
    }
    return make_result(**(fields | changes))
