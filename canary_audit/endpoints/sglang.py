"""SGLang's own API: token ids in, log-probabilities of any tokens out.

Written against SGLang's `GenerateReqInput`, `SamplingParams` and `convert_logprob_style`: a log-probability comes as
[nats, token id, text or null], and the first token that is scored has null for its nats.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from canary_audit.endpoints.answers import (
    Field,
    chosen_window,
    require_agreement,
    sanitized,
    tokens_sent,
    top_window,
)
from canary_audit.endpoints.choices import last_part, models_request
from canary_audit.endpoints.dialect import Api, Request, T, Window
from canary_audit.endpoints.prompts import integers, n_tokens_of, names_at_once, prompt_of, spaced
from canary_audit.endpoints.token_names import known
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary

_PATH = "/generate"
_PLAIN: Final = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Nothing that changes probabilities: a model's own defaults may."""


class SglangDialect:
    """See `Dialect`."""

    api: Api = "sglang"
    tiers: tuple[Tier, ...] = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")

    def __init__(self, model: str, vocabulary: Vocabulary | None, top_k: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._top_k = names_at_once(top_k, vocabulary)

    def identity(self) -> Sequence[Request[str]]:
        """See `Dialect.identity`. The server's settings, which also hold its version, may hold its API key: they are
        not asked for."""
        return [Request(path="/get_model_info", body=None, n_tokens=0, read=_read_model), models_request()]

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """See `Dialect.window`. In the tier `prompt-logprobs`, the first wanted token is scored behind the prefix: the
        answer holds it and the likeliest."""
        if tier == "chosen-tokens" and wanted:
            chosen = integers(wanted)
            return self._ask(
                prompt_of(prefix),
                {"token_ids_logprob": chosen},
                lambda meta: chosen_window(self._pairs(meta.at("output_token_ids_logprobs").places(1)[0]), chosen),
            )
        if tier == "prompt-logprobs" and wanted:
            scored = [*prompt_of(prefix), int(wanted[0])]
            return self._ask(
                scored,
                {"top_logprobs_num": self._top_k, "logprob_start_len": len(scored) - 2},
                lambda meta: self._read_prompt_window(meta, scored),
            )
        return self._ask(
            prompt_of(prefix),
            {"top_logprobs_num": self._top_k},
            lambda meta: top_window(
                self._pairs(meta.at("output_top_logprobs").places(1)[0]), self._top_k, ordered=True
            ),
        )

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """See `Dialect.forced`: the token is scored as the last of a prompt."""
        scored = [*prompt_of(prefix), int(token)]
        return self._ask(
            scored,
            {"logprob_start_len": len(scored) - 2},
            lambda meta: float(self._scores(meta, scored, len(scored) - 1)[0]),
        )

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """See `Dialect.score`."""
        sent = prompt_of(tokens)
        return self._ask(sent, {"logprob_start_len": start - 1}, lambda meta: self._scores(meta, sent, start))

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """See `Dialect.write`. The text is sent `n` times, each with a seed of its own: a deterministic server would
        write `n` times the same with one."""
        first = spaced(seed, n)
        sampling = [
            {**_PLAIN, "temperature": temperature, "max_new_tokens": max_tokens, "sampling_seed": first + place}
            for place in range(n)
        ]
        return Request(
            path=_PATH,
            body={"text": [prefix] * n, "sampling_params": sampling},
            n_tokens=n * (n_tokens_of(prefix, self._vocabulary) + max_tokens),
            read=lambda answer: tuple(_read_text(entry) for entry in Field(value=answer).places(n)),
        )

    def _ask(self, prompt: list[int], extra: Mapping[str, Any], read: Callable[[Field], T]) -> Request[T]:
        """A request for one token after a prompt; what is said about it is read."""
        # SGLang scales log-probabilities by the temperature.
        sampling = {**_PLAIN, "temperature": 1.0, "max_new_tokens": 1}
        body = {"input_ids": prompt, "sampling_params": sampling, "return_logprob": True, **extra}

        def checked(answer: Any) -> T:
            meta = Field(value=answer).at("meta_info")
            tokens_sent(meta.at("prompt_tokens"), len(prompt))
            return read(meta)

        return Request(path=_PATH, body=body, n_tokens=len(prompt) + 1, read=checked, order=tuple(prompt))

    def _read_prompt_window(self, meta: Field, scored: Sequence[int]) -> Window:
        """The last token of a prompt, and the likeliest in its place."""
        token, log_prob = scored[-1], float(self._scores(meta, scored, len(scored) - 1)[0])
        top = top_window(self._pairs(meta.at("input_top_logprobs").places(2)[1]), self._top_k, ordered=True)
        if token in top.log_probs:
            require_agreement(top.log_probs[token], log_prob)
            return top
        both = [*top.log_probs.items(), (token, log_prob)]
        return top_window(both, self._top_k, drawn=log_prob)

    def _scores(self, meta: Field, sent: Sequence[int], start: int) -> FloatArray:
        """Log-probabilities of `sent[start:]`; the token before them stands first, without one."""
        given = meta.at("input_token_logprobs").places(len(sent) - start + 1)
        for entry, token in zip(given, sent[start - 1 :], strict=True):
            entry.at(1).require_equal(token, "the server scored other tokens than were sent")
        given[0].at(0).require_null()
        return np.array([entry.at(0).log_prob() for entry in given[1:]])

    def _pairs(self, entries: Field) -> list[tuple[int, float]]:
        return [(known(entry.at(1).integer(), self._vocabulary), entry.at(0).log_prob()) for entry in entries.places()]


def _read_text(entry: Field) -> str:
    reason = entry.at("meta_info").maybe("finish_reason")
    if reason is not None and reason.at("type").text() == "abort":
        raise EndpointError("the server gave up writing")
    return entry.at("text").text()


def _read_model(answer: Any) -> str:
    return sanitized(f"SGLang {last_part(Field(value=answer).at('model_path').text())}")
