"""Mixup (Zhang et al. 2018, section 2): a network is trained on mixtures of two examples, and asked for both labels.

With x = share * x_a + (1 - share) * x_b and share drawn from Beta(alpha, alpha), the loss is
share * loss(x, y_a) + (1 - share) * loss(x, y_b). As in the authors' code there is one share for each minibatch, and
the second examples are a permutation of the first. As alpha goes to 0, shares go to 0 or 1, and what is left is
empirical risk minimization: training on the examples themselves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from canary_audit.studies.classifiers.ensemble import BatchLoss, Ensemble, cross_entropy, row_losses


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How the rows of one minibatch are mixed, for every network its own way."""

    share: Tensor
    """Of the first example in each network's mixtures, in [0, 1], shape (n_networks,)."""
    partner: Tensor
    """Row of the second example: one permutation a network, shape (n_networks, n_rows)."""


def mixup_loss(alpha: float) -> BatchLoss:
    """Mixup as the loss of `fit`; 0 is plain training.

    Shares and permutations come from torch's random state, which `fit` sets from the seeds and afterwards restores.
    """
    if alpha == 0:
        return cross_entropy

    def loss(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
        return mixture_loss(ensemble, x, y, draw_mixture(y, alpha))

    return loss


def draw_mixture(y: Tensor, alpha: float) -> Mixture:
    """A fresh mixture for labels of shape (n_networks, n_rows), alpha > 0."""
    each = torch.full((len(y),), alpha, dtype=torch.float64, device=y.device)  # in fp32 small alphas underflow
    share = torch.distributions.Beta(each, each).sample()
    return Mixture(share=share.float(), partner=torch.rand(y.shape, device=y.device).argsort(dim=1))


def mixture_loss(ensemble: Ensemble, x: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    """Mean over the mixed rows of each network's loss, in nats: shape (n_networks,).

    Args:
        x: inputs, shape (n_networks, n_rows, n_features).
        y: labels, shape (n_networks, n_rows).
        mixture: how to mix them.
    """
    rows = torch.arange(len(ensemble), device=x.device)[:, None]
    share = mixture.share[:, None]
    logits = ensemble.logits(torch.lerp(x[rows, mixture.partner], x, share[..., None]))
    first, second = row_losses(logits, y), row_losses(logits, y[rows, mixture.partner])
    return torch.lerp(second, first, share).mean(dim=1)
