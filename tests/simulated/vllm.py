"""vLLM's HTTP server: raw log-probabilities of chosen tokens, of the likeliest, and of prompts."""

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
    rank,
    top,
    usage,
)

MOST_TOKEN_IDS = 128


@dataclass(kw_only=True)
class Vllm:
    """`/v1/completions` as in vLLM 0.30."""

    model: SimulatedModel
    likeliest: Likeliest = top
    supports_token_ids: bool = True
    """False for an older server: it ignores `logprob_token_ids` without a word."""
    max_logprobs: int = 20
    """What `--max-logprobs` allows; -1 for the whole vocabulary."""
    version: str = "0.30.0"

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        if method == "GET" and path == "/version":
            return {"version": self.version}
        if method == "GET" and path == "/v1/models":
            return model_list(owned_by="vllm", root=NAME, max_model_len=self.model.context_tokens)
        if method == "POST" and path == "/tokenize":
            tokens = self.model.encode(body["prompt"])
            return {"count": len(tokens), "max_model_len": self.model.context_tokens, "tokens": tokens}
        if method == "POST" and path == "/v1/completions":
            return self._complete(body)
        raise Refused(404, "Not Found")

    def _complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        named_model(body)
        self._check(body)
        prompts = prompts_of(self.model, body.get("prompt"))
        n_tokens = 1 if _only_echo(body) else body.get("max_tokens", 16)
        allowed = body.get("allowed_token_ids")
        sampling = Sampling(
            n_tokens=n_tokens,
            temperature=body.get("temperature", 1.0),
            top_p=body.get("top_p", 1.0),
            seed=body.get("seed"),
            allowed=None if allowed is None else [allowed] * n_tokens,
        )
        choices, n_written = [], 0
        for prompt in prompts:
            for number in range(body.get("n", 1)):
                written = generate(self.model, prompt, sampling, number)
                choices.append({"index": len(choices), **self._choice(body, prompt, written)})
                n_written += len(written.tokens)
        n_read = sum(map(len, prompts))
        return {"object": "text_completion", "model": NAME, "choices": choices, "usage": usage(n_read, n_written)}

    def _check(self, body: Mapping[str, Any]) -> None:
        chooses = self.supports_token_ids and body.get("logprob_token_ids") is not None
        for key in ("logprobs", "prompt_logprobs"):
            if (asked := body.get(key)) is not None and not (chooses and key == "logprobs"):
                self._check_count(key, asked)
        if chooses:
            self._check_token_ids(body)
        if (ids := body.get("allowed_token_ids")) is not None and not self._are_tokens(ids):
            raise Refused(400, "allowed_token_ids is empty or contains out-of-vocab token id")
        if body.get("max_tokens", 16) < 1 and not _only_echo(body):
            raise Refused(400, "max_tokens must be at least 1")
        if body.get("temperature", 1.0) == 0 and body.get("n", 1) > 1:
            raise Refused(400, "n must be 1 when using greedy sampling")

    def _check_count(self, key: str, asked: Any) -> None:
        if not isinstance(asked, int) or asked < -1:
            raise Refused(400, f"{key} must be a positive value or -1")
        if (self.model.vocab_size if asked == -1 else asked) > self.max_logprobs != -1:
            raise Refused(400, f"{key} is greater than max allowed: {self.max_logprobs}")

    def _check_token_ids(self, body: Mapping[str, Any]) -> None:
        ids = body["logprob_token_ids"]
        if len(ids) > MOST_TOKEN_IDS or not self._are_tokens(ids):
            raise Refused(400, f"logprob_token_ids takes 1 to {MOST_TOKEN_IDS} ids of the vocabulary")
        if body.get("logprobs") is None or _only_echo(body):
            raise Refused(400, "logprob_token_ids needs logprobs, and a token to write")

    def _are_tokens(self, ids: Sequence[int]) -> bool:
        return bool(ids) and all(0 <= token < self.model.vocab_size for token in ids)

    def _choice(self, body: Mapping[str, Any], prompt: list[int], written: Generated) -> dict[str, Any]:
        shown, rows = ([], []) if _only_echo(body) else (written.tokens, [*written.rows])
        text = self.model.decode([token for token in shown if token != self.model.end])
        if body.get("echo"):
            text = self.model.decode(prompt) + text
            shown, rows = [*prompt, *shown], [None, *self.model.all_log_probs(prompt)[:-1], *rows]
        asks_prompt = body.get("prompt_logprobs", body.get("logprobs") if body.get("echo") else None)
        with_ids = body.get("return_token_ids")
        return {
            "text": text,
            "logprobs": None if body.get("logprobs") is None else self._log_probs(body, shown, rows),
            "finish_reason": "stop" if written.ended else "length",
            "stop_reason": None,
            "token_ids": written.tokens if with_ids else None,
            "prompt_token_ids": prompt if with_ids else None,
            "prompt_logprobs": None if asks_prompt is None else self._prompt_log_probs(prompt, asks_prompt),
        }

    def _log_probs(
        self, body: Mapping[str, Any], tokens: Sequence[int], rows: Sequence[FloatArray | None]
    ) -> dict[str, Any]:
        as_ids = body.get("return_tokens_as_token_ids")
        names = [self._name(token, as_ids) for token in tokens]
        values = [None if row is None else _shown(row, token) for token, row in zip(tokens, rows, strict=True)]
        tops = []
        for token, row in zip(tokens, rows, strict=True):
            listed = [] if row is None else [token, *self._listed(body, row)]
            tops.append(None if row is None else {self._name(each, as_ids): _shown(row, each) for each in listed})
        offsets = [sum(map(len, names[:place])) for place in range(len(names))]
        return {"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops}

    def _listed(self, body: Mapping[str, Any], row: FloatArray) -> Sequence[int]:
        if self.supports_token_ids and body.get("logprob_token_ids") is not None:
            return body["logprob_token_ids"]
        return self.likeliest(row, self.model.vocab_size if body["logprobs"] == -1 else body["logprobs"])

    def _prompt_log_probs(self, prompt: list[int], k: int) -> list[dict[str, Any] | None]:
        """At each token of the prompt: itself and the `k` likeliest; nothing at the first, which nothing predicts."""
        entries: list[dict[str, Any] | None] = [None]
        for token, row in zip(prompt[1:], self.model.all_log_probs(prompt), strict=False):
            listed = [token, *self.likeliest(row, self.model.vocab_size if k == -1 else k)]
            entries.append(
                {
                    str(each): {
                        "logprob": _shown(row, each),
                        "rank": rank(row, each),
                        "decoded_token": self.model.decode([each]),
                    }
                    for each in listed
                }
            )
        return entries

    def _name(self, token: int, as_id: bool | None) -> str:
        return f"token_id:{token}" if as_id else self.model.decode([token])


def _only_echo(body: Mapping[str, Any]) -> bool:
    """Whether only the prompt is wanted; vLLM writes one token all the same, and drops it."""
    return bool(body.get("echo")) and body.get("max_tokens") == 0


def _shown(row: FloatArray, token: int) -> float:
    return max(float(row[token]), LEAST)
