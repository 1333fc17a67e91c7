"""Completions in OpenAI's style: token ids or text in, log-probabilities of the likeliest tokens out, named by text.

Some servers also score a prompt that they repeat (`echo`); others accept the word and ignore it, which the reader
notices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from canary_audit.endpoints.answers import Field, require_agreement, top_window
from canary_audit.endpoints.choices import models_request, read_choices
from canary_audit.endpoints.dialect import Api, Request, T, Window
from canary_audit.endpoints.prompts import integers, n_tokens_of, names_at_once, prompt_of, spaced
from canary_audit.endpoints.token_names import TokenNames
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary

USUAL_TOP_K: Final = 5
"""Likeliest tokens that the original API gives at most."""

_PATH = "/v1/completions"


class OpenAiDialect:
    """See `Dialect`."""

    api: Api = "openai"
    tiers: tuple[Tier, ...] = ("prompt-logprobs", "top-k", "text-only")

    def __init__(
        self,
        model: str,
        vocabulary: Vocabulary | None,
        top_k: int = USUAL_TOP_K,
        *,
        echo_max_tokens: Literal[0, 1] = 0,
    ) -> None:
        """Speak to one model.

        Args:
            echo_max_tokens: tokens written behind a prompt that is scored; 1 for servers that refuse to write none.
        """
        self._model = model
        self._vocabulary = vocabulary
        self._names = TokenNames(vocabulary)
        self._top_k = names_at_once(top_k, vocabulary)
        self._echo_max_tokens = echo_max_tokens

    def identity(self) -> Sequence[Request[str]]:
        """See `Dialect.identity`."""
        return [models_request()]

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """See `Dialect.window`. Where single tokens can be scored too, one that cannot be told by its text is left out;
        elsewhere the reader refuses it."""
        required = () if tier == "prompt-logprobs" else tuple(integers(wanted))
        return self._ask(
            prompt_of(prefix),
            {"max_tokens": 1, "logprobs": self._top_k},
            lambda logprobs: self._read_top(logprobs, required),
        )

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """See `Dialect.forced`."""
        sent = [*prompt_of(prefix), int(token)]
        return self._echo(sent, lambda logprobs: float(self._scores(logprobs, sent, len(sent) - 1)[0]))

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """See `Dialect.score`."""
        sent = prompt_of(tokens)
        return self._echo(sent, lambda logprobs: self._scores(logprobs, sent, start))

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """See `Dialect.write`."""
        body = {
            **{"model": self._model, "prompt": prefix, "max_tokens": max_tokens},
            **{"temperature": temperature, "top_p": 1, "n": n, "seed": spaced(seed, n)},
        }
        return Request(
            path=_PATH,
            body=body,
            n_tokens=n_tokens_of(prefix, self._vocabulary) + n * max_tokens,
            read=lambda answer: tuple(choice.at("text").text() for choice in read_choices(answer, n)),
        )

    def _ask(self, prompt: list[int], extra: Mapping[str, Any], read: Callable[[Field], T]) -> Request[T]:
        """A request whose log-probabilities are read."""
        # The seed: a token is drawn, and named beside the likeliest; the same question should get the same answer.
        body = {"model": self._model, "prompt": prompt, "temperature": 1, "top_p": 1, "seed": 0, **extra}
        return Request(
            path=_PATH,
            body=body,
            n_tokens=len(prompt) + int(extra["max_tokens"]),
            read=lambda answer: read(read_choices(answer, 1, n_prompt=len(prompt))[0].at("logprobs")),
            order=tuple(prompt),
        )

    def _echo(self, prompt: list[int], read: Callable[[Field], T]) -> Request[T]:
        return self._ask(prompt, {"max_tokens": self._echo_max_tokens, "echo": True, "logprobs": 1}, read)

    def _read_top(self, logprobs: Field, required: Sequence[int]) -> Window:
        drawn = logprobs.at("token_logprobs").places(1)[0].log_prob()
        (named,) = logprobs.at("top_logprobs").places(1)
        found = {name: value.log_prob() for name, value in named.members().items()}
        name = logprobs.at("tokens").places(1)[0].text()
        if name in found:
            require_agreement(found[name], drawn)
        pairs = [(self._names.token(name, required), log_prob) for name, log_prob in found.items()]
        return top_window(pairs, self._top_k, drawn=drawn, drawn_displaces=True)

    def _scores(self, logprobs: Field, sent: Sequence[int], start: int) -> FloatArray:
        """Log-probabilities of `sent[start:]` in an answer that repeats the prompt."""
        length = len(sent) + self._echo_max_tokens
        names = logprobs.at("tokens").places(length)
        for name, token in zip(names, sent, strict=False):
            if not self._names.is_name_of(name.text(), token):
                raise EndpointError(
                    f"{name.name} is not the token that was sent: the server does not repeat the prompt, or "
                    "--tokenizer is not the served model's"
                )
        values = logprobs.at("token_logprobs").places(length)
        values[0].require_null()
        return np.array([value.log_prob() for value in values[start : len(sent)]])
