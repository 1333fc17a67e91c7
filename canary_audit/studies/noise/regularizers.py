"""What keeps a network from storing wrong labels (Arpit et al. 2017, section 5, figures 10 and 11).

Networks learn data of which some labels are wrong, each with another regularizer. How many wrong labels were stored by
the end is set against how well the network did at its best on held-out points.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.corruption import wrong_labels
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Progress, Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.noise import regularizer_findings
from canary_audit.studies.noise.regularized import Strength, regularized_loss

_WIDTHS: Final = (192, 192)
_RECIPE: Final = Recipe(epochs=40, learning_rate=5e-3, batch_size=50)
SHARES: Final = (0.2, 0.5)
"""Of the training labels, made wrong."""


@dataclass(frozen=True, kw_only=True)
class Regularizer:
    """One way to train."""

    kind: str
    setting: str
    strength: Strength

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.kind} {self.setting}".strip()


NONE: Final = Regularizer(kind="none", setting="", strength=Strength())
DROPOUT: Final = Regularizer(kind="dropout", setting="0.5", strength=Strength(dropout=0.5))
REGULARIZERS: Final = (
    NONE,
    Regularizer(kind="dropout", setting="0.3", strength=Strength(dropout=0.3)),
    DROPOUT,
    Regularizer(kind="dropout", setting="0.7", strength=Strength(dropout=0.7)),
    Regularizer(kind="input dropout", setting="0.3", strength=Strength(input_dropout=0.3)),
    Regularizer(kind="input noise", setting="0.5", strength=Strength(input_noise=0.5)),
    Regularizer(kind="hidden noise", setting="0.3", strength=Strength(hidden_noise=0.3)),
    Regularizer(kind="weight decay", setting="0.001", strength=Strength(weight_decay=1e-3)),
    Regularizer(kind="dropout and adversarial", setting="0.3, 0.5", strength=Strength(dropout=0.3, adversarial=0.5)),
)


def run(setting: Setting) -> Section:
    """Train with every regularizer, and compare what was stored."""
    data = load_dataset(setting.config.study)
    outcome = train_regularized(data, setting.seeds, setting.device, setting.progress)
    return regularizer_findings.section(data.name, [one.name for one in REGULARIZERS], SHARES, outcome)


def train_regularized(
    data: Dataset, seeds: tuple[int, ...], device: str, progress: Progress, *, recipe: Recipe = _RECIPE
) -> regularizer_findings.Outcome:
    """Errors of every regularizer, share of wrong labels, and seed.

    Those with adversarial examples, which cost three passes, are an ensemble of their own.
    """
    gentle = [one for one in REGULARIZERS if not one.strength.adversarial]
    costly = [one for one in REGULARIZERS if one.strength.adversarial]
    parts = [_train(data, group, seeds, device, progress, recipe) for group in (gentle, costly)]
    return regularizer_findings.Outcome(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _train(
    data: Dataset,
    regularizers: list[Regularizer],
    seeds: tuple[int, ...],
    device: str,
    progress: Progress,
    recipe: Recipe,
) -> dict[str, NDArray[np.float64]]:
    """Errors by name, each of shape (n_regularizers, n_shares, n_seeds)."""
    members = [(one.strength, share, seed) for one in regularizers for share in SHARES for seed in seeds]
    noisy = [wrong_labels(data, share, seed) for _, share, seed in members]
    labels, is_wrong = np.stack([one.y for one in noisy]), np.stack([one.is_noise for one in noisy])
    held_out: list[NDArray[np.float64]] = []

    def look(epoch: int, ensemble: Ensemble) -> None:
        held_out.append(1 - ensemble.accuracy(data.test_x, data.test_y))
        progress("epochs", epoch, recipe.epochs)

    ensemble = Ensemble(lambda: mlp(data.n_features, data.n_classes, _WIDTHS), [seed for _, _, seed in members], device)
    loss = regularized_loss([strength for strength, _, _ in members], float(data.train_x.std()), ensemble.device)
    fit(ensemble, data.train_x, labels, recipe, loss=loss, on_epoch=look)
    differs = ensemble.predict(data.train_x) != labels
    errors = {
        "wrong_labels": (differs & is_wrong).sum(axis=1) / np.maximum(is_wrong.sum(axis=1), 1),
        "right_labels": (differs & ~is_wrong).sum(axis=1) / np.maximum((~is_wrong).sum(axis=1), 1),
        "best": np.min(held_out, axis=0),
        "last": held_out[-1],
    }
    return {name: error.reshape(len(regularizers), len(SHARES), len(seeds)) for name, error in errors.items()}
