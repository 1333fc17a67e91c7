"""Loss sensitivity by unrolling: the gradient of a later loss with respect to an example that was trained on.

A step of gradient descent, w' = w - r dl(w, x)/dw, makes the weights depend on the batch x, and with them every later
loss. Going backwards, a gradient v with respect to w' adds -r d(v . dl/dw)/dx to the batch's, and becomes
v - r d(v . dl/dw)/dw with respect to w. The loss itself is of examples that are held fixed, so that only the influence
through the updates is counted (Arpit et al. 2017, section 3.2, after Maclaurin et al. 2015).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from canary_audit.studies.classifiers.ensemble import Ensemble, row_losses

Weights = dict[str, Tensor]
Losses = Callable[[Tensor], Tensor]
"""Losses of all examples, (n_networks, n_rows) -> the losses to be derived, (n_losses, n_networks)."""

_MOST_ELEMENTS = 40_000_000
"""Of gradients held at once: 160 MB."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Plain gradient descent of an ensemble, every step of it."""

    ensemble: Ensemble
    x: Tensor
    """Shape (n_networks, n_rows, n_features)."""
    y: Tensor
    """Shape (n_networks, n_rows)."""
    places: Tensor
    """Rows of each batch, none twice in one batch, shape (n_networks, n_steps, batch size)."""
    learning_rates: Tensor
    """One for each network."""
    trajectory: tuple[Weights, ...]
    """Weights before the first step, after it, and so on: n_steps + 1 of them."""

    @property
    def n_steps(self) -> int:
        """Updates that were made."""
        return len(self.trajectory) - 1

    def logits(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(n_networks, n_rows, n_features) -> (n_networks, n_rows, n_classes), with these weights."""
        network = self.ensemble.network
        found: Tensor = vmap(lambda own, rows: functional_call(network, own, (rows,)))(dict(weights), x)
        return found


def descend(ensemble: Ensemble, x: Tensor, y: Tensor, places: Tensor, learning_rates: Tensor) -> Descent:
    """Train by plain gradient descent on the mean loss of each batch; the ensemble itself keeps its weights."""
    weights = {name: value.detach() for name, value in ensemble.weights.items()}
    descent = Descent(ensemble=ensemble, x=x, y=y, places=places, learning_rates=learning_rates, trajectory=(weights,))
    trajectory = [weights]
    for step in range(places.shape[1]):
        leaves = _leaves(trajectory[-1])
        batch, labels = _batch(descent, step)
        slopes = torch.autograd.grad(_batch_loss(descent, leaves, batch, labels), list(leaves.values()))
        trajectory.append(
            {
                name: (value - _each(learning_rates, value) * slope).detach()
                for (name, value), slope in zip(leaves.items(), slopes, strict=True)
            }
        )
    return Descent(
        ensemble=ensemble, x=x, y=y, places=places, learning_rates=learning_rates, trajectory=tuple(trajectory)
    )


def batches(seeds: Sequence[int], n_rows: int, n_steps: int, batch_size: int) -> NDArray[np.int64]:
    """Rows of each batch, epoch after epoch in fresh orders: (n_networks, n_steps, batch_size).

    What does not fill a batch is left out of an epoch, so that no row is twice in one batch.
    """
    in_epoch = n_rows // batch_size
    chosen = [
        np.concatenate(
            [
                np.random.default_rng([seed, epoch]).permutation(n_rows)[: in_epoch * batch_size]
                for epoch in range(1, -(-n_steps // in_epoch) + 1)
            ]
        )
        for seed in seeds
    ]
    return np.stack([one[: n_steps * batch_size].reshape(n_steps, batch_size) for one in chosen])


def sensitivities(descent: Descent, times: Sequence[int], losses: Losses, n_losses: int) -> NDArray[np.float64]:
    """The 1-norm of the gradient of each loss after each number of steps, with respect to each example.

    Times are taken in groups: one way back serves a group, and what it holds fits in memory.

    Returns:
        shape (n_times, n_losses, n_networks, n_rows), times in ascending order.
    """
    ascending = sorted(times)
    at_once = max(1, _MOST_ELEMENTS // (n_losses * descent.x.numel()))
    groups = [ascending[start : start + at_once] for start in range(0, len(ascending), at_once)]
    return np.concatenate([_norms(descent, group, losses, n_losses) for group in groups])


def _norms(descent: Descent, times: Sequence[int], losses: Losses, n_losses: int) -> NDArray[np.float64]:
    found = unrolled(descent, times, losses, n_losses).abs().sum(dim=-1)
    norms: NDArray[np.float64] = found.cpu().numpy().astype(np.float64)
    return norms


def unrolled(descent: Descent, times: Sequence[int], losses: Losses, n_losses: int) -> Tensor:
    """The gradients themselves: (n_times, n_losses, n_networks, n_rows, n_features), for ascending times."""
    total = torch.zeros(len(times) * n_losses, *descent.x.shape, device=descent.x.device, dtype=descent.x.dtype)
    networks = torch.arange(len(descent.x), device=descent.x.device)[:, None]
    carried = _slopes(descent, times[-1], losses, n_losses)
    for step in range(times[-1] - 1, -1, -1):
        # The latest times come first in `carried`, so those that are already under way are a prefix.
        carried, of_batch = _one_step_back(descent, step, carried)
        total[: len(of_batch), networks, descent.places[:, step]] += of_batch
        if step in times:
            earlier = _slopes(descent, step, losses, n_losses)
            carried = [torch.cat(pair) for pair in zip(carried, earlier, strict=True)]
    return total.view(len(times), n_losses, *descent.x.shape).flip(0)


def self_influence(descent: Descent, times: Sequence[int]) -> NDArray[np.float64]:
    """Learning rate times squared gradient norm of each example's loss, summed over checkpoints (TracIn).

    Pruthi et al. 2020, "Estimating training data influence by tracing gradient descent". Shape (n_networks, n_rows).
    """
    network = descent.ensemble.network

    def loss(weights: Weights, row: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, weights, (row[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    def squared(weights: Weights, row: Tensor, label: Tensor) -> Tensor:
        slopes: Weights = grad(loss)(weights, row, label)
        return torch.stack([(slope**2).sum() for slope in slopes.values()]).sum()

    of_rows = vmap(squared, in_dims=(None, 0, 0))
    total = np.zeros(tuple(descent.y.shape))
    for place in range(len(descent.y)):  # one network at a time: a gradient for every example is large
        for time in times:
            weights = {name: value[place] for name, value in descent.trajectory[time].items()}
            found = of_rows(weights, descent.x[place], descent.y[place])
            total[place] += float(descent.learning_rates[place]) * found.cpu().numpy()
    return total


def _one_step_back(descent: Descent, step: int, carried: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Gradients with respect to the weights before this step, and what the step's batch gets of them."""
    leaves = _leaves(descent.trajectory[step])
    batch, labels = _batch(descent, step)
    batch.requires_grad_()
    loss = _batch_loss(descent, leaves, batch, labels)
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    *second, mixed = torch.autograd.grad(
        slopes, [*leaves.values(), batch], grad_outputs=carried, is_grads_batched=True, materialize_grads=True
    )
    rates = descent.learning_rates
    before = [value - _each(rates, one[0]) * one.detach() for value, one in zip(carried, second, strict=True)]
    return before, -rates[:, None, None] * mixed


def _slopes(descent: Descent, time: int, losses: Losses, n_losses: int) -> list[Tensor]:
    """Gradient of each loss with respect to the weights after `time` steps: (n_losses, *weight) for each weight."""
    leaves = _leaves(descent.trajectory[time])
    values = losses(row_losses(descent.logits(leaves, descent.x), descent.y))
    unit = torch.eye(n_losses, device=values.device, dtype=values.dtype)[:, :, None].expand(-1, -1, values.shape[1])
    return list(torch.autograd.grad(values, list(leaves.values()), grad_outputs=unit, is_grads_batched=True))


def _batch(descent: Descent, step: int) -> tuple[Tensor, Tensor]:
    networks, rows = torch.arange(len(descent.x), device=descent.x.device)[:, None], descent.places[:, step]
    return descent.x[networks, rows], descent.y[networks, rows]


def _batch_loss(descent: Descent, weights: Weights, batch: Tensor, labels: Tensor) -> Tensor:
    return row_losses(descent.logits(weights, batch), labels).mean(dim=1).sum()


def _leaves(weights: Weights) -> Weights:
    return {name: value.clone().requires_grad_() for name, value in weights.items()}


def _each(learning_rates: Tensor, like: Tensor) -> Tensor:
    """The rates, so that they multiply a tensor of shape (n_networks, *weight)."""
    return learning_rates.view(-1, *[1] * (like.ndim - 1))
