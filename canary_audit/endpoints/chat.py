"""Chat completions: a conversation in, text out, and sometimes log-probabilities of the likeliest tokens.

A model behind a chat sees a text only between the words of its template. Where the API lets a client begin the
assistant's answer (`prefill`), that beginning is the text so far.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from canary_audit.endpoints.answers import Field, require_agreement, top_window
from canary_audit.endpoints.choices import models_request, read_choices
from canary_audit.endpoints.dialect import Api, Request, Window
from canary_audit.endpoints.prompts import integers, n_tokens_of, names_at_once, spaced, text_of
from canary_audit.endpoints.token_names import TokenNames
from canary_audit.errors import EndpointError
from canary_audit.models.interface import FloatArray
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary

Prefill = Literal["none", "plain", "vllm"]
"""How the assistant's answer is begun: not at all, by a last message of its own, or so with vLLM's switches."""

INSTRUCTION: Final = "Continue the text."
USUAL_TOP_K: Final = 20
"""Likeliest tokens that the original API gives at most."""

_PATH = "/v1/chat/completions"
_CONTINUED: Final = {
    "continue_final_message": True,
    "add_generation_prompt": False,
    "return_tokens_as_token_ids": True,
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
}


class ChatDialect:
    """See `Dialect`."""

    api: Api = "chat"

    def __init__(
        self,
        model: str,
        vocabulary: Vocabulary | None,
        top_k: int = USUAL_TOP_K,
        *,
        prefill: Prefill = "none",
        instruction: str = INSTRUCTION,
    ) -> None:
        """Speak to one model.

        Args:
            prefill: without one, the prefix is what the user says, and the model only writes.
            instruction: what the user says before an answer that is begun.
        """
        self._model = model
        self._vocabulary = vocabulary
        self._names = TokenNames(vocabulary)
        self._top_k = names_at_once(top_k, vocabulary)
        self._prefill = prefill
        self._instruction = instruction
        self.tiers: tuple[Tier, ...] = ("text-only",) if prefill == "none" else ("top-k", "text-only")

    def identity(self) -> Sequence[Request[str]]:
        """See `Dialect.identity`."""
        return [models_request()]

    def window(self, prefix: Sequence[int], wanted: Sequence[int], *, tier: Tier) -> Request[Window]:
        """See `Dialect.window`. The prefix is sent as a text.

        Raises:
            EndpointError: no answer can be begun here, or there is no such text.
        """
        if self._prefill == "none":
            raise EndpointError(
                "a chat without a prefill gives no log-probabilities of a text: only its writing is seen"
            )
        required = tuple(integers(wanted))
        body = {**self._conversation(text_of(prefix, self._vocabulary)), "max_tokens": 1, "temperature": 1}
        return Request(
            path=_PATH,
            body={**body, "logprobs": True, "top_logprobs": self._top_k},
            n_tokens=self._n_sent(len(prefix)) + 1,
            read=lambda answer: self._read_top(answer, required),
            order=tuple(integers(prefix)),
        )

    def forced(self, prefix: Sequence[int], token: int) -> Request[float]:
        """Not offered.

        Raises:
            EndpointError: always.
        """
        raise EndpointError("a chat does not score a token of one's choice")

    def score(self, tokens: Sequence[int], start: int) -> Request[FloatArray]:
        """Not offered.

        Raises:
            EndpointError: always.
        """
        raise EndpointError("a chat does not score a text")

    def write(self, prefix: str, *, max_tokens: int, temperature: float, n: int, seed: int) -> Request[tuple[str, ...]]:
        """See `Dialect.write`."""
        body = {
            **self._conversation(prefix),
            **{"max_tokens": max_tokens, "temperature": temperature, "n": n, "seed": spaced(seed, n)},
        }
        n_prefix = n_tokens_of(prefix, self._vocabulary)
        begun = "" if self._prefill == "none" else prefix
        return Request(
            path=_PATH,
            body=body,
            n_tokens=self._n_sent(n_prefix) + n * max_tokens,
            # Some servers (llama.cpp) repeat the beginning of the answer.
            read=lambda answer: tuple(_read_text(choice).removeprefix(begun) for choice in read_choices(answer, n)),
        )

    def _conversation(self, text: str) -> dict[str, Any]:
        if self._prefill == "none":
            messages = [{"role": "user", "content": text}]
        else:
            messages = [
                {"role": "user", "content": self._instruction},
                {"role": "assistant", "content": text},
            ]
        switches = _CONTINUED if self._prefill == "vllm" else {}
        return {"model": self._model, "messages": messages, "top_p": 1, **switches}

    def _n_sent(self, n_prefix: int) -> int:
        """Tokens of what is sent; a template adds more, which nobody outside can count."""
        return n_prefix + (0 if self._prefill == "none" else n_tokens_of(self._instruction, self._vocabulary))

    def _read_top(self, answer: Any, required: Sequence[int]) -> Window:
        (choice,) = read_choices(answer, 1)
        drawn = choice.at("logprobs", "content").places(1)[0]
        log_prob = drawn.at("logprob").log_prob()
        pairs = [
            (self._token(entry, required), entry.at("logprob").log_prob())
            for entry in drawn.at("top_logprobs").places()
        ]
        named, found = self._token(drawn, ()), dict(pairs)
        if named is not None and named in found:
            require_agreement(found[named], log_prob)
        return top_window(pairs, self._top_k, drawn=log_prob, drawn_displaces=True)

    def _token(self, entry: Field, required: Sequence[int]) -> int | None:
        raw = entry.maybe("bytes")
        spelled = None if raw is None else bytes(_byte(place) for place in raw.places())
        return self._names.token(entry.at("token").text(), required, spelled)


def _byte(place: Field) -> int:
    value = place.integer()
    if value > 255:
        raise place.is_not("a byte")
    return value


def _read_text(choice: Field) -> str:
    """What was written: nothing, if the message has no content."""
    content = choice.at("message", "content")
    return "" if content.value is None else content.text()
