"""What training starts from: a network and its tokenizer, fresh or pretrained."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from canary_audit.config import Config
from canary_audit.errors import ConfigError
from canary_audit.models.load import load_model
from canary_audit.models.networks import build_network
from canary_audit.models.resolve import resolve_files
from canary_audit.models.scoring import context_tokens
from canary_audit.models.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Start:
    """A network in fp32, on the CPU, and the tokenizer that goes with it."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"


def fresh(config: Config, unplanted: Iterable[str]) -> Start:
    """A built-in network with random weights, and a tokenizer of its own.

    `unplanted` is what the tokenizer is trained on: text without canaries, or it would learn the secrets.
    """
    tokenizer = train_tokenizer(unplanted, config.model.vocab_size, config.model.context_tokens)
    return Start(
        network=build_network(config.model, len(tokenizer), config.training.dropout, config.seed), tokenizer=tokenizer
    )


def pretrained(config: Config) -> Start:
    """The network and tokenizer that `[model] path` names.

    Raises:
        ModelError: there is no such model, or it cannot be loaded safely and whole.
        ConfigError: the configuration asks of it what it does not have.
    """
    files = resolve_files(config.model.path, revision=config.model.revision)
    loaded = load_model(files.folder, adapter=files.adapter)
    limit = context_tokens(loaded.network)
    if limit is not None and config.model.context_tokens > limit:
        raise ConfigError(
            f"[model] context_tokens: {config.model.path} reads {limit} tokens at most; set that, or less"
        )
    if config.training.dropout:
        raise ConfigError("[training] dropout: a pretrained model has its own, in its config.json; leave it out here")
    return Start(network=loaded.network, tokenizer=loaded.tokenizer)
