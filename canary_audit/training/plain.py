"""Steps of an ordinary training: every row once an epoch, in an order keyed by (seed, epoch)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from canary_audit.config import TrainingConfig
from canary_audit.errors import ModelError
from canary_audit.rundir import derive_seed
from canary_audit.training.loss import StepLoss, batch_of, row_losses_nats
from canary_audit.training.mixup import mixed_row_losses_nats
from canary_audit.training.processes import Processes
from canary_audit.training.stream import TokenRows


class PlainSteps:
    """Gradients of one batch at a time, their norm clipped over the whole batch."""

    def __init__(
        self,
        network: torch.nn.Module,
        rows: TokenRows,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainingConfig,
        seed: int,
        processes: Processes,
    ) -> None:
        self._network = network
        self._rows = rows
        self._optimizer = optimizer
        self._config = config
        self._seed = seed
        self._processes = processes
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self.per_epoch = math.ceil(rows.n_rows / config.batch_size)

    def take(self, step: int) -> StepLoss:
        """Make the update number `step`, counted from 0."""
        config, processes = self._config, self._processes
        epoch, place = divmod(step, self.per_epoch)
        batch = self._order(epoch + 1)[place * config.batch_size : (place + 1) * config.batch_size]
        own = batch[processes.index :: processes.count]
        self._optimizer.zero_grad()
        total = torch.zeros(2, dtype=torch.float64)
        if len(own):
            nats = self._losses(own, step).sum()
            # A constant, not the batch's own token count: a row's gradient must not depend on its neighbours.
            torch.autograd.backward(nats / (config.batch_size * self._rows.context_tokens))
            total += torch.tensor([nats.item(), float(self._rows.lengths[own].sum())], dtype=torch.float64)
        self._add_up_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self._weights, config.clip_norm)
        if not math.isfinite(norm):
            raise ModelError(
                f"training diverged at step {step + 1} of {self.per_epoch * config.epochs}: the gradient is not "
                "finite; lower [training] learning_rate"
            )
        self._optimizer.step()
        nats_in_all, tokens = processes.add_up(total).tolist()
        return StepLoss(nats=nats_in_all, tokens=int(tokens))

    def close(self) -> None:
        """Nothing to take out of the network."""

    def _losses(self, indices: NDArray[np.int64], step: int) -> torch.Tensor:
        device = self._processes.device
        tokens, lengths = batch_of(self._rows, indices, device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self._seed, "train-step", step) + self._processes.index)
            with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
                if self._config.mixup_alpha:
                    return mixed_row_losses_nats(self._network, tokens, lengths, self._config.mixup_alpha)
                return row_losses_nats(self._network, tokens, lengths)

    def _add_up_gradients(self) -> None:
        if self._processes.count == 1:
            return
        for weight in self._weights:
            if weight.grad is None:  # this process had no row of the batch
                weight.grad = torch.zeros_like(weight)
            self._processes.add_up(weight.grad)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        key = derive_seed(self._seed, "train-order", epoch)
        return np.random.Generator(np.random.Philox(key)).permutation(self._rows.n_rows)
