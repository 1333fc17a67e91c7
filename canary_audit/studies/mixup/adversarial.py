"""Adversarial examples (Zhang et al. 2018, section 3.5): is a network that learned from mixtures harder to fool?

Test examples are moved by at most epsilon in every feature so as to raise the loss: in one step (FGSM) or in many
(iterative FGSM), with the attacked network's own gradients (white box) or with those of another plainly trained
network (black box).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit, row_losses
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.mixup.adversarial_report import ATTACKS, EPSILONS, Errors, section
from canary_audit.studies.mixup.principle import mixup_loss

ALPHA: Final = 1.0
RECIPE: Final = Recipe(epochs=40, learning_rate=1e-3, batch_size=64)
_HIDDEN: Final = (128, 128)
_STEPS: Final = 10
_OTHER_SEEDS_FROM: Final = 1_000_000
"""Networks that lend their gradients have seeds from here on, which are no seeds of a study."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Moves that raise the loss, within a box around each example."""

    epsilon: float
    """Half the width of the box, in units of the features."""
    steps: int = 1
    """1 is FGSM."""
    is_pixel: bool = False
    """Whether features must stay in [0, 1]."""

    def __call__(self, ensemble: Ensemble, x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
        """Each network's adversarial examples: x of (n_rows, n_features), y of (n_rows,) -> (n_networks, n_rows,
        n_features). With several steps, each is 2 * epsilon / steps long, so that the box can be crossed.
        """
        start = ensemble.tensor(np.broadcast_to(x, (len(ensemble), *x.shape)))
        labels = ensemble.tensor(np.broadcast_to(y, (len(ensemble), *y.shape)))
        length = self.epsilon if self.steps == 1 else 2 * self.epsilon / self.steps
        moved = start
        for _ in range(self.steps):
            moved = moved + length * loss_gradient(ensemble, moved, labels).sign()
            moved = moved.clamp(start - self.epsilon, start + self.epsilon)
            moved = moved.clamp(0, 1) if self.is_pixel else moved
        adversarial: NDArray[np.float32] = moved.cpu().numpy()
        return adversarial


def loss_gradient(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """Gradient by the inputs of each row's loss: x of (n_networks, n_rows, n_features), y of (n_networks, n_rows)."""
    inputs = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(row_losses(ensemble.logits(inputs), y).sum(), inputs)
    return gradient


def run(setting: Setting) -> Section:
    """A plain and a mixup network for each seed, attacked at several strengths."""
    data = load_dataset(setting.config.study)
    others = tuple(_OTHER_SEEDS_FROM + seed for seed in setting.seeds)
    trainings = (("plain training", 0.0, setting.seeds), ("mixup", ALPHA, setting.seeds), ("other", 0.0, others))
    networks = {}
    for done, (name, alpha, seeds) in enumerate(trainings):
        setting.progress(name, done, len(trainings))
        networks[name] = _trained(data, alpha, seeds, setting.device)
    other = networks.pop("other")
    errors = {name: _errors(ensemble, other, data) for name, ensemble in networks.items()}
    return section(data, setting.seeds, errors, RECIPE.epochs)


def _trained(data: Dataset, alpha: float, seeds: tuple[int, ...], device: str) -> Ensemble:
    ensemble = Ensemble(lambda: mlp(data.n_features, data.n_classes, _HIDDEN), seeds, device)
    fit(ensemble, data.train_x, data.train_y, RECIPE, loss=mixup_loss(alpha))
    return ensemble


def _errors(ensemble: Ensemble, other: Ensemble, data: Dataset) -> Errors:
    """Test error in percent under every attack of the report, by strength and seed."""
    found = {}
    for attack in ATTACKS:
        source = other if attack.is_black_box else ensemble
        steps = _STEPS if attack.is_iterative else 1
        found[attack] = np.stack(
            [
                100 * (1 - ensemble.accuracy(moves(source, data.test_x, data.test_y), data.test_y))
                for moves in (
                    Attack(epsilon=epsilon, steps=steps, is_pixel=data.image_shape is not None) for epsilon in EPSILONS
                )
            ]
        )
    return Errors(clean=100 * (1 - ensemble.accuracy(data.test_x, data.test_y)), under=found)
