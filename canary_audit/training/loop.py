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
from typing import Any

import torch

from canary_audit.config import PrivacyConfig, TrainingConfig
from canary_audit.models.determinism import reproducible
from canary_audit.results import Accounting, EpochResult, NotAvailable
from canary_audit.rundir import canonical_json, digest
from canary_audit.training.adapters import LowRankAdapters
from canary_audit.training.checkpoint import (
    Progress,
    load_checkpoint,
    restore,
    save_checkpoint,
    trained_tensors,
    weights_sha256,
)
from canary_audit.training.plain import PlainSteps
from canary_audit.training.private import PrivateSteps, keyed
from canary_audit.training.processes import Processes, all_processes, this_process
from canary_audit.training.stream import TokenRows

OnEpoch = Callable[[int, float], EpochResult]
"""(epoch from 1, training bits per token) -> what to record of it; called in evaluation mode."""
OnStep = Callable[[int, int], None]
"""(steps done, steps in all)."""

_WARM_UP_SHARE = 0.05
_NOT_PRIVATE = NotAvailable(not_available="trained without differential privacy")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, as far as the weights depend on it."""

    training: TrainingConfig
    seed: int
    privacy: PrivacyConfig | None = None
    key: bytes = b""
    """What a private training draws its rows and its noise from; a secret."""
    unit: str = "a row"
    """What one row of the data stands for, in the words of the result."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What training did; the weights are in the network it was given."""

    steps: int
    tokens: int
    """Tokens that reached the loss, over all epochs."""
    epochs: tuple[EpochResult, ...]
    accounting: Accounting | NotAvailable


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
    recipe: Recipe,
    *,
    checkpoint_dir: Path | None = None,
    on_epoch: OnEpoch = training_loss_only,
    on_step: OnStep | None = None,
    processes: Processes | None = None,
) -> TrainedModel:
    """Train `network` in place on `rows`, and leave it in evaluation mode on the configured device.

    With `method = "lora"`, adapters are in the network meanwhile, and merged into its weights at the end.

    With a `checkpoint_dir`, progress is saved there every `checkpoint_every_steps` steps and after each epoch, and an
    interrupted training goes on from there; call it with the same network as at first, freshly initialized. `on_epoch`
    runs again for an epoch whose end was not saved. The folder is the caller's to delete when training is done.

    Args:
        processes: all that take part; each calls this with the same network, rows and recipe, the first alone with a
            folder and with callbacks. Without it, this process is the only one.

    Raises:
        ConfigError: the device or peft is not there, the network takes no adapters, or the privacy asked for is none.
        ModelError: training diverged, or the network cannot be trained privately.
        RunError: the checkpoint is damaged or belongs to another training.
    """
    config = recipe.training
    with reproducible(config.threads, config.device):
        processes = processes or this_process(config.device)
        adapters = LowRankAdapters(network, config.lora_rank, recipe.seed) if config.method == "lora" else None
        training = _Training(network, rows, recipe, processes, checkpoint_dir)
        for epoch in range(training.epochs_done + 1, config.epochs + 1):
            bits = training.run_epoch(epoch, on_step)
            training.finish_epoch(on_epoch(epoch, bits))
        done = training.finish()
        if adapters:
            adapters.merge()
        return done


def train_together(network: torch.nn.Module, rows: TokenRows, recipe: Recipe, **options: Any) -> TrainedModel:
    """`train`, in all processes that torchrun started; the others must be in `follow`."""
    processes = all_processes(recipe.training.device)
    processes.share((network, rows, recipe))
    return train(network, rows, recipe, processes=processes, **options)


def follow(device: str) -> None:
    """Take part in the trainings of process 0 until it calls `dismiss`."""
    processes = all_processes(device)
    while (work := processes.share(None)) is not None:
        network, rows, recipe = work
        train(network, rows, recipe, processes=processes)


def dismiss(device: str) -> None:
    """Let the processes go that follow this one, if any."""
    all_processes(device).share(None)


