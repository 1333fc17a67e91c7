"""llama.cpp's own completions: token ids in, log-probabilities of the likeliest tokens and of the one written out.

Written against `tools/server` of llama.cpp (`populate_token_probs`, `process_token`). Log-probabilities are those of
the raw logits, whatever the sampler does. So a grammar that allows one sequence of tokens makes the server write it,
and tell its probability; it needs a server of late 2025 or later, which knows grammars of token ids.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from canary_audit.endpoints.answers import Field, require_agreement, sanitized, tokens_sent, top_window
from canary_audit.endpoints.choices import last_part, models_request
from canary_audit.endpoints.dialect import Api, Request, T, Window
from canary_audit.endpoints.prompts import n_tokens_of, names_at_once, prompt_of, spaced
from canary_audit.endpoints.token_names import is_text, known
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary

_PATH = "/completion"
_PLAIN: Final = {"samplers": ["temperature"], "cache_prompt": True}
"""Nothing that changes probabilities but the temperature."""
_WHOLE_CHARACTERS = r"root ::= [ -~\n]+"
"""The server says nothing about a token that ends inside a character, so it is made to draw another."""
_RANDOM_SEED = -1


class LlamaCppDialect:
    """See `Dialect`."""

    api: Api = "llamacpp"
    tiers: tuple[Tier, ...] = ("chosen-tokens", "prompt-logprobs", "top-k", "text-only")

    def __init__(self, model: str, vocabulary: Vocabulary | None, top_k: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._top_k = names_at_once(top_k, vocabulary)

    def identity(self) -> Sequence[Request[str]]:
        """See `Dialect.identity`."""
        return [Request(path="/props", body=None, n_tokens=0, read=_read_build), models_request()]

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """See `Dialect.window`. The server chooses in every tier: it gives the likeliest."""
        return self._ask(
            prompt_of(prefix),
            {"n_predict": 1, "n_probs": self._top_k, "grammar": _WHOLE_CHARACTERS},
            lambda written: self._named(written.places(1)[0], self._top_k),
        )

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """See `Dialect.forced`."""
        return self._forced_sequence(prompt_of(prefix), [int(token)], lambda log_probs: float(log_probs[0]))

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """See `Dialect.score`."""
        sent = prompt_of(tokens)
        return self._forced_sequence(sent[:start], sent[start:], lambda log_probs: log_probs)

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """See `Dialect.write`. A server writes no more texts of one prompt than it has slots, but takes any number of
        prompts: the text is sent `n` times. All have one seed, so that several must be left to chance."""
        body = {
            **_PLAIN,
            **{"prompt": [prefix] * n, "n_predict": max_tokens, "temperature": temperature},
            **{"seed": spaced(seed, n) if n == 1 else _RANDOM_SEED, "user": f"draw {seed}"},
        }

        def read(answer: Any) -> tuple[str, ...]:
            texts = [Field(value=answer)] if n == 1 else Field(value=answer).places(n)
            return tuple(text.at("content").text() for text in texts)

        n_tokens = n * (n_tokens_of(prefix, self._vocabulary) + max_tokens)
        return Request(path=_PATH, body=body, n_tokens=n_tokens, read=read)

    def _forced_sequence(self, prompt: list[int], tokens: list[int], read: Callable[[FloatArray], T]) -> Request[T]:
        """The server may write nothing but `tokens`, and stops behind them: `n_predict` is their number."""
        self._require_writable(tokens)
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in tokens)

        def checked(written: Field) -> T:
            return read(
                np.array(
                    [
                        self._log_prob_of(entry, token)
                        for entry, token in zip(written.places(len(tokens)), tokens, strict=True)
                    ]
                )
            )

        return self._ask(prompt, {"n_predict": len(tokens), "n_probs": 1, "grammar": grammar}, checked)

    def _require_writable(self, tokens: Sequence[int]) -> None:
        vocabulary = self._vocabulary
        if vocabulary is not None and not all(is_text(vocabulary.spelled(token)) for token in tokens):
            raise EndpointError(
                "llama.cpp cannot be made to write a special token, or one that ends inside a character: use formats "
                "of whole characters"
            )

    def _ask(self, prompt: list[int], extra: Mapping[str, Any], read: Callable[[Field], T]) -> Request[T]:
        """A request whose written tokens are read."""
        body = {**_PLAIN, "prompt": prompt, "temperature": 1.0, "post_sampling_probs": False, **extra}

        def checked(answer: Any) -> T:
            whole = Field(value=answer)
            tokens_sent(whole.at("tokens_evaluated"), len(prompt))
            if whole.maybe("completion_probabilities") is None:
                raise EndpointError(
                    "the answer has no completion_probabilities: a token ends inside a character, or the server is "
                    "older than 2025"
                )
            return read(whole.at("completion_probabilities"))

        n_tokens = len(prompt) + int(extra["n_predict"])
        return Request(path=_PATH, body=body, n_tokens=n_tokens, read=checked, order=tuple(prompt))

    def _log_prob_of(self, written: Field, token: int) -> float:
        written.at("id").require_equal(
            token, "the server wrote another token than the only one that the grammar allows"
        )
        # With speculative decoding the server claims certainty and names no token: `_named` refuses that.
        likeliest = self._named(written, 1)
        log_prob = written.at("logprob").log_prob()
        if log_prob > max(likeliest.log_probs.values()):
            raise EndpointError("the answer gives a token more than the likeliest one")
        return log_prob

    def _named(self, written: Field, top_k: int) -> Window:
        """The likeliest tokens in the place of a written one."""
        pairs = [
            (known(entry.at("id").integer(), self._vocabulary), entry.at("logprob").log_prob())
            for entry in written.at("top_logprobs").places()
        ]
        window = top_window(pairs, top_k, ordered=True)
        token = written.at("id").integer()
        if token in window.log_probs:
            require_agreement(window.log_probs[token], written.at("logprob").log_prob())
        return window


def _read_build(answer: Any) -> str:
    props = Field(value=answer)
    model = props.maybe("model_path")
    name = "" if model is None else last_part(model.text())
    return sanitized(f"llama.cpp {props.at('build_info').text()} {name}".strip())
