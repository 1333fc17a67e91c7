"""The training loop: AdamW, a short warm-up, then a constant learning rate; on all weights, or on adapters.

With `precision = "bf16"` the products of a step's forward and backward passes are taken in bf16. Weights, updates, the
loss, and everything that is measured stay in fp32.

Nothing in a step depends on the steps taken before it in the same process: the order of the rows is keyed by (seed,
epoch) and dropout by (seed, step). Together with the checkpoints this makes a killed and resumed training end, bit for
bit, with the weights of an undisturbed one (on the same processor, torch version and number of threads; on a GPU only
as far as its kernels repeat themselves).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from canary_audit.config import TrainingConfig
from canary_audit.errors import ConfigError, ModelError
from canary_audit.models.determinism import reproducible
from canary_audit.results import EpochResult, NotAvailable
from canary_audit.rundir import canonical_json, derive_seed, digest
from canary_audit.training.adapters import LowRankAdapters
from canary_audit.training.checkpoint import Progress, load_checkpoint, save_checkpoint, weights_sha256
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.stream import TokenRows

OnEpoch = Callable[[int, float], EpochResult]
"""(epoch from 1, training bits per token) -> what to record of it; called in evaluation mode."""
OnStep = Callable[[int, int], None]
"""(steps done, steps in all)."""

_WARM_UP_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What training did; the weights are in the network it was given."""

    steps: int
    tokens: int
    """Tokens that reached the loss, over all epochs."""
    epochs: tuple[EpochResult, ...]


def training_loss_only(epoch: int, training_bits_per_token: float) -> EpochResult:
    """Record an epoch without measuring anything."""
    return EpochResult(
        epoch=epoch,
        training_bits_per_token=training_bits_per_token,
        validation_bits_per_char=NotAvailable(not_available="validation loss was not measured"),
        exposure_by_level={},
    )


def train(
    network: torch.nn.Module,
    rows: TokenRows,
    *,
    config: TrainingConfig,
    seed: int,
    checkpoint_dir: Path | None = None,
    on_epoch: OnEpoch = training_loss_only,
    on_step: OnStep | None = None,
) -> TrainedModel:
    """Train `network` in place on `rows`, and leave it in evaluation mode on the configured device.

    With `method = "lora"`, adapters are in the network meanwhile, and merged into its weights at the end.

    With a `checkpoint_dir`, progress is saved there every `checkpoint_every_steps` steps and after each epoch, and an
    interrupted training goes on from there; call it with the same network as at first, freshly initialized. `on_epoch`
    runs again for an epoch whose end was not saved. The folder is the caller's to delete when training is done.

    Raises:
        ConfigError: the device or peft is not there, the network takes no adapters, or several processes were started.
        ModelError: training diverged.
        RunError: the checkpoint is damaged or belongs to another training.
    """
    with reproducible(config.threads, config.device):
        adapters = LowRankAdapters(network, config.lora_rank, seed) if config.method == "lora" else None
        training = _Training(network, rows, config, seed, checkpoint_dir)
        for epoch in range(training.epochs_done + 1, config.epochs + 1):
            bits = training.run_epoch(epoch, on_step)
            training.finish_epoch(on_epoch(epoch, bits))
        network.eval()
        if adapters:
            adapters.merge()
        return training.summary()


