"""Low-rank adapters beside every linear layer but the output (LoRA, Hu et al. 2022), trained in place of the weights.

peft puts them into the network itself, so whoever holds the network trains it and scores it as before.
"""

import importlib
import importlib.util
import warnings
from typing import Any

import torch

from canary_audit.errors import ConfigError
from canary_audit.rundir import derive_seed

_SCALE = 2
"""An adapter's product is multiplied by alpha / rank; alpha is twice the rank, so the scale is 2 at every rank."""


class LowRankAdapters:
    """Adapters in `network`, which are all of it that can be trained until they are merged.

    Their first weights are a function of the seed; they change nothing until they are trained.

    Raises:
        ConfigError: peft is not installed, or the network has no linear layers to adapt.
    """

    def __init__(self, network: torch.nn.Module, rank: int, seed: int) -> None:
        if importlib.util.find_spec("peft") is None:
            raise ConfigError("[training] method: 'lora' needs peft: pip install 'canary-audit[peft]'")
        peft: Any = importlib.import_module("peft")
        device = next(network.parameters()).device
        recipe = peft.LoraConfig(r=rank, lora_alpha=_SCALE * rank, target_modules="all-linear")
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # between peft and transformers, or settled by peft itself
            torch.manual_seed(derive_seed(seed, "adapters"))
            try:
                self._adapted = peft.get_peft_model(network, recipe)
            except ValueError as error:
                raise ConfigError(
                    f"[training] method: {type(network).__name__} has no linear layers for adapters; use 'full'"
                ) from error
        self._network = network

    def merge(self) -> None:
        """Add what the adapters have learned to the weights, and take them out again."""
        self._adapted.merge_and_unload()
        self._network.requires_grad_(True)
