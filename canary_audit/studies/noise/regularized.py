"""The loss of fully connected networks that are regularized, each in its own way and all in one graph."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, Self

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
    drop_inputs, drop_hidden = _Dropping.of(input_dropout), _Dropping.of(dropout)
    shake_inputs, shake_hidden = _Shaking.of(input_noise * deviation), _Shaking.of(hidden_noise)
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


@dataclass(frozen=True)
class _Acting:
    """Something done to the values of those networks of which it is asked."""

    places: Tensor
    strengths: Tensor
    """Of the networks at `places`, shape (n_places, 1, 1)."""

    @classmethod
    def of(cls, strengths: Tensor) -> Self:
        """From the strengths of all networks; drawing random numbers only where needed is most of the speed."""
        places = strengths.nonzero().flatten()
        return cls(places, strengths[places][:, None, None])

    def __call__(self, x: Tensor) -> Tensor:
        """Values of (n_networks, n_rows, width), and of the same shape."""
        return x.index_copy(0, self.places, self.changed(x[self.places])) if len(self.places) else x

    def changed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class _Dropping(_Acting):
    """Each value is left out with its network's probability, and the others are scaled up."""

    def changed(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= self.strengths) / (1 - self.strengths)


class _Shaking(_Acting):
    """Gaussian noise is added, of each network's deviation."""

    def changed(self, x: Tensor) -> Tensor:
        return x + self.strengths * torch.randn_like(x)


def _layers(ensemble: Ensemble) -> list[tuple[Tensor, Tensor]]:
    """Weight (n_networks, n_out, n_in) and bias (n_networks, n_out) of every layer, in order."""
    weights = [value for name, value in ensemble.weights.items() if name.endswith("weight")]
    biases = [value for name, value in ensemble.weights.items() if name.endswith("bias")]
    return list(zip(weights, biases, strict=True))