class _Training:
    """Network, optimizer and position of one training."""

    def __init__(
        self, network: torch.nn.Module, rows: TokenRows, config: TrainingConfig, seed: int, folder: Path | None
    ) -> None:
        self._rows = rows
        self._config = config
        self._seed = seed
        self._folder = folder
        self._inputs_sha256 = _inputs_sha256(network, rows, config, seed) if folder else ""
        self._accelerator = _accelerator(config.device)
        self._network = self._accelerator.prepare_model(network)
        self._weights = [weight for weight in self._network.parameters() if weight.requires_grad]
        self._optimizer = self._accelerator.prepare_optimizer(
            torch.optim.AdamW(self._weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        )
        self._steps_per_epoch = math.ceil(rows.n_rows / config.batch_size)
        self._n_steps = self._steps_per_epoch * config.epochs
        progress = Progress()
        if folder:
            progress = load_checkpoint(folder, self._inputs_sha256, self._network, self._optimizer)
        self._step, self._epoch_nats, self._history = progress.step, progress.epoch_nats, progress.history

    @property
    def epochs_done(self) -> int:
        return len(self._history)

    def run_epoch(self, epoch: int, on_step: OnStep | None) -> float:
        """Take the steps of this epoch that are still to be taken; returns its training loss in bits per token."""
        self._network.train()
        order = self._order(epoch)
        first_step = (epoch - 1) * self._steps_per_epoch
        while self._step < first_step + self._steps_per_epoch:
            start = (self._step - first_step) * self._config.batch_size
            self._epoch_nats += self._take_step(order[start : start + self._config.batch_size])
            self._step += 1
            if on_step:
                on_step(self._step, self._n_steps)
            if self._step % self._config.checkpoint_every_steps == 0:
                self._save()
        self._network.eval()
        return self._epoch_nats / self._rows.n_tokens / math.log(2)

    def finish_epoch(self, result: EpochResult) -> None:
        self._history = (*self._history, result)
        self._epoch_nats = 0.0
        self._save()

    def summary(self) -> TrainedModel:
        return TrainedModel(steps=self._step, tokens=self._rows.n_tokens * len(self._history), epochs=self._history)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        key = derive_seed(self._seed, "train-order", epoch)
        return np.random.Generator(np.random.Philox(key)).permutation(self._rows.n_rows)

    def _take_step(self, indices: NDArray[np.int64]) -> float:
        """One update; returns the summed loss of its rows in nats."""
        config, device = self._config, self._accelerator.device
        tokens, lengths = batch_of(self._rows, indices, device)
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * self._warm_up()
        self._optimizer.zero_grad()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self._seed, "train-step", self._step))
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                nats = row_losses_nats(self._network, tokens, lengths).sum()
        # A constant, not the batch's own token count: a row's gradient must not depend on its neighbours.
        self._accelerator.backward(nats / (config.batch_size * self._rows.context_tokens))
        norm = self._accelerator.clip_grad_norm_(self._weights, config.clip_norm)
        if not math.isfinite(norm):
            raise ModelError(
                f"training diverged at step {self._step + 1} of {self._n_steps}: the gradient is not finite; "
                "lower [training] learning_rate"
            )
        self._optimizer.step()
        return nats.item()

    def _warm_up(self) -> float:
        return min(1.0, (self._step + 1) / max(1.0, _WARM_UP_SHARE * self._n_steps))

    def _save(self) -> None:
        if self._folder:
            progress = Progress(step=self._step, epoch_nats=self._epoch_nats, history=self._history)
            save_checkpoint(self._folder, self._inputs_sha256, progress, self._network, self._optimizer)


def _accelerator(device: str) -> Accelerator:
    """The one device asked for, or `ConfigError`."""
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    if accelerator.num_processes != 1:
        raise ConfigError(
            f"training was started in {accelerator.num_processes} processes; it runs in one: start it without torchrun"
        )
    try:
        asked = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"[training] device: '{device}' is not a device; write cpu, cuda or mps") from None
    if (asked.type, asked.index or 0) != (accelerator.device.type, accelerator.device.index or 0):
        raise ConfigError(f"[training] device: {device} is not available, this machine offers {accelerator.device}")
    return accelerator


def _inputs_sha256(network: torch.nn.Module, rows: TokenRows, config: TrainingConfig, seed: int) -> str:
    """Digest of everything the trained weights depend on."""
    inputs = {
        "config": config.model_dump(mode="json"),
        "initial_weights": weights_sha256(network),
        "rows": rows.sha256(),
        "seed": seed,
        "torch": torch.__version__,
    }
    return digest(canonical_json(inputs))
