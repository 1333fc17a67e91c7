"""The dialect of an API."""

from typing import Final, Literal, get_args

from canary_audit.config import EndpointConfig
from canary_audit.endpoints import chat, openai
from canary_audit.endpoints.dialect import Api, Dialect
from canary_audit.endpoints.llamacpp import LlamaCppDialect
from canary_audit.endpoints.sglang import SglangDialect
from canary_audit.endpoints.vllm import VllmDialect
from canary_audit.vocabulary import Vocabulary

APIS: Final[tuple[Api, ...]] = get_args(Api)


def dialect_for(
    api: Api,
    *,
    model: str,
    vocabulary: Vocabulary | None,
    config: EndpointConfig,
    prefill: chat.Prefill = "none",
    echo_max_tokens: Literal[0, 1] = 0,
) -> Dialect:
    """The dialect of an API, for one model.

    Args:
        model: the name under which it is served.
        vocabulary: of its tokenizer; None leaves `text-only`.
        config: its `top_k` is lowered to what OpenAI's own APIs allow, unless it was set.
        prefill: see `chat.ChatDialect`.
        echo_max_tokens: see `openai.OpenAiDialect`.
    """
    top_k = config.top_k
    is_set = "top_k" in config.model_fields_set
    match api:
        case "vllm":
            return VllmDialect(model, vocabulary, top_k)
        case "sglang":
            return SglangDialect(model, vocabulary, top_k)
        case "llamacpp":
            return LlamaCppDialect(model, vocabulary, top_k)
        case "openai":
            top_k = top_k if is_set else min(top_k, openai.USUAL_TOP_K)
            return openai.OpenAiDialect(model, vocabulary, top_k, echo_max_tokens=echo_max_tokens)
        case "chat":
            top_k = top_k if is_set else min(top_k, chat.USUAL_TOP_K)
            return chat.ChatDialect(model, vocabulary, top_k, prefill=prefill)
