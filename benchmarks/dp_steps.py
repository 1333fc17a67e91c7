"""Training steps to time: this package's own, plain and private, and Opacus as it comes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.layers import DPLSTM
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from canary_audit.config import ModelConfig, PrivacyConfig, TrainingConfig
from canary_audit.models.load import load_model
from canary_audit.models.networks import build_network
from canary_audit.models.recurrence import RowsApart
from canary_audit.training.adapters import LowRankAdapters
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.plain import PlainSteps
from canary_audit.training.private import PrivateSteps
from canary_audit.training.processes import this_process
from canary_audit.training.row_hooks import backward
from canary_audit.training.stream import TokenRows

Step = Callable[[int], int]
"""Number of the step -> tokens that it was taken on."""
BATCHES = 64
"""Batches in the data."""
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """A network to be trained on random tokens."""

    network: Callable[[], Any]
    """Builds it, always the same."""
    vocab_size: int
    batch_rows: int
    context_tokens: int
    method: Literal["full", "lora"] = "full"

    def rows(self) -> TokenRows:
        """Full rows, so that every token costs the same."""
        n_rows = BATCHES * self.batch_rows
        tokens = np.random.default_rng(SEED).integers(1, self.vocab_size, (n_rows, self.context_tokens + 1))
        return TokenRows(tokens=tokens.astype(np.uint32), lengths=np.full(n_rows, self.context_tokens, dtype=np.int32))

    @property
    def training(self) -> TrainingConfig:
        """How it is trained."""
        return TrainingConfig(batch_size=self.batch_rows, method=self.method)

    def trainable(self) -> Any:
        """The network, with adapters if it is to have them."""
        network = self.network()
        if self.method == "lora":
            LowRankAdapters(network, self.training.lora_rank, SEED)
        return network.train()


def built_in(kind: Literal["lstm", "llama"], **sizes: int) -> Callable[[], Any]:
    """A built-in network."""
    config = ModelConfig(kind=kind, **sizes)
    return lambda: build_network(config, config.vocab_size, 0.0, SEED)


def stored(folder: Path) -> Callable[[], Any]:
    """The network of a model folder."""
    return lambda: load_model(folder).network


def plain(job: Job, *, rows_apart: bool = False) -> Step:
    """Ordinary training; with `rows_apart`, on the LSTM that private training uses."""
    network = job.trainable()
    steps = PlainSteps(
        network, job.rows(), _optimizer(network), config=job.training, seed=SEED, processes=this_process("cpu")
    )
    apart = RowsApart(network)

    def take(step: int) -> int:
        if not rows_apart:
            return steps.take(step).tokens
        with apart:
            return steps.take(step).tokens

    return take


def private(job: Job, clipping: Literal["hooks", "ghost"]) -> Step:
    """DP-SGD as this package does it."""
    network = job.trainable()
    steps = PrivateSteps(
        network,
        job.rows(),
        _optimizer(network),
        config=job.training,
        privacy=PrivacyConfig(noise_multiplier=1.0, clipping=clipping),
        seed=SEED,
        key=b"benchmark",
        processes=this_process("cpu"),
    )
    return lambda step: steps.take(step).tokens


def opacus_alone(job: Job) -> Step:
    """Opacus' own module and optimizer around the network, on fixed batches; it works in place of the LSTM too."""
    network = GradSampleModule(job.trainable(), loss_reduction="sum")
    optimizer = DPOptimizer(
        _optimizer(network), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=job.batch_rows
    )
    rows = job.rows()

    def take(step: int) -> int:
        batch = np.arange(job.batch_rows) + step % BATCHES * job.batch_rows
        losses = row_losses_nats(network, *batch_of(rows, batch, torch.device("cpu")))
        optimizer.zero_grad()
        backward(losses.sum() / job.context_tokens)
        optimizer.step()
        return job.batch_rows * job.context_tokens

    return take


class DpLstmNetwork(nn.Module):
    """The built-in LSTM with Opacus' DPLSTM in place of nn.LSTM."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.embed_tokens = copy.deepcopy(like.embed_tokens)
        size, layers = like.config.hidden_size, like.config.num_hidden_layers
        self.lstm = DPLSTM(size, size, num_layers=layers, batch_first=True)
        self.lstm.load_state_dict(like.lstm.state_dict())
        self.lm_head = copy.deepcopy(like.lm_head)

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        """As the built-in one."""
        return SimpleNamespace(logits=self.lm_head(self.lstm(self.embed_tokens(input_ids))[0]))


def _optimizer(network: Any) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=1e-4, fused=True)
