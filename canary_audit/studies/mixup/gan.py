"""Generative adversarial networks (Zhang et al. 2018, section 3.7): does mixup steady their training?

A generator learns to imitate points of the plane against a discriminator that tells them from real ones. With mixup the
discriminator sees mixtures share * real + (1 - share) * generated and is asked for the share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as binary_cross_entropy

from canary_audit.studies.classifiers.datasets import FloatArray
from canary_audit.studies.classifiers.ensemble import Ensemble
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.mixup.gan_report import Course, section
from canary_audit.studies.mixup.plane import POINTS, Draw, energy_distance, spots_hit

GANS_PER_SEED: Final = 2
ALPHA: Final = 0.2
"""The paper's for this experiment."""
_NOISE: Final = 2
_HIDDEN: Final = (64, 64, 64)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train, and how often to look."""

    rounds: int = 800
    """Steps of the generator."""
    discriminator_steps: int = 2
    """Before each of them."""
    batch_size: int = 64
    learning_rate: float = 1e-3
    look_every: int = 40
    points_in_a_look: int = 500


def run(setting: Setting) -> Section:
    """Plain and mixup discriminators on all kinds of points, several pairs of networks for each seed."""
    budget = Budget()
    seeds = tuple(GANS_PER_SEED * seed + copy for seed in setting.seeds for copy in range(GANS_PER_SEED))
    courses = []
    for done, (name, alpha) in enumerate((("plain training", 0.0), ("mixup", ALPHA))):
        setting.progress(name, done, 2)
        courses.append(train(name, alpha, seeds, setting.device, budget))
    return section(courses, len(seeds), budget.rounds)


def train(name: str, alpha: float, seeds: tuple[int, ...], device: str, budget: Budget) -> Course:
    """One pair of networks for each kind of points and seed, all side by side."""
    gans = _Gans(alpha, seeds, device, budget)
    rounds, distances, hits = [], [], []
    for done in range(1, budget.rounds + 1):
        gans.advance()
        if done % budget.look_every == 0:
            distance, hit = gans.look()
            rounds.append(done)
            distances.append(distance)
            hits.append(hit)
    return Course(name=name, rounds=tuple(rounds), distance=np.stack(distances), spots=np.stack(hits))


def discriminator_loss(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, generated: Tensor, share: Tensor | None
) -> Tensor:
    """Sum over networks of the mean binary cross-entropy, in nats.

    Args:
        discriminator: points of shape (n_networks, n_points, 2) -> logits of being real, (n_networks, n_points).
        real, generated: points of that shape.
        share: of the real point in each mixture, shape (n_networks, n_points); None for no mixtures.
    """
    if share is not None:
        logits = discriminator(torch.lerp(generated, real, share[..., None]))
        return binary_cross_entropy(logits, share, reduction="none").mean(dim=1).sum()
    for_real, for_generated = discriminator(real), discriminator(generated)
    ones, zeros = torch.ones_like(for_real), torch.zeros_like(for_generated)
    both = binary_cross_entropy(for_real, ones, reduction="none") + binary_cross_entropy(
        for_generated, zeros, reduction="none"
    )
    return both.mean(dim=1).sum() / 2


class _Gans:
    """Generators and discriminators in training. All that is random comes from one generator that the seeds set."""

    def __init__(self, alpha: float, seeds: tuple[int, ...], device: str, budget: Budget) -> None:
        self._alpha, self._budget = alpha, budget
        self._draws: list[Draw] = [draw for draw in POINTS.values() for _ in seeds]
        self._random = np.random.default_rng(seeds)
        self._generators = Ensemble(lambda: mlp(_NOISE, 2, _HIDDEN), seeds * len(POINTS), device)
        self._discriminators = Ensemble(lambda: mlp(2, 1, _HIDDEN), seeds * len(POINTS), device)
        self._generator_steps = self._optimizer(self._generators)
        self._discriminator_steps = self._optimizer(self._discriminators)

    def advance(self) -> None:
        """One round: a few steps of the discriminators, one of the generators."""
        for _ in range(self._budget.discriminator_steps):
            with torch.no_grad():
                generated = self._generated(self._budget.batch_size)
            real = self._generators.tensor(self._real(self._budget.batch_size))
            self._step(
                self._discriminator_steps,
                discriminator_loss(self._logits, real, generated, self._share(real.shape[:2])),
            )
        logits = self._logits(self._generated(self._budget.batch_size))
        self._step(self._generator_steps, binary_cross_entropy(-logits, torch.zeros_like(logits), reduction="sum"))

    def look(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energy distance to real points, and spots hit: each of shape (n_kinds_of_points, n_seeds)."""
        with torch.no_grad():
            generated = self._generated(self._budget.points_in_a_look).cpu().numpy()
        real = self._real(self._budget.points_in_a_look)
        distances = [energy_distance(one, other) for one, other in zip(generated, real, strict=True)]
        hits = [spots_hit(one) for one in generated]
        return np.reshape(distances, (len(POINTS), -1)), np.reshape(hits, (len(POINTS), -1)).astype(np.float64)

    def _generated(self, n: int) -> Tensor:
        noise = self._random.normal(size=(len(self._generators), n, _NOISE)).astype(np.float32)
        return self._generators.logits(self._generators.tensor(noise))

    def _logits(self, points: Tensor) -> Tensor:
        return self._discriminators.logits(points).squeeze(-1)

    def _real(self, n: int) -> FloatArray:
        return np.stack([draw(n, self._random) for draw in self._draws])

    def _share(self, shape: torch.Size) -> Tensor | None:
        if self._alpha == 0:
            return None
        return self._generators.tensor(
            self._random.beta(self._alpha, self._alpha, size=tuple(shape)).astype(np.float32)
        )

    def _optimizer(self, ensemble: Ensemble) -> torch.optim.Optimizer:
        return torch.optim.Adam(list(ensemble.weights.values()), lr=self._budget.learning_rate)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        self._generator_steps.zero_grad()
        self._discriminator_steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
