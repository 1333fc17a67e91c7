"""Steps of a private training: DP-SGD (Abadi et al. 2016, algorithm 1) with Poisson sampling.

Each step draws every row on its own with the same chance, clips the gradient of each drawn row, adds Gaussian noise to
their sum and divides by the expected number of rows. A draw may be empty; its step is taken all the same, with noise
alone, because leaving it out would tell that nobody was drawn.

Draws and noise are functions of a key and the step, so a killed training goes on exactly. The key is the audit's own,
mixed with a digest of the training: other data, weights or settings get other noise, or the difference of two models
trained under one key would show what the noise should hide. Whoever holds the audit's key can take the noise off again:
it is kept where the secrets are, and no result holds it. The generators are torch's and numpy's, which are statistical
and not cryptographic.
"""

import hashlib
import hmac
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer

from canary_audit.config import PrivacyConfig, TrainingConfig
from canary_audit.errors import ConfigError, ModelError
from canary_audit.results import Accounting, NotAvailable
from canary_audit.rundir import derive_seed
from canary_audit.training.accounting import noise_multiplier_for, spent
from canary_audit.training.loss import StepLoss, batch_of
from canary_audit.training.per_row import check_rows, per_row_gradients
from canary_audit.training.processes import Processes
from canary_audit.training.stream import TokenRows

_ROWS_CHECKED = 3


class PrivateSteps:
    """Noisy sums of clipped gradients.

    Args:
        key: what draws and noise derive from: secret, and of this training alone.

    Raises:
        ConfigError: the expected batch is larger than the data, or delta promises nothing.
        ModelError: the gradients of single rows cannot be had exactly from this network.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        rows: TokenRows,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainingConfig,
        privacy: PrivacyConfig,
        seed: int,
        key: bytes,
        processes: Processes,
    ) -> None:
        self._rows = rows
        self._config = config
        self._privacy = privacy
        self._seed = seed
        self._key = key
        self._processes = processes
        self._weights: list[Any] = [weight for weight in network.parameters() if weight.requires_grad]
        _require_sensible(rows, config, privacy)
        self.per_epoch = max(1, round(rows.n_rows / config.batch_size))
        self._sampling_rate = config.batch_size / rows.n_rows
        self._noise_multiplier = noise_multiplier_for(
            privacy, sampling_rate=self._sampling_rate, steps=self.per_epoch * config.epochs
        )
        network.train()
        few = np.arange(min(_ROWS_CHECKED, rows.n_rows))
        check_rows(network, *batch_of(rows, few, processes.device))
        self._gradients = per_row_gradients(
            network, privacy.clipping, clip_norm=config.clip_norm, scale=rows.context_tokens
        )
        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self._noise_multiplier,
            max_grad_norm=config.clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
            generator=torch.Generator(processes.device),
        )

    def take(self, step: int) -> StepLoss:
        """Make the update number `step`, counted from 0."""
        processes = self._processes
        drawn = self._draw(step)
        own = drawn[processes.index :: processes.count]
        for weight in self._weights:
            weight.summed_grad = torch.zeros_like(weight)
        nats = torch.tensor([self._add_rows(own, step)], dtype=torch.float64)
        total = processes.add_up(nats).item()
        if not math.isfinite(total):
            raise ModelError(
                f"training diverged at step {step + 1} of {self.per_epoch * self._config.epochs}: the loss is not "
                "finite; lower [training] learning_rate"
            )
        for weight in self._weights:
            processes.add_up(weight.summed_grad)
        # Every process adds the same noise to the same sum.
        self._optimizer.generator.manual_seed(self._secret_seed("noise", step))
        self._optimizer.add_noise()
        for weight in self._weights:
            weight.grad /= self._config.batch_size
        self._optimizer.original_optimizer.step()
        return StepLoss(nats=total, tokens=int(self._rows.lengths[drawn].sum()))

    def accounting(self, steps: int, unit: str) -> Accounting | NotAvailable:
        """What `steps` steps promise, for one `unit` of data each row is."""
        spending = spent(
            noise_multiplier=self._noise_multiplier,
            sampling_rate=self._sampling_rate,
            steps=steps,
            delta=self._privacy.delta,
            accountant=self._privacy.accountant,
        )
        if math.isinf(spending.epsilon):
            return NotAvailable(not_available="gradients were clipped, but no noise was added: epsilon is infinite")
        return Accounting(
            epsilon=spending.epsilon,
            delta=self._privacy.delta,
            unit=unit,
            n_units=self._rows.n_rows,
            noise_multiplier=self._noise_multiplier,
            clip_norm=self._config.clip_norm,
            sampling="Poisson",
            sampling_rate=self._sampling_rate,
            steps=steps,
            noise_only_steps=sum(not len(self._draw(step)) for step in range(steps)),
            accountant=spending.accountant,
        )

    def close(self) -> None:
        """Take the hooks out of the network."""
        self._gradients.close()
        for weight in self._weights:
            del weight.summed_grad

    def _add_rows(self, indices: NDArray[np.int64], step: int) -> float:
        """Add the clipped gradients of these rows, a few at a time; returns their summed loss in nats."""
        device, most = self._processes.device, self._privacy.physical_rows
        nats = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self._seed, "train-step", step) + self._processes.index)
            for start in range(0, len(indices), most):
                few = indices[start : start + most]
                nats += float(self._gradients.add_clipped(*batch_of(self._rows, few, device)).double().sum())
        return nats

    def _draw(self, step: int) -> NDArray[np.int64]:
        """Rows of a step, each with the same chance, none oftener than once."""
        chance = np.random.Generator(np.random.Philox(self._secret_seed("rows", step)))
        return np.flatnonzero(chance.random(self._rows.n_rows) < self._sampling_rate)

    def _secret_seed(self, purpose: str, step: int) -> int:
        return int.from_bytes(keyed(self._key, f"{purpose}|{step}")[:8]) >> 1


def keyed(key: bytes, message: str) -> bytes:
    """32 bytes that only the holder of the key can know, and that tell nothing of it."""
    return hmac.digest(key, f"canary-audit dp-sgd|{message}".encode(), hashlib.sha256)


def _require_sensible(rows: TokenRows, config: TrainingConfig, privacy: PrivacyConfig) -> None:
    if config.batch_size >= rows.n_rows:
        raise ConfigError(
            f"[training] batch_size: {config.batch_size} of {rows.n_rows} rows in every step leaves nothing to sample; "
            "use less, or more data"
        )
    if privacy.delta * rows.n_rows >= 1:
        raise ConfigError(
            f"[privacy] delta: {privacy.delta:g} with {rows.n_rows} rows would allow to publish one of them; stay well "
            f"below {1 / rows.n_rows:.1g}"
        )
