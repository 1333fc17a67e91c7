"""Tables instead of images (Zhang et al. 2018, section 3.6): six UCI sets, two layers, plain or with mixup."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.mixup.principle import mixup_loss
from canary_audit.studies.mixup.uci_data import UCI_FILES, UciSet, filled_and_standardized, read_uci
from canary_audit.studies.mixup.uci_report import Comparison, section

SPLITS: Final = 3
"""Random divisions into a training and a test part, for each seed."""
ALPHA: Final = 1.0
RECIPE: Final = Recipe(epochs=10, learning_rate=1e-3, batch_size=16)
"""The paper's: Adam as it comes, 10 epochs, batches of 16."""
_HIDDEN: Final = (128, 128)
_MOST_TEST_ROWS: Final = 2_000
_SPLITS_PER_SEED_AT_MOST: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """One split for each network; the first axis counts networks."""

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]
    seeds: tuple[int, ...]


def run(setting: Setting) -> Section:
    """All sets whose files are in `[study] data_folder`; several splits for each seed, both trainings on each."""
    study = setting.config.study
    folder = Path(study.data_folder)
    there = [file for file in UCI_FILES if file.are_in(folder)]
    compared = []
    for done, file in enumerate(there):
        setting.progress(file.name, done, len(there))
        compared.append(compare(read_uci(file, folder), setting.seeds, study.train_rows, setting.device))
    absent = tuple(name for file in UCI_FILES if file not in there for name in (*file.files, *file.label_files))
    return section(compared, absent, study.data_folder, len(setting.seeds) * SPLITS, study.train_rows)


def compare(data: UciSet, seeds: tuple[int, ...], most_train_rows: int, device: str) -> Comparison:
    """Plain training and mixup on the same splits, from the same initializations, in the same order of examples."""
    parts = _divided(data, seeds, most_train_rows)
    plain, mixed = (_test_errors(data, parts, alpha, device) for alpha in (0.0, ALPHA))
    return Comparison(
        name=data.name, n_rows=len(data.y), n_train=parts.train_y.shape[1], n_test=parts.test_y.shape[1],
        plain=plain, mixup=mixed,
    )  # fmt: skip


def _divided(data: UciSet, seeds: tuple[int, ...], most_train_rows: int) -> _Parts:
    """At most `most_train_rows`, or four fifths of the rows, to learn from; of the others at most 2,000 to test on."""
    n_train = min(most_train_rows, len(data.y) * 4 // 5)
    n_test = min(_MOST_TEST_ROWS, len(data.y) - n_train)
    network_seeds = tuple(seed * _SPLITS_PER_SEED_AT_MOST + split for seed in seeds for split in range(SPLITS))
    inputs, labels = [], []
    for seed in network_seeds:
        order = np.random.default_rng([seed, len(data.y)]).permutation(len(data.y))
        train, test = order[:n_train], order[n_train : n_train + n_test]
        inputs.append(filled_and_standardized(data.x[train], data.x[test]))
        labels.append((data.y[train], data.y[test]))
    return _Parts(
        train_x=np.stack([train for train, _ in inputs]),
        train_y=np.stack([train for train, _ in labels]),
        test_x=np.stack([test for _, test in inputs]),
        test_y=np.stack([test for _, test in labels]),
        seeds=network_seeds,
    )


def _test_errors(data: UciSet, parts: _Parts, alpha: float, device: str) -> NDArray[np.float64]:
    """In percent, shape (n_networks,)."""
    networks = Ensemble(lambda: mlp(parts.train_x.shape[2], data.n_classes, _HIDDEN), parts.seeds, device)
    fit(networks, parts.train_x, parts.train_y, RECIPE, loss=mixup_loss(alpha))
    return 100 * (1 - networks.accuracy(parts.test_x, parts.test_y))
