"""llama.cpp's server: raw log-probabilities of the likeliest tokens, as many as asked for, and grammars over tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from canary_audit.models.interface import FloatArray
from simulated.model import SimulatedModel
from simulated.shape import (
    LOWEST,
    NAME,
    Generated,
    Likeliest,
    Refused,
    Sampling,
    generate,
    prompts_of,
    readable,
    top,
    usage,
)

_TOKEN_GRAMMAR = re.compile(r"root\s*::=((?:\s*<\[\d+\]>)+)\s*")
_CHARACTER_GRAMMAR = re.compile(r"root\s*::=\s*(\[[^\]]+\]\+)\s*")
_MOST_TOKENS = 128
"""Written where no limit is given; the real server goes on to the end of its context."""


@dataclass(kw_only=True)
class LlamaCpp:
    """`/completion`, and `/v1/completions`, which takes `echo` and ignores it."""

    model: SimulatedModel
    likeliest: Likeliest = top
    single_precision: bool = False
    """True to round as the real server does: it takes the logarithm of a probability in single precision."""
    _fitting_memo: dict[str, list[int]] = field(default_factory=dict, init=False)

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        if method == "GET":
            return self._facts(path)
        if path == "/tokenize":
            start = self.model.text_start if body.get("add_special") else ()
            return {"tokens": [*start, *self.model.vocabulary.encode(body["content"].encode())]}
        if path == "/completion":
            return self._native(body)
        if path == "/v1/completions":
            return self._like_openai(body)
        raise Refused(404, "File Not Found")

    def _facts(self, path: str) -> Any:
        if path == "/health":
            return {"status": "ok"}
        if path == "/props":
            return {"total_slots": 1, "model_path": f"{NAME}.gguf", "build_info": "b11434-simulated"}
        if path == "/v1/models":
            meta = {"vocab_type": 2, "n_vocab": self.model.vocab_size, "n_ctx_train": self.model.context_tokens}
            entry = {"id": NAME, "object": "model", "created": 1_700_000_000, "owned_by": "llamacpp", "meta": meta}
            return {"object": "list", "data": [entry]}
        raise Refused(404, "File Not Found")

    def _native(self, body: Mapping[str, Any]) -> Any:
        prompts = self._prompts(body.get("prompt"))
        answers = [self._native_one(body, prompt, index) for index, prompt in enumerate(prompts)]
        return answers[0] if len(answers) == 1 else answers

    def _native_one(self, body: Mapping[str, Any], prompt: list[int], index: int) -> dict[str, Any]:
        written = self._write(body, prompt)
        answer = {
            "index": index,
            "content": self._text(written),
            "tokens": written.tokens if body.get("return_tokens") else [],
            "stop": True,
            "model": NAME,
            "tokens_predicted": len(written.tokens),
            "tokens_evaluated": len(prompt),
            "truncated": False,
            "stop_type": "eos" if written.ended else "limit",
            "stopping_word": "",
            "tokens_cached": 0,
        }
        if n_probs := body.get("n_probs", 0):
            after = body.get("post_sampling_probs", False)
            # Where there is none to tell, the real server leaves the field out.
            if told := self._probabilities(written, n_probs, after_sampling=after):
                answer["completion_probabilities"] = told
        return answer

    def _like_openai(self, body: Mapping[str, Any]) -> dict[str, Any]:
        (prompt,) = self._prompts(body.get("prompt"))
        written = self._write({"n_predict": body.get("max_tokens", -1), **body}, prompt)
        n_probs = body.get("n_probs", body.get("logprobs") or 0)
        choice = {
            "text": self._text(written),
            "index": 0,
            "logprobs": {"content": self._probabilities(written, n_probs)} if n_probs else None,
            "finish_reason": "stop" if written.ended else "length",
        }
        counts = usage(len(prompt), len(written.tokens))
        return {"choices": [choice], "model": NAME, "object": "text_completion", "usage": counts}

    def _prompts(self, prompt: Any) -> list[list[int]]:
        """A list may mix token ids and texts; it is one prompt if it holds any id."""
        if isinstance(prompt, list) and any(isinstance(part, int) for part in prompt):
            parts = [
                [part] if isinstance(part, int) else self.model.vocabulary.encode(part.encode()) for part in prompt
            ]
            return [readable(self.model, [token for part in parts for token in part])]
        return prompts_of(self.model, prompt)

    def _write(self, body: Mapping[str, Any], prompt: list[int]) -> Generated:
        n_tokens = body.get("n_predict", -1)
        n_tokens = _MOST_TOKENS if n_tokens < 0 else n_tokens
        allowed = self._allowed(body.get("grammar", ""), n_tokens)
        seed = body.get("seed", -1)
        sampling = Sampling(
            n_tokens=n_tokens if allowed is None else len(allowed),
            temperature=max(body.get("temperature", 0.8), 0.0),
            top_p=1.0 if "samplers" in body and "top_p" not in body["samplers"] else body.get("top_p", 0.95),
            seed=None if seed == -1 else seed,
            allowed=allowed,
        )
        written = generate(self.model, prompt, sampling)
        ended = written.ended or n_tokens > sampling.n_tokens
        return Generated(tokens=written.tokens, rows=written.rows, ended=ended)

    def _allowed(self, grammar: str, n_tokens: int) -> list[list[int]] | None:
        """Tokens that a grammar allows at each place; of the real server's grammars, the two kinds that are asked for:
        a sequence of tokens, and any number of characters of a class."""
        if not grammar:
            return None
        if rule := _TOKEN_GRAMMAR.fullmatch(grammar):
            tokens = [int(token) for token in re.findall(r"\d+", rule[1])]
            return [[token] for token in readable(self.model, tokens)][:n_tokens]
        if rule := _CHARACTER_GRAMMAR.fullmatch(grammar):
            return [self._fitting(rule[1])] * n_tokens
        raise Refused(400, "Failed to parse grammar")

    def _fitting(self, characters: str) -> list[int]:
        """Tokens that hold characters of a class and nothing else."""
        if characters not in self._fitting_memo:
            pieces = [self.model.vocabulary.spelled(token) for token in range(self.model.vocab_size)]
            fits = re.compile(characters.encode()).fullmatch
            self._fitting_memo[characters] = [token for token, piece in enumerate(pieces) if fits(piece)]
        return self._fitting_memo[characters]

    def _text(self, written: Generated) -> str:
        return self.model.decode([token for token in written.tokens if token != self.model.end])

    def _probabilities(self, written: Generated, k: int, *, after_sampling: bool = False) -> list[dict[str, Any]]:
        """At each token written: itself, and the `k` likeliest before anything was ruled out.

        A token that leaves the text inside a character is passed over, as the real server does. After sampling, all is
        certain where a grammar leaves one token; nothing else of that is simulated.
        """
        spelled = [self.model.vocabulary.spelled(token) for token in written.tokens]
        told = [
            (token, row)
            for place, (token, row) in enumerate(zip(written.tokens, written.rows, strict=True))
            if not _is_cut(b"".join(spelled[: place + 1]))
        ]
        if after_sampling:
            named = [self._named(token) for token, _ in told]
            return [{**name, "prob": 1, "top_probs": [{**name, "prob": 1}]} for name in named]
        return [
            {**self._entry(row, token), "top_logprobs": [self._entry(row, each) for each in self.likeliest(row, k)]}
            for token, row in told
        ]

    def _entry(self, row: FloatArray, token: int) -> dict[str, Any]:
        return {**self._named(token), "logprob": self._log_prob(float(row[token]))}

    def _named(self, token: int) -> dict[str, Any]:
        spelled = self.model.vocabulary.spelled(token)
        return {"id": token, "token": spelled.decode("utf-8", errors="ignore"), "bytes": list(spelled)}

    def _log_prob(self, value: float) -> float:
        if self.single_precision:
            with np.errstate(divide="ignore", under="ignore"):
                value = float(np.log(np.float32(np.exp(value))))
        return max(value, LOWEST)


def _is_cut(text: bytes) -> bool:
    """Whether a text ends inside a character: a first byte stands closer to the end than its character is long."""
    for place, byte in enumerate(reversed(text[-4:]), start=1):
        length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 0
        if length > place:
            return True
    return False
