"""What all shapes share: how a request is refused, and how tokens are drawn."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from canary_audit.models.interface import FloatArray
from simulated.model import SimulatedModel

NAME = "simulated-1"
"""The served model's name."""
LEAST = -9999.0
"""What vLLM and OpenAI say for a probability of zero."""
LOWEST = float(np.finfo(np.float32).min)
"""What llama.cpp and SGLang say for it."""

Likeliest = Callable[[FloatArray, int], list[int]]
"""A distribution and a number k -> the k likeliest tokens, likeliest first."""


class Refused(Exception):  # noqa: N818 - what a server does, no error of the simulation
    """The server refuses a request with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Shape(Protocol):
    """One API: from a decoded request to a decoded answer. Every float of an answer is a log-probability."""

    model: SimulatedModel

    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Raises `Refused`."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One continuation: its tokens, and the model's distribution at each of them."""

    tokens: list[int]
    rows: list[FloatArray]
    ended: bool
    """True if it stopped by itself."""

    def log_prob(self, place: int) -> float:
        return float(self.rows[place][self.tokens[place]])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: at `temperature` 0 the likeliest; `allowed[i]` are the tokens place i may choose from."""

    n_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    allowed: Sequence[Sequence[int]] | None = None


_unseeded = itertools.count()


def generate(model: SimulatedModel, prompt: Sequence[int], sampling: Sampling, choice: int = 0) -> Generated:
    """Continue `prompt`; choices of one seeded request differ from each other and repeat with the request."""
    seed = (0, next(_unseeded)) if sampling.seed is None else (1, sampling.seed % (1 << 64), choice)
    rng = np.random.default_rng(seed)
    tokens, rows, ended = list(prompt), [], False
    while len(rows) < sampling.n_tokens and not ended:
        row = model.next_log_probs(tokens)
        allowed = None if sampling.allowed is None else sampling.allowed[len(rows)]
        token = _draw(row if allowed is None else _only(row, allowed), sampling, rng)
        tokens.append(token)
        rows.append(row)
        ended = token == model.end
    return Generated(tokens=tokens[len(prompt) :], rows=rows, ended=ended)


def _only(row: FloatArray, allowed: Sequence[int]) -> FloatArray:
    """A grammar or list allows a token however unlikely it is, even one of probability zero."""
    kept = np.full(len(row), -np.inf)
    kept[list(allowed)] = np.maximum(row[list(allowed)], -1e300)
    return kept


def _draw(row: FloatArray, sampling: Sampling, rng: np.random.Generator) -> int:
    if sampling.temperature == 0 or np.isfinite(row).sum() == 1:
        return int(np.argmax(row))
    scaled = row / sampling.temperature
    order = np.argsort(-scaled, kind="stable")
    probs = np.exp(scaled[order] - scaled[order[0]])
    probs /= probs.sum()
    if sampling.top_p < 1:
        probs = probs[: 1 + int(np.searchsorted(np.cumsum(probs), sampling.top_p))]
    cumulated = np.cumsum(probs)
    return int(order[np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")])


def top(row: FloatArray, k: int) -> list[int]:
    """The `k` likeliest tokens, likeliest first; ties by token."""
    return [int(token) for token in np.argsort(-row, kind="stable")[:k]]


def rank(row: FloatArray, token: int) -> int:
    """1 for the likeliest."""
    return 1 + int((row > row[token]).sum())


def scaled(row: FloatArray, temperature: float) -> FloatArray:
    """The distribution at a temperature."""
    logits = row / temperature
    return logits - np.logaddexp.reduce(logits)


def readable(model: SimulatedModel, tokens: Sequence[int]) -> list[int]:
    """`tokens` if the model can read them."""
    if not all(isinstance(token, int) and 0 <= token < model.vocab_size for token in tokens):
        raise Refused(400, "a token id is out of vocabulary")
    if not 0 < len(tokens) <= model.context_tokens:
        raise Refused(400, f"the prompt is empty, or longer than the context of {model.context_tokens} tokens")
    return list(tokens)


def prompts_of(model: SimulatedModel, prompt: Any, *, takes_token_ids: bool = True) -> list[list[int]]:
    """Token lists of a prompt: a text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return [readable(model, model.encode(prompt))]
    if not isinstance(prompt, list) or not prompt:
        raise Refused(400, "prompt must be a text, token ids, or a list of these")
    if isinstance(prompt[0], int):
        if not takes_token_ids:
            raise Refused(400, "token ids are not accepted as a prompt")
        return [readable(model, prompt)]
    return [tokens for part in prompt for tokens in prompts_of(model, part, takes_token_ids=takes_token_ids)]


def named_model(body: Mapping[str, Any]) -> None:
    """The request asks for the served model, or for none by name."""
    if body.get("model") not in {None, NAME}:
        raise Refused(404, "the model does not exist")


def usage(n_prompt: int, n_written: int) -> dict[str, int]:
    return {"prompt_tokens": n_prompt, "completion_tokens": n_written, "total_tokens": n_prompt + n_written}


def model_list(**facts: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 1_700_000_000, **facts}]}