class _Training:
    """Network, optimizer and position of one training."""

    def __init__(
        self,
        network: torch.nn.Module,
        rows: TokenRows,
        recipe: Recipe,
        processes: Processes,
        folder: Path | None,
    ) -> None:
        self._folder = folder
        training_id = _training_id(network, rows, recipe) if folder or recipe.privacy else ""
        self._inputs_sha256 = digest(training_id, _order_of_sums(recipe, processes))
        self._network = network.to(processes.device)
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        config = recipe.training
        self._config = config
        self._optimizer = torch.optim.AdamW(
            weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._progress = self._load(processes)
        self._recipe = recipe
        self._steps = _steps(network, rows, self._optimizer, recipe, processes, training_id)
        self._n_steps = self._steps.per_epoch * config.epochs

    @property
    def epochs_done(self) -> int:
        return len(self._progress.history)

    def run_epoch(self, epoch: int, on_step: OnStep | None) -> float:
        """Take the steps of this epoch that are still to be taken; returns its training loss in bits per token."""
        self._network.train()
        while self._progress.step < epoch * self._steps.per_epoch:
            self._take_step()
            if on_step:
                on_step(self._progress.step, self._n_steps)
            if self._progress.step % self._config.checkpoint_every_steps == 0:
                self._save()
        self._network.eval()
        return self._progress.epoch_nats / max(1, self._progress.epoch_tokens) / math.log(2)

    def finish_epoch(self, result: EpochResult) -> None:
        self._progress = self._progress.after_epoch(result)
        self._save()

    def finish(self) -> TrainedModel:
        """Take everything out of the network that training put in; returns what was done."""
        self._network.eval()
        self._steps.close()
        progress = self._progress
        return TrainedModel(
            steps=progress.step,
            tokens=progress.tokens,
            epochs=progress.history,
            accounting=(
                self._steps.accounting(progress.step, self._recipe.unit)
                if isinstance(self._steps, PrivateSteps)
                else _NOT_PRIVATE
            ),
        )

    def _take_step(self) -> None:
        step = self._progress.step
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * min(1.0, (step + 1) / max(1.0, _WARM_UP_SHARE * self._n_steps))
        self._progress = self._progress.after_step(self._steps.take(step))

    def _load(self, processes: Processes) -> Progress:
        """Where an interrupted training stands, in every process alike."""
        found = Progress()
        if self._folder:
            found = load_checkpoint(self._folder, self._inputs_sha256, self._network, self._optimizer)
        progress: Progress = processes.share(found)
        if processes.count > 1 and progress.step:
            restore(processes.share(trained_tensors(self._network, self._optimizer)), self._network, self._optimizer)
        return progress

    def _save(self) -> None:
        if self._folder:
            save_checkpoint(self._folder, self._inputs_sha256, self._progress, self._network, self._optimizer)


def _steps(
    network: torch.nn.Module,
    rows: TokenRows,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    processes: Processes,
    training_id: str,
) -> PlainSteps | PrivateSteps:
    if recipe.privacy is None:
        return PlainSteps(network, rows, optimizer, config=recipe.training, seed=recipe.seed, processes=processes)
    return PrivateSteps(
        network,
        rows,
        optimizer,
        config=recipe.training,
        privacy=recipe.privacy,
        seed=recipe.seed,
        key=keyed(recipe.key, training_id),
        processes=processes,
    )


def _training_id(network: torch.nn.Module, rows: TokenRows, recipe: Recipe) -> str:
    """Digest of everything the trained weights depend on, but for the order in which numbers are added."""
    inputs = {
        "config": recipe.training.model_dump(mode="json"),
        "initial_weights": weights_sha256(network),
        "rows": rows.sha256(),
        "seed": recipe.seed,
        "torch": torch.__version__,
        "privacy": recipe.privacy and recipe.privacy.model_dump(mode="json", exclude={"physical_rows"}),
        "key": recipe.privacy and keyed(recipe.key, "digest").hex(),
    }
    return digest(canonical_json(inputs))


def _order_of_sums(recipe: Recipe, processes: Processes) -> str:
    """What decides the last digits: the same training must go on with the same."""
    return f"{processes.count} processes, {recipe.privacy.physical_rows if recipe.privacy else 'all'} rows a pass"
