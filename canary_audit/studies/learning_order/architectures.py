"""Is the order of learning the same for other networks of one architecture, and for other architectures?

Hacohen, Choshen, Weinshall 2020, sections 3.1 and 3.2. For each seed, ensembles of several architectures learn the same
examples, each network with its own initialization and order of the examples. Accessibility says how early an example is
learned; it is compared between two halves of one ensemble and between architectures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Recipe
from canary_audit.studies.classifiers.networks import Classifier, conv_net, mlp
from canary_audit.studies.experiment import Setting
from canary_audit.studies.findings import Section
from canary_audit.studies.learning_order.agreement import BoolArray, right_answers
from canary_audit.studies.learning_order.architectures_report import report
from canary_audit.studies.learning_order.trajectories import network_seeds, watched_training

_EPOCHS: Final = 10
_SMALLEST_SIDE: Final = 4


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Networks of one kind, and how they are trained: so that most is learned within the epochs, and not at once."""

    name: str
    build: Callable[[], Classifier]
    networks: int
    learning_rate: float


def architectures_for(data: Dataset) -> tuple[Architecture, ...]:
    """Those that can learn the data set; the first two are judged."""
    sizes = data.n_features, data.n_classes
    found = [
        Architecture(name="1 layer of 64", build=lambda: mlp(*sizes, [64]), networks=40, learning_rate=2e-3),
        Architecture(name="3 layers of 256", build=lambda: mlp(*sizes, [256] * 3), networks=8, learning_rate=5e-4),
        Architecture(name="linear", build=lambda: mlp(*sizes, []), networks=20, learning_rate=5e-3),
    ]
    shape = data.image_shape
    if shape is not None and min(shape) >= _SMALLEST_SIDE:
        build = lambda: conv_net(shape, data.n_classes, channels=8, width=32)  # noqa: E731  one of four alike
        found.append(Architecture(name="convolutions", build=build, networks=8, learning_rate=2e-3))
    return tuple(found)


def run(setting: Setting) -> Section:
    """Constancy of the learning order within and across architectures."""
    data = load_dataset(setting.config.study)
    learned = []
    for done, seed in enumerate(setting.seeds):
        setting.progress("networks of several architectures", done, len(setting.seeds))
        learned.append(answers(data, seed, setting.device))
    return report(data, learned, setting.config.seed)


def answers(data: Dataset, seed: int, device: str) -> dict[str, tuple[BoolArray, BoolArray]]:
    """Of each architecture, whether its answers on training and on held-out examples are right.

    Shapes (n_epochs, n_networks, n_rows).
    """
    found = {}
    for place, architecture in enumerate(architectures_for(data)):
        trajectory = watched_training(
            architecture.build,
            network_seeds(seed, place, architecture.networks),
            Recipe(epochs=_EPOCHS, learning_rate=architecture.learning_rate, batch_size=64),
            train_x=data.train_x,
            train_y=data.train_y,
            test_x=data.test_x,
            device=device,
        )
        found[architecture.name] = (
            np.asarray(right_answers(trajectory.train, data.train_y)),
            np.asarray(right_answers(trajectory.test, data.test_y)),
        )
    return found
