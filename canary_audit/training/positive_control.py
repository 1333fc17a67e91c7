"""The positive control: would this audit notice, had the model memorized?

A throwaway copy of the audited weights is taught a few fresh secrets, without any privacy mechanism, amid ordinary rows
so that it keeps its language. Scored like the audited model, the copy must give them away; if it does not, the audit
proves nothing. The audited model itself is not touched.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from canary_audit.config import TrainingConfig
from canary_audit.rundir import derive_seed
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import TokenRows, pack_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

OCCURRENCES = 32
"""How often the copy sees each control secret: as often as the highest level of the quickstart."""
_ORDINARY_PER_CONTROL_ROW = 3
_EPOCHS = 2
_BATCH_SIZE = 16
"""Fixed, so that a control under a large-batch configuration still takes enough steps to learn."""


def teach(
    network: torch.nn.Module,
    ordinary: TokenRows,
    *,
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerFast",
    config: TrainingConfig,
    seed: int,
) -> torch.nn.Module:
    """A copy of `network`, in evaluation mode, fine-tuned on each text amid rows of `ordinary`.

    Each text stands `OCCURRENCES` times among the rows, and those are read twice, by the configuration's method and at
    its learning rate. Weights in another precision are taught in fp32 and converted back.
    The texts are the control canaries whole, prefix and suffix included; `ordinary` are the rows that the audited model
    was trained on.
    """
    taught = copy.deepcopy(network)
    precisions = [weight.dtype for weight in taught.parameters()]
    _convert(taught, [torch.float32] * len(precisions))
    rows = _mixture(ordinary, texts, tokenizer, seed)
    recipe = config.model_copy(update={"epochs": _EPOCHS, "batch_size": _BATCH_SIZE, "dropout": 0.0})
    train(taught, rows, Recipe(training=recipe, seed=derive_seed(seed, "positive-control-training", 0)))
    _convert(taught, precisions)
    return taught


def _convert(network: torch.nn.Module, precisions: Sequence[torch.dtype]) -> None:
    """Weights alone: what a network keeps in fp32 beside bf16 weights, such as the angles of its positions, stays."""
    for weight, precision in zip(network.parameters(), precisions, strict=True):
        weight.data = weight.data.to(precision)


def _mixture(ordinary: TokenRows, texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", seed: int) -> TokenRows:
    """Every text in rows of its own, `OCCURRENCES` times, and a random draw of ordinary rows."""
    control = pack_documents(texts, tokenizer, ordinary.context_tokens, alone=frozenset(texts))
    control = control.select(np.tile(np.arange(control.n_rows), OCCURRENCES))
    draw = np.random.Generator(np.random.Philox(derive_seed(seed, "positive-control-rows", 0)))
    n_ordinary = min(ordinary.n_rows, _ORDINARY_PER_CONTROL_ROW * control.n_rows)
    return control.joined(ordinary.select(draw.choice(ordinary.n_rows, size=n_ordinary, replace=False)))
