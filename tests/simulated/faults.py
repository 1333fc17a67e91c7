"""The catalogue of endpoint faults: numbers that cannot be true, answers to other questions, and a broken wire."""

import json
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from canary_audit.models.interface import FloatArray
from simulated import changes, wire
from simulated.fault import ALL, Fault
from simulated.model import SimulatedModel, TwoModels
from simulated.shape import scaled, top

ChangeModel = Callable[[SimulatedModel], SimulatedModel]

NUMBERS = ("vllm", "sglang", "llamacpp", "openai")
"""APIs that tell more than text for sure."""
TOPS = ("llamacpp", "openai", "chat")
"""APIs that tell the likeliest tokens only."""
_OVERFLOW = "number-of-1e999"


SCORING = ("vllm", "sglang", "openai")
"""APIs that score what they read as well as what they write, so that the two can be compared."""


def _rows(change: Callable[[FloatArray], FloatArray], *, remembers: bool = True) -> ChangeModel:
    """A model whose distributions are changed, all of one text together."""

    def changed(model: SimulatedModel) -> SimulatedModel:
        return model.changed(lambda tokens: change(model.all_log_probs(tokens)), remembers=remembers)

    return changed


def _each_row(change: Callable[[FloatArray], FloatArray]) -> ChangeModel:
    return _rows(lambda rows: np.array([change(row) for row in rows]))


def _written(change: ChangeModel) -> ChangeModel:
    """Only what the server writes is changed, not how it scores what it reads."""
    return lambda model: TwoModels(read=model, written=change(model))


def _read(change: ChangeModel) -> ChangeModel:
    return lambda model: TwoModels(read=change(model), written=model)


def _noisy() -> ChangeModel:
    """Half a nat of noise, fresh in every answer."""
    rng, lock = np.random.default_rng(1), threading.Lock()

    def noisy(rows: FloatArray) -> FloatArray:
        with lock:
            return np.array([scaled(row + rng.normal(0.0, 0.5, row.shape), 1.0) for row in rows])

    return _rows(noisy, remembers=False)


