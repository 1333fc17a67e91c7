"""Options about served models, and what they stand for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from canary_audit.errors import ConfigError, RunError

if TYPE_CHECKING:
    from canary_audit.config import MeasuringConfig

ApiName = Literal["vllm", "sglang", "llamacpp", "openai", "chat"]
ServedTier = Literal["chosen-tokens", "prompt-logprobs", "top-k", "text-only"]

EndpointOption = Annotated[
    str | None, typer.Option("--endpoint", help="URL of a served model: https://host/v1 or http://host:port.")
]
ApiOption = Annotated[ApiName | None, typer.Option("--api", help="What the endpoint speaks; `doctor` finds out.")]
TierOption = Annotated[
    ServedTier | None, typer.Option("--tier", help="What the endpoint must give; the best that it does if not given.")
]
TokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", help="The served model's tokenizer, if --model names none: a folder, file or name."),
]
ApiKeyOption = Annotated[str | None, typer.Option("--api-key", help="The endpoint's key: env:NAME or file:PATH.")]
MaxCallsOption = Annotated[int | None, typer.Option("--max-calls", help="Requests to send at most.", min=1)]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", help="Tokens to send and ask for, at most.", min=1)
]


def served_settings(override: list[str] | None, max_calls: int | None, max_tokens: int | None) -> "MeasuringConfig":
    """The defaults, with `--set` and the two budgets."""
    from canary_audit.config import measuring_config

    given = list(override or ())
    given += [] if max_calls is None else [f"endpoint.max_calls={max_calls}"]
    given += [] if max_tokens is None else [f"endpoint.max_tokens={max_tokens}"]
    return measuring_config(tuple(given))


def find_tokenizer(
    given: str | None, model: str, ledger: Path | None, *, api: str | None, tier: str | None
) -> str | None:
    """The tokenizer of a served model: the given one, that of the model's own name, or the one beside the ledger.

    Raises:
        ConfigError: there is none, and more is asked of the model than to write text.
    """
    from canary_audit.errors import ModelError
    from canary_audit.models.resolve import resolve_tokenizer

    if given is not None or tier == "text-only":
        return given
    if ledger is not None and not _is_here(model) and (ledger.parent / "model" / "tokenizer.json").is_file():
        return str(ledger.parent / "model")
    try:
        resolve_tokenizer(model)
    except ModelError:
        if api == "chat":
            return None
        raise ConfigError(
            f"--model {model}: its tokenizer is not at hand; give it with --tokenizer (a folder, a .gguf file or a "
            "name on the hub), or ask for text alone with --tier text-only"
        ) from None
    return model


def _is_here(model: str) -> bool:
    """Whether a name is also that of a file or folder; servers may use names that no file could have."""
    try:
        return Path(model).exists()
    except OSError:
        return False


def named_api(api: ApiName | None) -> ApiName:
    """The API that was named.

    Raises:
        BadParameter: none was.
    """
    if api is None:
        raise typer.BadParameter(
            "say what the endpoint speaks with --api; `canary-audit doctor --endpoint URL` finds out"
        )
    return api


def journal_in(folder: Path) -> Path:
    """Where a run directory keeps the answers of an endpoint: beside the key, for what a model writes may be secret.

    Raises:
        RunError: the folder is a link, or cannot be made or closed to others.
    """
    kept = folder / "secrets"
    try:
        kept.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(kept, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(
            f"{kept}: must be a folder of this run, closed to others, and is not: {error.strerror}; use another --out"
        ) from None
    return kept / "answers.sqlite"
