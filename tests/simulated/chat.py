"""Chat APIs: text, and at best log-probabilities of the likeliest tokens of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from canary_audit.models.interface import FloatArray
from simulated.model import SimulatedModel
from simulated.openai import token_name
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
    readable,
    top,
    usage,
)

MOST_TOP = 20
TURN_END = "\n"


@dataclass(kw_only=True)
class Chat:
    """`/v1/chat/completions`; the model reads the contents of the messages, one after the other."""

    model: SimulatedModel
    likeliest: Likeliest = top
    logprobs: Literal["given", "refused", "ignored"] = "given"
    prefill: Literal["continued", "flagged", "none"] = "continued"
    """Whether an answer goes on from a last message of the assistant: always, only when the request says so with
    `continue_final_message` and without `add_generation_prompt` (vLLM), or never: then a new turn begins."""

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        if method == "GET" and path == "/v1/models":
            return model_list(owned_by="simulation")
        if method == "POST" and path == "/v1/chat/completions":
            return self._chat(body)
        raise Refused(404, "Unknown request URL")

    def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        named_model(body)
        self._check(body)
        prompt = readable(self.model, self.model.encode(self._prompt(body)))
        sampling = Sampling(
            n_tokens=body.get("max_completion_tokens", body.get("max_tokens", 16)),
            temperature=body.get("temperature", 1.0),
            top_p=body.get("top_p", 1.0),
            seed=body.get("seed"),
        )
        answers = [generate(self.model, prompt, sampling, number) for number in range(body.get("n", 1))]
        choices = [{"index": index, **self._choice(body, written)} for index, written in enumerate(answers)]
        counts = usage(len(prompt), sum(len(written.tokens) for written in answers))
        return {"object": "chat.completion", "model": NAME, "choices": choices, "usage": counts}

    def _check(self, body: Mapping[str, Any]) -> None:
        if not body.get("messages"):
            raise Refused(400, "messages is missing or empty")
        if body.get("logprobs") and self.logprobs == "refused":
            raise Refused(400, "logprobs are not available for this model")
        if body.get("top_logprobs") is not None and not (body.get("logprobs") and body["top_logprobs"] <= MOST_TOP):
            raise Refused(400, f"top_logprobs is at most {MOST_TOP} and needs logprobs")
        if body.get("continue_final_message") and body.get("add_generation_prompt", True):
            raise Refused(400, "Cannot set both continue_final_message and add_generation_prompt to True.")

    def _prompt(self, body: Mapping[str, Any]) -> str:
        messages = body["messages"]
        text = "".join(message["content"] for message in messages)
        flagged = self.prefill == "flagged" and body.get("continue_final_message")
        goes_on = messages[-1]["role"] != "assistant" or self.prefill == "continued" or flagged
        return text if goes_on else text + TURN_END

    def _choice(self, body: Mapping[str, Any], written: Generated) -> dict[str, Any]:
        text = self.model.decode([token for token in written.tokens if token != self.model.end])
        given = body.get("logprobs") and self.logprobs == "given"
        return {
            "message": {"role": "assistant", "content": text},
            "logprobs": {"content": self._content(written, body.get("top_logprobs", 0))} if given else None,
            "finish_reason": "stop" if written.ended else "length",
        }

    def _content(self, written: Generated, k: int) -> list[dict[str, Any]]:
        return [
            {**self._entry(row, token), "top_logprobs": [self._entry(row, each) for each in self.likeliest(row, k)]}
            for token, row in zip(written.tokens, written.rows, strict=True)
        ]

    def _entry(self, row: FloatArray, token: int) -> dict[str, Any]:
        spelled = list(self.model.vocabulary.spelled(token))
        return {"token": token_name(self.model, token), "bytes": spelled, "logprob": max(float(row[token]), LEAST)}