def _without(*keys: str):
    """A server that ignores these fields of a request."""

    def asked(body: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = {key: value for key, value in body.items() if key not in keys}
        return kept | {"max_tokens": 1} if kept.get("max_tokens") == 0 else kept

    return asked


def _inserted(value: bytes):
    """One more field in a JSON object, first of all."""
    return lambda content: content.replace(b"{", b'{"more": ' + value + b", ", 1)


def _first_key_twice(content: bytes) -> bytes:
    answer = json.loads(content)
    key = json.dumps(next(iter(answer))) if isinstance(answer, dict) else '"more"'
    return content.replace(b"{", f"{{{key}: null, ".encode(), 1)


FALSE_NUMBERS = (
    Fault(name="log-prob-nan", change=changes.each_log_prob(lambda _: math.nan)),
    Fault(name="log-prob-infinite", change=changes.each_log_prob(lambda _: math.inf)),
    Fault(
        name="log-prob-overflows",
        change=changes.each_log_prob(lambda _: _OVERFLOW),
        rewrite=lambda content: content.replace(f'"{_OVERFLOW}"'.encode(), b"1e999"),
    ),
    Fault(name="log-prob-positive", change=changes.each_log_prob(lambda _: 0.3)),
    Fault(name="log-prob-without-its-sign", change=changes.each_log_prob(lambda value: 1e-3 - value)),
    Fault(name="log-prob-as-text", change=changes.each_log_prob(str)),
    Fault(name="log-prob-as-truth-value", change=changes.each_log_prob(lambda _: False)),
    Fault(name="log-prob-null", change=changes.each_log_prob(lambda _: None)),
    Fault(name="probabilities-above-one", change=changes.sum_too_large),
    Fault(
        name="temperature-applied",
        shapes=SCORING,
        model=_written(_each_row(lambda row: scaled(row, 0.7))),
        shows="compared",
    ),
    Fault(
        name="numbers-of-other-tokens",
        shapes=SCORING,
        model=_written(_each_row(lambda row: np.roll(row, 1))),
        shows="compared",
    ),
    Fault(
        name="numbers-of-the-token-before",
        shapes=SCORING,
        model=_read(_rows(lambda rows: rows[[0, *range(len(rows) - 1)]])),
        shows="compared",
    ),
    Fault(name="noise-of-half-a-nat", model=_noisy(), shows="compared"),
    Fault(
        name="another-model",
        model=_each_row(lambda row: scaled(row, 1.5)),
        shows="compared",
        from_start=False,
    ),
)
"""Numbers that cannot be true, or are not the model's."""

OTHER_ANSWERS = (
    Fault(name="token-missing", shapes=("vllm", "sglang", "llamacpp"), change=changes.one_token_missing),
    Fault(name="token-twice", shapes=("sglang", "llamacpp", "chat"), change=changes.one_token_twice),
    Fault(name="tokens-under-other-names", shapes=("vllm", "sglang"), change=changes.other_names),
    Fault(name="tokens-that-were-not-sent", shapes=NUMBERS, change=changes.other_tokens),
    Fault(name="tokens-counted-differently", shapes=NUMBERS, change=changes.other_count),
    Fault(name="log-probs-missing", change=changes.without_fields),
    Fault(name="log-probs-null", change=changes.null_fields),
    Fault(name="entry-too-few", change=changes.one_entry_too_few),
    Fault(name="entry-too-many", change=changes.one_entry_too_many),
    Fault(name="nothing-in-it", change=changes.empty),
    Fault(name="echo-ignored", shapes=("vllm", "openai"), ask=_without("echo", "prompt_logprobs")),
    Fault(name="input-not-scored", shapes=("sglang",), ask=_without("logprob_start_len")),
    Fault(
        name="chosen-tokens-ignored",
        shapes=("vllm", "sglang"),
        ask=_without("logprob_token_ids", "token_ids_logprob"),
    ),
    Fault(name="grammar-ignored", shapes=("llamacpp",), ask=_without("grammar")),
    Fault(name="top-k-cut-short", shapes=TOPS, likeliest=lambda row, k: top(row, (k + 1) // 2), from_start=False),
    Fault(
        name="top-k-without-the-likeliest",
        shapes=TOPS,
        likeliest=lambda row, k: top(row, k + 1)[1:],
        shows="compared",  # or at once, where the token that was drawn or forced is the likeliest
    ),
    Fault(name="top-k-backwards", shapes=TOPS, likeliest=lambda row, k: top(row, k)[::-1], expected="either"),
    Fault(name="half-a-character", change=changes.lone_surrogate, expected="either"),
    *(Fault(name=f"wrong-type-at-level-{level}", change=changes.wrong_type(level)) for level in range(7)),
)
"""Answers to other questions, and answers of another form."""

BROKEN_JSON = (
    Fault(name="not-json", send=wire.page(b"upstream connect error", "text/plain")),
    Fault(name="error-page-with-status-200", send=wire.page(b"<html><h1>502 Bad Gateway</h1></html>", "text/html")),
    Fault(name="empty-body", send=wire.page(b"")),
    Fault(name="not-utf-8", send=wire.page(b'{"choices": "\xff\xfe"}')),
    Fault(name="half-of-the-json", rewrite=lambda content: content[: len(content) // 2]),
    Fault(name="json-nested-too-deep", send=wire.page(b"[" * 200_000 + b"]" * 200_000)),
    Fault(name="json-nested-too-deep-inside", rewrite=_inserted(b"[" * 100_000 + b"]" * 100_000)),
    Fault(name="json-with-nan", rewrite=_inserted(b"NaN")),
    Fault(name="json-with-a-huge-integer", rewrite=_inserted(b"9" * 100_000), expected="either"),
    Fault(name="json-with-a-key-twice", rewrite=_first_key_twice),
)

BROKEN_WIRE = (
    Fault(name="429-forever", send=wire.status(429)),
    Fault(name="429-then-ok", send=wire.status(429, Retry_After="0"), lasts=2, expected="recovers"),
    Fault(name="500-forever", send=wire.status(500)),
    Fault(name="500-then-ok", send=wire.status(500), lasts=2, expected="recovers"),
    Fault(name="503-for-an-hour", send=wire.status(503, Retry_After="3600")),
    Fault(name="429-with-a-bad-wait", send=wire.status(429, Retry_After="-nan"), lasts=1, expected="recovers"),
    Fault(name="204-without-a-body", send=wire.status(204)),
    Fault(name="never-answers", send=wire.never),
    Fault(name="hangs-up", send=wire.hang_up),
    Fault(name="hangs-up-then-ok", send=wire.hang_up, lasts=2, expected="recovers"),
    Fault(name="body-cut-off", send=wire.cut_off),
    Fault(name="body-cut-off-then-ok", send=wire.cut_off, lasts=2, expected="recovers"),
    Fault(name="body-dripping", send=wire.dripping_body),
    Fault(name="headers-dripping", send=wire.dripping_headers),
    Fault(name="headers-endless", send=wire.endless_headers),
    Fault(name="promises-endless", send=wire.endless_promises),
    Fault(name="body-endless", send=wire.endless_body),
    Fault(name="length-too-short", send=wire.too_short_a_length),
    Fault(name="length-not-a-number", send=wire.bad_length),
    Fault(name="chunks-broken", send=wire.bad_chunks),
    Fault(name="not-http", send=wire.no_http),
    Fault(name="second-answer", send=wire.second_answer, expected="either"),
    Fault(name="gzip-bomb", send=wire.gzip_bomb),
    Fault(name="redirect-to-another-host", send=wire.redirect("http://127.0.0.2:9/v1/completions")),
    Fault(name="redirect-to-cloud-metadata", send=wire.redirect("http://169.254.169.254/latest/meta-data/")),
    Fault(name="key-in-a-refusal", send=wire.key_in_refusal),
)

FAULTS = {fault.name: fault for fault in (*FALSE_NUMBERS, *OTHER_ANSWERS, *BROKEN_JSON, *BROKEN_WIRE)}
"""Name -> fault."""


def faults_of(shape: str) -> list[Fault]:
    """Faults that this API can have."""
    return [fault for fault in FAULTS.values() if shape in fault.shapes]


__all__ = ["ALL", "FAULTS", "Fault", "faults_of"]
