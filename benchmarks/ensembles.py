"""Many small classifiers trained in one graph, against the same networks trained one after another.

Both ways see the same examples in the same order; the weights they end with are compared.
"""

import json
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Final

import numpy as np
import torch
from subject import cpu_seconds, read_arguments
from torch import nn

from canary_audit.config import StudyConfig
from canary_audit.studies.classifiers.datasets import Dataset, load_dataset
from canary_audit.studies.classifiers.ensemble import Ensemble, Recipe, fit
from canary_audit.studies.classifiers.networks import Classifier, mlp

EPOCHS: Final = 2
RECIPE: Final = Recipe(epochs=EPOCHS, learning_rate=0.05, optimizer="sgd", batch_size=20)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    widths: tuple[int, ...]
    n_networks: int
    turns: int


EFFORTS: Final = {
    "tiny": Effort(widths=(8,), n_networks=3, turns=1),
    "quick": Effort(widths=(16, 64, 128), n_networks=40, turns=3),
    "full": Effort(widths=(16, 64, 128, 256), n_networks=100, turns=5),
}


def in_one_graph(data: Dataset, width: int, n_networks: int) -> torch.Tensor:
    """Train an ensemble; the weights of the first layers, shape (n_networks, width, n_features)."""
    ensemble = Ensemble(lambda: _network(data, width), range(n_networks))
    fit(ensemble, data.train_x, data.train_y, RECIPE)
    return ensemble.weights["stages.hidden1.0.weight"].detach()


def one_by_one(data: Dataset, width: int, n_networks: int) -> torch.Tensor:
    """The same with a plain loop over networks, batches and steps."""
    x, y = torch.tensor(data.train_x), torch.tensor(data.train_y)
    return torch.stack([_trained_alone(_seeded(data, width, seed), x, y, seed) for seed in range(n_networks)])


def _trained_alone(network: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
    optimizer = torch.optim.SGD(network.parameters(), lr=RECIPE.learning_rate)
    for epoch in range(1, EPOCHS + 1):
        order = torch.tensor(np.random.default_rng([seed, epoch]).permutation(len(y)))
        for rows in order.split(RECIPE.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    return network.get_parameter("stages.hidden1.0.weight").detach()


def _network(data: Dataset, width: int) -> Classifier:
    return mlp(data.n_features, data.n_classes, (width,))


def _seeded(data: Dataset, width: int, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return _network(data, width)


def main() -> None:
    """Time both ways turn about, and print one JSON object."""
    arguments = read_arguments((__doc__ or "").splitlines()[0], without_default=True)
    effort, data = EFFORTS[arguments.effort], load_dataset(StudyConfig())
    rows = []
    for width in effort.widths:
        turns = []
        for _ in range(effort.turns):
            seconds, weights = [], []
            for way in (in_one_graph, one_by_one):
                begun = cpu_seconds()
                weights.append(way(data, width, effort.n_networks))
                seconds.append(cpu_seconds() - begun)
            turns.append((*seconds, float((weights[0] - weights[1]).abs().max())))
        together, alone, difference = (median(column) for column in zip(*turns, strict=True))
        rows.append(
            {
                "width": width,
                "seconds_together": together,
                "seconds_one_by_one": alone,
                "speedup": median(turn[1] / turn[0] for turn in turns),
                "largest_difference": difference,
            }
        )
    report = {
        "benchmark": "ensembles",
        "effort": arguments.effort,
        "threads": torch.get_num_threads(),
        "n_networks": effort.n_networks,
        "speedup_over_one_by_one": {str(row["width"]): row["speedup"] for row in rows},
        "widths": rows,
        "versions": {"torch": version("torch")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
