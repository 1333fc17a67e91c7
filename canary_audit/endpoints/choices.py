"""The frame that answers in OpenAI's style share: `choices`, `usage`, `model`."""

from typing import Any

from canary_audit.endpoints.answers import Field, sanitized, tokens_sent
from canary_audit.endpoints.dialect import Request


def read_choices(answer: Any, n: int, *, n_prompt: int | None = None, model: str | None = None) -> list[Field]:
    """The `n` choices of an answer.

    Args:
        n_prompt: tokens that were sent, where their number is known.
        model: the name that was asked for, where servers repeat it.

    Raises:
        EndpointError: there are more or fewer, another model answers, or the server read more or fewer tokens.
    """
    whole = Field(value=answer)
    if model is not None:
        whole.at("model").require_equal(model, "another model answers; see --model")
    usage = whole.maybe("usage")
    if usage is not None and n_prompt is not None:
        tokens_sent(usage.maybe("prompt_tokens"), n_prompt)
    return whole.at("choices").places(n)


def models_request() -> Request[str]:
    """Names of the models that a server has."""
    return Request(path="/v1/models", body=None, n_tokens=0, read=_read_models)


def last_part(name: str) -> str:
    """A name; of a path on the server, which is nobody's business here, its last part."""
    is_path = name.startswith(("/", "\\", ".")) or name[1:3] in {":/", ":\\"}
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else name


def _read_models(answer: Any) -> str:
    names = [last_part(entry.at("id").text()) for entry in Field(value=answer).at("data").places()]
    return sanitized(", ".join(names))
