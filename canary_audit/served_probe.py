"""What an endpoint can be shown to give, tier by tier, before anyone decides how to audit it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import parse_address, read_api_key
from canary_audit.endpoints.apis import dialect_for
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.control import CONTROL_TEXT
from canary_audit.endpoints.dialect import Api, Request, T
from canary_audit.endpoints.failures import RefusedError, UnreachableError
from canary_audit.endpoints.offers import Offer, offers_of
from canary_audit.endpoints.probe import prove
from canary_audit.errors import ConfigError, EndpointError, ModelError
from canary_audit.models.load import load_tokenizer_alone
from canary_audit.models.resolve import resolve_tokenizer
from canary_audit.models.tokenizer import document_start
from canary_audit.results import Tier
from canary_audit.vocabulary import Vocabulary, vocabulary_of

_TELLS: Mapping[Api, str] = {"vllm": "/version", "sglang": "/get_model_info", "llamacpp": "/props"}
"""A path that only servers of this API answer."""

_LONGEST_NAME = 200
"""Characters of a model's name: a server could send megabytes, and the name is sent back with every request."""


def probe_endpoint(
    url: str,
    *,
    api: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    api_key: str | None = None,
    config: EndpointConfig | None = None,
) -> Iterator[tuple[str, str]]:
    """(what, finding) of everything the endpoint was tried for.

    Args:
        api: None to find out.
        model: None for the first that the endpoint names.
        tokenizer: None for that of the model's own name, if it is at hand. A name that only the server gave is looked
            for in this machine's folders, and never on the hub.

    Raises:
        ConfigError: the address, the API or the key cannot be used.
        EndpointError: the endpoint cannot be reached, or wants another key.
        ModelError: there is no such tokenizer.
    """
    config = config or EndpointConfig()
    address = parse_address(url)
    budget = Budget(max_calls=config.max_calls, max_tokens=config.max_tokens)
    yield "endpoint", str(address)
    with Client(address, read_api_key(api_key), config, journal=None, budget=budget) as client:
        own = None if api else _own_api(client)
        name = model or _first_model(client)
        spoken = _api(api) if api else own or _common_api(client, name, config)
        yield "api", spoken if api else f"{spoken} (by what it answers)"
        yield "model", name
        vocabulary, lead, found = _load(tokenizer) if tokenizer else _tokenizer_of(name, named=model is not None)
        yield "tokenizer", found
        for request in dialect_for(spoken, model=name, vocabulary=vocabulary, config=config).identity():
            yield "identity", f"{request.path}: {_get(client, request) or 'not answered'}"
        for tier, offers in _tiers(spoken, name, vocabulary, config):
            yield from _tried(client, tier, offers, vocabulary, lead)
        yield "requests", f"{client.calls:,} answered, {client.tokens:,} tokens"


def _tiers(
    api: Api, name: str, vocabulary: Vocabulary | None, config: EndpointConfig
) -> Iterator[tuple[Tier, tuple[Offer, ...]]]:
    """Every tier that the API may turn out to offer, the best first, and the ways to ask for it."""
    tiers: tuple[Tier, ...] = get_args(Tier)
    for tier in tiers:
        try:
            yield tier, offers_of(api, model=name, vocabulary=vocabulary, config=config, tier=tier)
        except EndpointError:
            continue


def _tried(
    client: Client, tier: Tier, offers: tuple[Offer, ...], vocabulary: Vocabulary | None, lead: tuple[int, ...]
) -> Iterator[tuple[str, str]]:
    try:
        proof = prove(client, offers, vocabulary, lead=lead)
    except EndpointError as error:
        if isinstance(error, UnreachableError):
            raise
        yield tier, f"no: {error}"
        return
    yield tier, "yes"
    for finding in proof.findings:
        if finding.name != "identity":  # said once, before the tiers
            yield f"  {finding.name}", finding.detail if finding.holds else f"no: {finding.detail}"


def _api(name: str) -> Api:
    apis: tuple[Api, ...] = get_args(Api)
    for api in apis:
        if api == name:
            return api
    raise ConfigError(f"--api {name}: one of {', '.join(get_args(Api))}")


def _own_api(client: Client) -> Api | None:
    """By the paths that an endpoint answers; None if it answers none of them."""
    for api, path in _TELLS.items():
        if _get(client, Request(path=path, body=None, n_tokens=0, read=lambda found: isinstance(found, dict))):
            return api
    return None


def _common_api(client: Client, name: str, config: EndpointConfig) -> Api:
    """OpenAI's completions, or its chat where only that writes."""
    apis: tuple[Api, ...] = ("openai", "chat")
    for api in apis:
        dialect = dialect_for(api, model=name, vocabulary=None, config=config)
        request = dialect.write(CONTROL_TEXT, max_tokens=1, temperature=0.0, n=1, seed=0)
        if _get(client, request, needs_key=True) is not None:
            return api
    return "openai"


def _first_model(client: Client) -> str:
    name = _get(client, Request(path="/v1/models", body=None, n_tokens=0, read=_read_first_name), needs_key=True)
    if name is None:
        raise EndpointError("the endpoint does not say what it serves (/v1/models): give the name with --model")
    return name


def _read_first_name(found: Any) -> str:
    name = found["data"][0]["id"]
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise EndpointError("the first model has no usable name")
    return name


def _get(client: Client, request: Request[T], *, needs_key: bool = False) -> T | None:
    """The answer; None if the endpoint gives none.

    Raises:
        EndpointError: it cannot be reached, or wants another key and `needs_key`.
    """
    try:
        return client.ask([request])[0]
    except EndpointError as error:
        is_locked = isinstance(error, RefusedError) and error.status in {401, 403}
        if isinstance(error, UnreachableError) or (is_locked and needs_key):
            raise
        return None


def _load(name: str) -> tuple[Vocabulary, tuple[int, ...], str]:
    """Vocabulary, tokens before a document, and what to say of them."""
    tokenizer = load_tokenizer_alone(resolve_tokenizer(name))
    start = document_start(tokenizer)
    return vocabulary_of(tokenizer), () if start is None else (start,), name


def _tokenizer_of(name: str, *, named: bool) -> tuple[Vocabulary | None, tuple[int, ...], str]:
    """That of a served model's own name, if it is at hand. A name the user did not give sends nobody to the hub."""
    try:
        if named or Path(name).is_dir():
            return _load(name)
    except (ModelError, OSError):  # a server may use names that no file could have
        pass
    return None, (), "none at hand, so only text is tried: give it with --tokenizer"
