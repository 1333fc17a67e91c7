"""Does boosting learn examples in the order of networks?

The versions of Hacohen, Choshen, Weinshall (2020) disagree: the first manuscript (arXiv 1905.10854 v1) says that
AdaBoost follows the same order, the published one that other ways of learning may have another. Rounds of boosting take
the place of epochs, and boosters with their own random features the place of networks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Recipe
from canary_audit.studies.classifiers.networks import mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.learning_order.agreement import BoolArray, right_answers
from canary_audit.studies.learning_order.boosting_report import NETWORKS, STUMPS, TREES, report
from canary_audit.studies.learning_order.trajectories import Trajectory, network_seeds, watched_training

_ENSEMBLE: Final = 30
"""Not among the ensembles of other experiments."""
_EPOCHS: Final = 10
_NETWORKS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Booster:
    """AdaBoost over trees that look at a random few of the features in every split."""

    depth: int
    rounds: int
    boosters: int = 8


BOOSTERS: Final = {STUMPS: Booster(depth=1, rounds=50), TREES: Booster(depth=3, rounds=30)}


def run(setting: Setting) -> Section:
    """Constancy of the order of AdaBoost, and its correlation with that of networks."""
    data = load_dataset(setting.config.study)
    learned = []
    for done, seed in enumerate(setting.seeds):
        setting.progress("boosting", done, len(setting.seeds))
        trajectories = {NETWORKS: _networks(data, seed, setting.device)}
        trajectories |= {name: boosted(data, booster, seed) for name, booster in BOOSTERS.items()}
        learned.append({name: _right(data, trajectory) for name, trajectory in trajectories.items()})
    return report(data, learned)


def boosted(data: Dataset, booster: Booster, seed: int) -> Trajectory:
    """What each booster says after every round; one that stops early keeps its last answers."""
    from sklearn.ensemble import AdaBoostClassifier  # noqa: PLC0415  slow to import
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415  slow to import

    train, test = [], []
    for state in network_seeds(seed, _ENSEMBLE + booster.depth, booster.boosters):
        tree = DecisionTreeClassifier(max_depth=booster.depth, max_features="sqrt")
        model = AdaBoostClassifier(tree, n_estimators=booster.rounds, random_state=state)
        model.fit(data.train_x, data.train_y)
        train.append(_held(list(model.staged_predict(data.train_x)), booster.rounds))
        test.append(_held(list(model.staged_predict(data.test_x)), booster.rounds))
    return Trajectory(train=np.stack(train, axis=1), test=np.stack(test, axis=1))


def _held(stages: list[np.ndarray], rounds: int) -> np.ndarray:
    return np.stack(stages + stages[-1:] * (rounds - len(stages))).astype(np.int64)


def _networks(data: Dataset, seed: int, device: str) -> Trajectory:
    return watched_training(
        lambda: mlp(data.n_features, data.n_classes, [64]),
        network_seeds(seed, _ENSEMBLE, _NETWORKS),
        Recipe(epochs=_EPOCHS, learning_rate=2e-3, batch_size=64),
        train_x=data.train_x,
        train_y=data.train_y,
        test_x=data.test_x,
        device=device,
    )


def _right(data: Dataset, trajectory: Trajectory) -> tuple[BoolArray, BoolArray]:
    return right_answers(trajectory.train, data.train_y), right_answers(trajectory.test, data.test_y)
