"""Corrupted labels (Zhang et al. 2018, section 3.4): does mixup keep a network from storing wrong labels?

Networks are trained on digits of which a share has wrong labels, and tested on clean ones: plainly, with dropout, with
mixup, and with both.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.corruption import Noisy, wrong_labels
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.mixup.corrupted_report import section
from canary_audit.studies.mixup.corrupted_result import Method, Outcome
from canary_audit.studies.mixup.principle import mixup_loss

SHARES: Final = (0.2, 0.5)
"""Of the training labels that are wrong."""
METHODS: Final = (
    Method(name="plain training"),
    Method(name="dropout 0.5", dropout=0.5),
    Method(name="mixup, alpha 1", alpha=1),
    Method(name="mixup, alpha 8", alpha=8),
    Method(name="mixup, alpha 32", alpha=32),
    Method(name="mixup, alpha 8, dropout 0.3", alpha=8, dropout=0.3),
)
RECIPE: Final = Recipe(epochs=60, learning_rate=4e-3, batch_size=128)
"""Chosen so that plain training ends with nearly all wrong labels stored, in seconds."""
LOOK_EVERY: Final = 3
_HIDDEN: Final = (256, 256)


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Training data of all networks of a method: one network for each share and seed, the seeds of a share together."""

    data: Dataset
    labels: NDArray[np.int64]
    """Shape (n_networks, n_train)."""
    is_wrong: NDArray[np.bool_]
    seeds: tuple[int, ...]


def run(setting: Setting) -> Section:
    """Six ways of training, two shares of wrong labels, one network for each seed."""
    data = load_dataset(setting.config.study)
    sources = _corrupted(data, setting.seeds)
    outcomes = []
    for done, method in enumerate(METHODS):
        setting.progress(method.name, done, len(METHODS))
        outcomes.append(train_and_test(method, sources, setting.device))
    return section(data, setting.seeds, SHARES, outcomes, RECIPE)


def train_and_test(method: Method, sources: _Sources, device: str, recipe: Recipe = RECIPE) -> Outcome:
    """Train one method's networks and see what they know: of clean test examples, and of their own labels."""
    data, epochs, errors = sources.data, [], []
    networks = Ensemble(
        lambda: mlp(data.n_features, data.n_classes, _HIDDEN, dropout=method.dropout), sources.seeds, device
    )

    def look(epoch: int, ensemble: Ensemble) -> None:
        if epoch % LOOK_EVERY == 0 or epoch == recipe.epochs:
            epochs.append(epoch)
            errors.append(_by_share(1 - ensemble.accuracy(data.test_x, data.test_y)))

    fit(networks, data.train_x, sources.labels, recipe, loss=mixup_loss(method.alpha), on_epoch=look)
    missed = networks.predict(data.train_x) != sources.labels
    return Outcome(
        method=method,
        epochs=tuple(epochs),
        test_error=np.stack(errors),
        right_label_error=_by_share(_share_missed(missed, ~sources.is_wrong)),
        wrong_label_error=_by_share(_share_missed(missed, sources.is_wrong)),
    )


def _corrupted(data: Dataset, seeds: tuple[int, ...]) -> _Sources:
    noisy: list[Noisy] = [wrong_labels(data, share, seed) for share in SHARES for seed in seeds]
    return _Sources(
        data=data,
        labels=np.stack([one.y for one in noisy]),
        is_wrong=np.stack([one.is_noise for one in noisy]),
        seeds=seeds * len(SHARES),
    )


def _share_missed(missed: NDArray[np.bool_], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the examples in `where`, the share whose training label the network does not give; 0 if there are none."""
    return np.asarray((missed & where).sum(axis=1) / np.maximum(where.sum(axis=1), 1), dtype=np.float64)


def _by_share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent, shape (n_networks,) -> (n_shares, n_seeds)."""
    return 100 * values.reshape(len(SHARES), -1)
