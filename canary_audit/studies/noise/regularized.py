"""The loss of fully connected networks that are regularized, each in its own way and all in one graph."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import torch
from torch import Tensor

from canary_audit.studies.classifiers.ensemble import BatchLoss, Ensemble, row_losses
from canary_audit.studies.noise.lass import loss_gradient

_ADVERSARIAL_STEP: Final = 0.2
"""Change of every coordinate of an adversarial example, in deviations of the inputs."""


@dataclass(frozen=True)
class Strength:
    """How much of each regularizer one network gets; 0 is none of it."""

    dropout: float = 0.0
    """Share of hidden outputs left out."""
    input_dropout: float = 0.0
    """Share of inputs left out."""
    input_noise: float = 0.0
    """Deviation of Gaussian noise on the inputs, in deviations of the inputs."""
    hidden_noise: float = 0.0
    """Deviation of Gaussian noise on the hidden outputs."""
    weight_decay: float = 0.0
    """Factor of the sum of squared weights (biases left out) in the loss."""
    adversarial: float = 0.0
    """Weight of the loss on adversarial examples; the rest is that on the examples themselves."""


def regularized_loss(strengths: Sequence[Strength], deviation: float, device: torch.device) -> BatchLoss:
    """Loss to train an ensemble of `networks.mlp` with, the n-th network with the n-th strength.

    Adversarial examples are one step up the sign of the gradient of the loss (Goodfellow et al. 2015), taken without
    the other regularizers.

    Args:
        strengths: one for each network.
        deviation: of the inputs, all features together.
    """
    table = torch.tensor([astuple(one) for one in strengths], device=device)
    dropout, input_dropout, input_noise, hidden_noise, decay, adversarial = table.unbind(dim=1)
    drop_inputs, drop_hidden = _acting(input_dropout, _drop), _acting(dropout, _drop)
    shake_inputs, shake_hidden = _acting(input_noise * deviation, _shake), _acting(hidden_noise, _shake)
    decays, attacks = bool(decay.any()), bool(adversarial.any())

    def logits(ensemble: Ensemble, x: Tensor) -> Tensor:
        *hidden, last = _layers(ensemble)
        x = shake_inputs(drop_inputs(x))
        for weight, bias in hidden:
            x = shake_hidden(drop_hidden(torch.baddbmm(bias[:, None], x, weight.mT).relu()))
        return torch.baddbmm(last[1][:, None], x, last[0].mT)

    def loss(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
        total = row_losses(logits(ensemble, x), y).mean(dim=1)
        if attacks:
            moved = x + _ADVERSARIAL_STEP * deviation * loss_gradient(ensemble, x, y).sign()
            total = torch.lerp(total, row_losses(logits(ensemble, moved), y).mean(dim=1), adversarial)
        if decays:
            squares = torch.stack([weight.square().sum(dim=(1, 2)) for weight, _ in _layers(ensemble)]).sum(dim=0)
            total = total + decay * squares
        return total

    return loss


def _acting(strengths: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Apply a change to the values of those networks that have a strength, shape (n_networks, n_rows, width).

    Drawing random numbers only where they are needed is most of the speed.
    """
    places = strengths.nonzero().flatten()
    own = strengths[places][:, None, None]
    if not len(places):
        return lambda x: x
    return lambda x: x.index_copy(0, places, change(x[places], own))


def _drop(x: Tensor, share: Tensor) -> Tensor:
    """Each value is left out with this probability, and the others are scaled up."""
    return x * (torch.rand_like(x) >= share) / (1 - share)


def _shake(x: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian noise is added."""
    return x + deviation * torch.randn_like(x)


def _layers(ensemble: Ensemble) -> list[tuple[Tensor, Tensor]]:
    """Weight (n_networks, n_out, n_in) and bias (n_networks, n_out) of every layer, in order."""
    weights = [value for name, value in ensemble.weights.items() if name.endswith("weight")]
    biases = [value for name, value in ensemble.weights.items() if name.endswith("bias")]
    return list(zip(weights, biases, strict=True))
