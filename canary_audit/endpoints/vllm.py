"""vLLM's completions: token ids in, log-probabilities of any tokens out.

Written against vLLM's `CompletionRequest`, `SamplingParams` and `serving_completion`. Choosing tokens
(`logprob_token_ids`) needs a server of mid-2026 or later; older ones ignore it, which the reader notices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from canary_audit.endpoints.answers import Field, chosen_window, require_agreement, sanitized, top_window
from canary_audit.endpoints.choices import models_request, read_choices
from canary_audit.endpoints.dialect import Api, Request, T, Window
from canary_audit.endpoints.prompts import integers, n_tokens_of, names_at_once, prompt_of, spaced
from canary_audit.endpoints.token_names import id_in, known
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary

MOST_CHOSEN: Final = 128
"""Tokens that one request may choose."""

_PATH = "/v1/completions"
_PLAIN: Final = {
    "top_p": 1,
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
"""Nothing that changes probabilities: a model's own defaults may."""


class VllmDialect:
    """See `Dialect`."""

    api: Api = "vllm"
    tiers: tuple[Tier, ...] = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")

    def __init__(self, model: str, vocabulary: Vocabulary | None, top_k: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._top_k = names_at_once(top_k, vocabulary)

    def identity(self) -> Sequence[Request[str]]:
        """See `Dialect.identity`."""
        return [Request(path="/version", body=None, n_tokens=0, read=_read_version), models_request()]

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """See `Dialect.window`. In the tier `prompt-logprobs`, the first wanted token is scored behind the prefix: the
        answer holds it and the likeliest.

        Raises:
            EndpointError: more than `MOST_CHOSEN` tokens are wanted at once.
        """
        if tier == "chosen-tokens" and wanted:
            return self._chosen(prompt_of(prefix), integers(wanted))
        if tier == "prompt-logprobs" and wanted:
            scored = [*prompt_of(prefix), int(wanted[0])]
            return self._ask(
                scored,
                {"prompt_logprobs": self._top_k},
                lambda choice: self._prompt_window(choice, scored, len(scored) - 1, self._top_k),
            )
        return self._ask(prompt_of(prefix), self._logprobs(self._top_k), self._read_top)

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """See `Dialect.forced`: only this token is allowed, and its log-probability is that before the others were
        taken out."""
        extra = {**self._logprobs(1), "allowed_token_ids": [int(token)]}
        return self._ask(prompt_of(prefix), extra, lambda choice: self._read_forced(choice, int(token)))

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """See `Dialect.score`."""
        sent = prompt_of(tokens)

        def read(choice: Field) -> FloatArray:
            windows = [self._prompt_window(choice, sent, place, 1) for place in range(start, len(sent))]
            return np.array([window.log_probs[token] for window, token in zip(windows, sent[start:], strict=True)])

        return self._ask(sent, {"prompt_logprobs": 1}, read)

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """See `Dialect.write`."""
        body = {
            **_PLAIN,
            **{"model": self._model, "prompt": prefix, "max_tokens": max_tokens},
            **{"temperature": temperature, "n": n, "seed": spaced(seed, n)},
        }
        return Request(
            path=_PATH,
            body=body,
            n_tokens=n_tokens_of(prefix, self._vocabulary) + n * max_tokens,
            read=lambda answer: tuple(
                choice.at("text").text() for choice in read_choices(answer, n, model=self._model)
            ),
        )

    def _ask(self, prompt: list[int], extra: Mapping[str, Any], read: Callable[[Field], T]) -> Request[T]:
        """A request for one token after a prompt; its one choice is read."""
        body = {**_PLAIN, "model": self._model, "prompt": prompt, "max_tokens": 1, "temperature": 1, **extra}
        return Request(
            path=_PATH,
            body=body,
            n_tokens=len(prompt) + 1,
            read=lambda answer: read(read_choices(answer, 1, n_prompt=len(prompt), model=self._model)[0]),
            order=tuple(prompt),
        )

    def _logprobs(self, count: int) -> dict[str, Any]:
        return {"logprobs": count, "return_tokens_as_token_ids": True}

    def _chosen(self, prefix: list[int], wanted: list[int]) -> Request[Window]:
        if len(wanted) > MOST_CHOSEN:
            raise EndpointError(f"{len(wanted)} tokens are wanted at once, and vLLM allows {MOST_CHOSEN}")

        def read(choice: Field) -> Window:
            drawn, pairs = self._next_token(choice)
            return chosen_window(pairs, wanted, drawn=drawn)

        # `logprobs` switches log-probabilities on, and some front-ends want it to count the chosen tokens.
        return self._ask(prefix, {**self._logprobs(len(wanted)), "logprob_token_ids": wanted}, read)

    def _read_top(self, choice: Field) -> Window:
        drawn, pairs = self._next_token(choice)
        return top_window(pairs, self._top_k, drawn=dict(pairs)[drawn])

    def _read_forced(self, choice: Field, token: int) -> float:
        drawn, pairs = self._next_token(choice)
        if drawn != token:
            raise EndpointError("the server wrote another token than the only one allowed: it ignores the restriction")
        return top_window(pairs, 1, drawn=dict(pairs)[drawn]).log_probs[token]

    def _next_token(self, choice: Field) -> tuple[int, list[tuple[int, float]]]:
        """The drawn token, and all tokens that are named with it."""
        logprobs = choice.at("logprobs")
        drawn = self._id(logprobs.at("tokens").places(1)[0].text(), "choices[0].logprobs.tokens[0]")
        (named,) = logprobs.at("top_logprobs").places(1)
        pairs = [(self._id(name, named.name), value.log_prob()) for name, value in named.members().items()]
        if drawn not in dict(pairs):
            raise EndpointError(f"{named.name} lacks the drawn token")
        require_agreement(dict(pairs)[drawn], logprobs.at("token_logprobs").places(1)[0].log_prob())
        return drawn, pairs

    def _prompt_window(self, choice: Field, prompt: Sequence[int], place: int, top_k: int) -> Window:
        """What is named at one place of the prompt: the token that stands there, and the likeliest."""
        named = choice.at("prompt_logprobs").places(len(prompt))[place]
        members = {self._id(f"token_id:{name}", named.name): value for name, value in named.members().items()}
        pairs = [(token, value.at("logprob").log_prob()) for token, value in members.items()]
        if prompt[place] not in members:
            raise EndpointError(f"{named.name} lacks the token that was sent")
        ranks = {rank.integer() for value in members.values() if (rank := value.maybe("rank")) is not None}
        if len(ranks) == len(members) and not ranks.issuperset(range(1, top_k + 1)):
            raise EndpointError(f"{named.name} lacks one of the {top_k} likeliest tokens")
        return top_window(pairs, top_k, drawn=dict(pairs)[prompt[place]])

    def _id(self, name: str, where: str) -> int:
        token = id_in(name, self._vocabulary)
        if token is None:
            raise EndpointError(f"{where} does not name tokens by number")
        return known(token, self._vocabulary)


def _read_version(answer: Any) -> str:
    return sanitized(f"vLLM {Field(value=answer).at('version').text()}")
