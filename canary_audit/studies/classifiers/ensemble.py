"""Many small networks of one architecture, trained side by side in one graph.

Their weights are stacked, and one batched product serves all of them: a hundred networks take little longer than the
arithmetic of a hundred networks. Each has its own initialization, its own order of the examples, and, where asked, its
own labels and inputs; none has any effect on another.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from canary_audit.studies.classifiers.networks import Classifier

BatchLoss = Callable[["Ensemble", Tensor, Tensor], Tensor]
"""(ensemble, x of shape (n_networks, n_rows, n_features), y of (n_networks, n_rows)) -> losses of (n_networks,)."""
OnEpoch = Callable[[int, "Ensemble"], bool | None]
"""(epoch from 1, ensemble in evaluation mode) -> true to end the training here."""

_ROWS_PER_PASS = 4_096


class Ensemble:
    """Networks of one architecture.

    Args:
        build: makes one network; called once for each seed, with torch's random state set by it.
        seeds: one for each network; it decides initialization and the order of the examples.
        device: where the weights live.
    """

    def __init__(
        self, build: Callable[[], Classifier], seeds: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        networks = [_initialized(build, seed) for seed in seeds]
        stacked, _ = stack_module_state(networks)
        self.weights = {name: value.detach().to(self.device).requires_grad_() for name, value in stacked.items()}
        self.network = copy.deepcopy(networks[0]).to("meta")
        self.network.eval()

    def __len__(self) -> int:
        return len(self.seeds)

    def part(self, places: Sequence[int]) -> "Ensemble":
        """A copy of the networks at these places as they are now, which further training leaves alone."""
        part = copy.copy(self)
        chosen = list(places)
        part.seeds = tuple(self.seeds[place] for place in chosen)
        part.weights = {name: value.detach()[chosen].clone() for name, value in self.weights.items()}
        return part

    def logits(self, x: Tensor) -> Tensor:
        """Logits of every network: (n_rows, n_features), or (n_networks, n_rows, n_features) with inputs of its own for
        each, -> (n_networks, n_rows, n_classes). Dropout acts while the ensemble is in training mode.
        """
        return self._map(lambda weights, rows: functional_call(self.network, weights, (rows,)), x)

    def layers(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs of every stage but the last, each of shape (n_networks, n_rows, width)."""
        looking = _Layers(self.network)
        prefixed = {f"network.{name}": value for name, value in self.weights.items()}
        axis = 0 if x.ndim == 3 else None
        mapped = vmap(lambda weights, rows: functional_call(looking, weights, (rows,)), in_dims=(0, axis))
        found: dict[str, Tensor] = mapped(prefixed, x)
        return found

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Likeliest class, in evaluation mode: shape (n_networks, n_rows) for x of either shape of `logits`."""
        classes: NDArray[np.int64] = self.probabilities(x).argmax(axis=-1)
        return classes

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of each class, in evaluation mode: shape (n_networks, n_rows, n_classes)."""
        was_training = self.network.training
        self.network.eval()
        axis = x.ndim - 2
        with torch.inference_mode():
            found = [
                self.logits(self.tensor(part)).softmax(dim=-1).cpu()
                for part in np.array_split(x, max(1, -(-x.shape[axis] // _ROWS_PER_PASS)), axis=axis)
            ]
        self.network.train(was_training)
        probabilities: NDArray[np.float32] = torch.cat(found, dim=1).numpy()
        return probabilities

    def accuracy(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of right answers of each network, shape (n_networks,); `y` has shape (n_rows,) or one row a network."""
        return np.asarray((self.predict(x) == y).mean(axis=1), dtype=np.float64)

    def tensor(self, array: NDArray[np.generic]) -> Tensor:
        """An array as a tensor on the ensemble's device."""
        return torch.tensor(array, device=self.device)

    def _map(self, function: Callable[..., Tensor], x: Tensor) -> Tensor:
        axis = 0 if x.ndim == 3 else None
        mapped = vmap(function, in_dims=(0, axis), randomness="different")
        result: Tensor = mapped(self.weights, x)
        return result


class _Layers(nn.Module):
    """A network whose call gives its layers."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.network.layers(x)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train an ensemble."""

    epochs: int
    learning_rate: float
    batch_size: int = 32
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0


def cross_entropy(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """Mean over the rows of each network's negative log-likelihood, in nats: shape (n_networks,)."""
    return row_losses(ensemble.logits(x), y).mean(dim=1)


def row_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Negative log-likelihood in nats: logits of (n_networks, n_rows, n_classes), y of (n_networks, n_rows) -> y's."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)


def fit(
    ensemble: Ensemble,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    recipe: Recipe,
    *,
    loss: BatchLoss = cross_entropy,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train every network of the ensemble, and leave it in evaluation mode.

    What a network becomes depends on its own seed, inputs and labels, and, where it draws noise such as dropout, on
    the seeds of all. The global random state stays as it was.

    Args:
        x: inputs, shape (n_rows, n_features), or (n_networks, n_rows, n_features).
        y: labels, shape (n_rows,), or (n_networks, n_rows).
        loss: what is minimized, for each network apart.
        on_epoch: called after each epoch.
    """
    inputs, labels = ensemble.tensor(x), ensemble.tensor(np.broadcast_to(y, (len(ensemble), y.shape[-1])))
    optimizer = _optimizer(ensemble, recipe)
    rows = torch.arange(len(ensemble), device=ensemble.device)[:, None]
    with torch.random.fork_rng(devices=[ensemble.device] if ensemble.device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(ensemble.seeds).generate_state(1)[0]))
        for epoch in range(1, recipe.epochs + 1):
            ensemble.network.train()
            for places in torch.split(_orders(ensemble, y.shape[-1], epoch), recipe.batch_size, dim=1):
                batch = inputs[places] if inputs.ndim == 2 else inputs[rows, places]
                total = loss(ensemble, batch, labels[rows, places]).sum()
                optimizer.zero_grad()
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
            ensemble.network.eval()
            if on_epoch and on_epoch(epoch, ensemble):
                return


def _optimizer(ensemble: Ensemble, recipe: Recipe) -> torch.optim.Optimizer:
    weights = list(ensemble.weights.values())
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(weights, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _orders(ensemble: Ensemble, n_rows: int, epoch: int) -> Tensor:
    """Order of the examples in this epoch, for every network its own: shape (n_networks, n_rows)."""
    orders = [np.random.default_rng([seed, epoch]).permutation(n_rows) for seed in ensemble.seeds]
    return ensemble.tensor(np.stack(orders))


def _initialized(build: Callable[[], Classifier], seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
