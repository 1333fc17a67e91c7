"""Hosted completion APIs: log-probabilities of a few likeliest tokens, and of the prompt where `echo` works."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canary_audit.models.interface import FloatArray
from simulated.model import SimulatedModel
from simulated.shape import (
    LEAST,
    NAME,
    Generated,
    Likeliest,
    Refused,
    Sampling,
    generate,
    model_list,
    named_model,
    prompts_of,
    top,
    usage,
)


@dataclass(kw_only=True)
class OpenAi:
    """`/v1/completions` of the older OpenAI API."""

    model: SimulatedModel
    likeliest: Likeliest = top
    takes_token_ids: bool = True
    echo: bool = True
    """False for a server that refuses it."""
    max_logprobs: int = 5

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        if method == "GET" and path == "/v1/models":
            return model_list(owned_by="simulation")
        if method == "POST" and path == "/v1/completions":
            return self._complete(body)
        raise Refused(404, "Unknown request URL")

    def _complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        named_model(body)
        if (body.get("logprobs") or 0) > self.max_logprobs:
            raise Refused(400, f"logprobs: at most {self.max_logprobs}")
        if body.get("echo") and not self.echo:
            raise Refused(400, "echo is not supported")
        sampling = Sampling(
            n_tokens=body.get("max_tokens", 16),
            temperature=body.get("temperature", 1.0),
            top_p=body.get("top_p", 1.0),
            seed=body.get("seed"),
        )
        if sampling.n_tokens < (0 if body.get("echo") else 1):
            raise Refused(400, "max_tokens must be at least 1")
        prompts = prompts_of(self.model, body.get("prompt"), takes_token_ids=self.takes_token_ids)
        choices, n_written = [], 0
        for prompt in prompts:
            for number in range(body.get("n", 1)):
                written = generate(self.model, prompt, sampling, number)
                choices.append({"index": len(choices), **self._choice(body, prompt, written)})
                n_written += len(written.tokens)
        n_read = sum(map(len, prompts))
        return {"object": "text_completion", "model": NAME, "choices": choices, "usage": usage(n_read, n_written)}

    def _choice(self, body: Mapping[str, Any], prompt: list[int], written: Generated) -> dict[str, Any]:
        shown: list[int] = written.tokens
        rows: list[FloatArray | None] = [*written.rows]
        if body.get("echo"):
            shown, rows = [*prompt, *shown], [None, *self.model.all_log_probs(prompt)[:-1], *rows]
        k = body.get("logprobs")
        return {
            "text": self.model.decode([token for token in shown if token != self.model.end]),
            "logprobs": None if k is None else self._log_probs(shown, rows, k),
            "finish_reason": "stop" if written.ended else "length",
        }

    def _log_probs(self, tokens: Sequence[int], rows: Sequence[FloatArray | None], k: int) -> dict[str, Any]:
        values, tops = [], []
        for token, row in zip(tokens, rows, strict=True):
            listed = {} if row is None else {self._name(t): _shown(row, t) for t in [*self.likeliest(row, k), token]}
            values.append(None if row is None else _shown(row, token))
            tops.append(None if row is None else listed)
        lengths = [len(self.model.decode([token])) for token in tokens]
        offsets = [sum(lengths[:place]) for place in range(len(lengths))]
        names = [self._name(token) for token in tokens]
        return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _name(self, token: int) -> str:
        return token_name(self.model, token)


def token_name(model: SimulatedModel, token: int) -> str:
    """A token's text, or its bytes where they are no text of their own."""
    spelled = model.vocabulary.spelled(token)
    try:
        return spelled.decode() or f"<|{token}|>"
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _shown(row: FloatArray, token: int) -> float:
    return max(float(row[token]), LEAST)
