"""SGLang's native API: `/generate` with log-probabilities of chosen tokens and of the input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from canary_audit.models.interface import FloatArray
from simulated.model import SimulatedModel
from simulated.shape import LOWEST, NAME, Likeliest, Refused, Sampling, generate, model_list, prompts_of, scaled, top

KNOWN = {
    *("max_new_tokens", "min_new_tokens", "temperature", "top_p", "top_k", "min_p", "n", "sampling_seed"),
    *("stop", "stop_token_ids", "stop_regex", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens"),
    *("no_stop_trim", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "custom_params"),
    *("json_schema", "regex", "ebnf", "structural_tag", "stream_interval"),
}
"""Sampling parameters; any other, such as `seed`, breaks the request."""


@dataclass(kw_only=True)
class Sglang:
    """Log-probabilities of what it writes are those at the request's temperature; those of the input are raw."""

    model: SimulatedModel
    likeliest: Likeliest = top

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        if method == "GET" and path in {"/get_model_info", "/model_info"}:
            return {"model_path": NAME, "tokenizer_path": NAME, "is_generation": True}
        if method == "GET" and path in {"/get_server_info", "/server_info"}:
            return {"model_path": NAME, "version": "0.5.9"}
        if method == "GET" and path == "/v1/models":
            return model_list(owned_by="sglang", root=NAME, max_model_len=self.model.context_tokens)
        if method == "POST" and path == "/tokenize":
            tokens = self.model.encode(body["prompt"])
            return {"tokens": tokens, "count": len(tokens), "max_model_len": self.model.context_tokens}
        if method == "POST" and path == "/generate":
            return self._generate(body)
        raise Refused(404, "Not Found")

    def _generate(self, body: Mapping[str, Any]) -> Any:
        if ("text" in body) == ("input_ids" in body):
            raise Refused(400, "Either text or input_ids should be provided.")
        prompt = body.get("text", body.get("input_ids"))
        prompts = prompts_of(self.model, prompt)
        many = isinstance(prompt, list) and not isinstance(prompt[0], int)
        given = body.get("sampling_params") or {}
        parameters = given if isinstance(given, list) else [given] * len(prompts)
        if unknown := {name for each in parameters for name in each} - KNOWN:
            raise Refused(500, f"SamplingParams got an unexpected keyword argument {min(unknown)!r}")
        n = parameters[0].get("n", 1)
        answers = [
            self._one(body, parameters[index], tokens, index=index, choice=choice, many=many)
            for index, tokens in enumerate(prompts)
            for choice in range(n)
        ]
        return answers if many or n > 1 else answers[0]

    def _one(
        self,
        body: Mapping[str, Any],
        parameters: Mapping[str, Any],
        prompt: list[int],
        *,
        index: int,
        choice: int,
        many: bool,
    ) -> dict[str, Any]:
        temperature = parameters.get("temperature", 1.0)
        sampling = Sampling(
            n_tokens=parameters.get("max_new_tokens", 128),
            temperature=temperature,
            top_p=parameters.get("top_p", 1.0),
            seed=parameters.get("sampling_seed"),
        )
        written = generate(self.model, prompt, sampling, choice)
        meta: dict[str, Any] = {
            "id": f"{index}-{choice}",
            "finish_reason": {"type": "stop", "matched": self.model.end}
            if written.ended
            else {"type": "length", "length": sampling.n_tokens},
            "prompt_tokens": len(prompt),
            "completion_tokens": len(written.tokens),
            "cached_tokens": 0,
        }
        if body.get("return_logprob"):
            rows = written.rows if temperature in {0, 1} else [scaled(row, temperature) for row in written.rows]
            chosen = body.get("token_ids_logprob")
            if many and chosen and isinstance(chosen[0], list):
                chosen = chosen[index]
            listed = (body.get("top_logprobs_num", 0), chosen)
            meta |= self._written(written.tokens, rows, *listed)
            meta |= self._read(prompt, body.get("logprob_start_len", -1), *listed)
        text = self.model.decode([token for token in written.tokens if token != self.model.end])
        return {"text": text, "output_ids": written.tokens, "meta_info": meta}

    def _written(
        self, tokens: Sequence[int], rows: Sequence[FloatArray], k: int, chosen: Sequence[int] | None
    ) -> dict[str, Any]:
        pairs = zip(tokens, rows, strict=True)
        meta = {"output_token_logprobs": [_triple(token, _clamped(row, token)) for token, row in pairs]}
        if k:
            meta["output_top_logprobs"] = [
                [_triple(t, _clamped(row, t)) for t in self.likeliest(row, k)] for row in rows
            ]
        if chosen:
            meta["output_token_ids_logprobs"] = [[_triple(t, _clamped(row, t)) for t in chosen] for row in rows]
        return meta

    def _read(self, prompt: list[int], start: int, k: int, chosen: Sequence[int] | None) -> dict[str, Any]:
        """Of the input from `start` on; the first of them is never scored, whatever stands before it."""
        start = len(prompt) - 1 if start == -1 else start
        if not 0 <= start < len(prompt):
            raise Refused(400, f"logprob_start_len={start} is higher than the number of input tokens {len(prompt)}")
        rows = self.model.all_log_probs(prompt)[start:-1]
        scored = zip(prompt[start + 1 :], rows, strict=True)
        meta: dict[str, Any] = {
            "input_token_logprobs": [[None, prompt[start], None], *(_triple(t, _or_null(row, t)) for t, row in scored)]
        }
        if k:
            lists = [[_triple(t, _or_null(row, t)) for t in self.likeliest(row, k)] for row in rows]
            meta["input_top_logprobs"] = [None, *lists]
        if chosen:
            lists = [[_triple(t, _or_null(row, t)) for t in chosen] for row in rows]
            meta["input_token_ids_logprobs"] = [None, *lists]
        return meta


def _triple(token: int, log_prob: float | None) -> list[Any]:
    return [log_prob, token, None]


def _clamped(row: FloatArray, token: int) -> float:
    return max(float(row[token]), LOWEST)


def _or_null(row: FloatArray, token: int) -> float | None:
    """Input log-probabilities are not clamped, and its JSON writes minus infinity as null."""
    return float(row[token]) if np.isfinite(row[token]) else None
