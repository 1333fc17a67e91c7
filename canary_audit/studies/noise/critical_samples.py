"""Critical samples: how near to its boundaries a network puts points, and when to stop (Arpit et al. 2017, 4.4).

Networks learn real data, data with random labels, and data with random inputs, side by side. While they train, it is
counted how many held-out points have an adversarial neighbour (`lass`), and how accuracy moves on either part.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.corruption import Noisy, random_inputs, random_labels
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Progress, Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.noise import critical_findings
from canary_audit.studies.noise.curves import REAL, WORLDS, Curves, World
from canary_audit.studies.noise.lass import critical_ratio, radius_for_ratio

_WIDTHS: Final = (128, 128)
_EPOCHS: Final = 60
_LOOKS: Final = (3, 10, 30, 60)
"""Epochs after which critical points are counted."""
_RATIO: Final = 0.1
"""Share of critical points that the radius is chosen for, on networks of the real data."""
_CALIBRATION_SEEDS: Final = (1_000_001, 1_000_002)
"""Their networks choose the radius and do nothing else."""


def run(setting: Setting) -> Section:
    """Train in every world, count critical points, and compare."""
    data = load_dataset(setting.config.study)
    return critical_findings.section(data.name, train_and_count(data, setting.seeds, setting.device, setting.progress))


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One network of the ensemble, and what it is trained on."""

    seed: int
    examples: Noisy


def train_and_count(
    data: Dataset, seeds: tuple[int, ...], device: str, progress: Progress, *, epochs: int = _EPOCHS
) -> Curves:
    """Curves of every world and seed; all networks are in one ensemble, those that choose the radius among them."""
    members = [_Member(seed=seed, examples=_examples(data, world, seed)) for world in WORLDS for seed in seeds]
    measured = len(members)
    members += [_Member(seed=seed, examples=_examples(data, REAL, seed)) for seed in _CALIBRATION_SEEDS]
    x, y = (np.stack([getattr(member.examples, part) for member in members]) for part in ("x", "y"))
    looks = tuple(sorted({min(epoch, epochs) for epoch in _LOOKS} | {epochs}))
    kept: dict[int, Ensemble] = {}
    accuracies: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def look(epoch: int, ensemble: Ensemble) -> None:
        accuracies.append((ensemble.accuracy(x, y), ensemble.accuracy(data.test_x, data.test_y)))
        if epoch in looks:
            kept[epoch] = ensemble.part(range(len(members)))
        progress("epochs", epoch, epochs)

    ensemble = Ensemble(
        lambda: mlp(data.n_features, data.n_classes, _WIDTHS), [member.seed for member in members], device
    )
    fit(ensemble, x, y, Recipe(epochs=epochs, learning_rate=3e-3), on_epoch=look)
    choosers = ensemble.part(range(measured, len(members)))
    radius = radius_for_ratio(choosers, data.test_x, _RATIO)
    ratios = [critical_ratio(kept[epoch].part(range(measured)), data.test_x, radius) for epoch in looks]

    def by_world(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.stack([row[:measured] for row in rows], axis=-1).reshape(len(WORLDS), len(seeds), -1)

    return Curves(
        radius=radius,
        calibrated=float(critical_ratio(choosers, data.test_x, radius).mean()),
        deviation=float(data.train_x.std()),
        looks=looks,
        critical=by_world(ratios),
        train=by_world([train for train, _ in accuracies]),
        held_out=by_world([held_out for _, held_out in accuracies]),
    )


def _examples(data: Dataset, world: World, seed: int) -> Noisy:
    make = random_inputs if world.noise == "inputs" else random_labels
    return make(data, world.share, seed)
