"""Critical samples: points of which a near neighbour is classified otherwise (Arpit et al. 2017, section 4.4).

Finding such a neighbour proves that a point is critical; not finding one proves nothing. Shares are lower bounds.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canary_audit.studies.classifiers.ensemble import Ensemble, row_losses

_STEP: Final = 0.25 / 0.3
_NOISE: Final = 0.2 / 0.3
"""Both in units of the radius: the paper's alpha, beta and r are .25, .2 and .3."""
_NOISE_SEED: Final = 2017


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a search goes on, for each network apart."""

    most: int = 100
    """Steps, at most."""
    least: int = 10
    few: float = 0.002
    """After `least` steps, a step that finds less than this share of the points is the last."""


def critical_samples(
    ensemble: Ensemble, x: NDArray[np.float32], radius: float, budget: Budget | None = None
) -> NDArray[np.bool_]:
    """Langevin adversarial sample search: which points have a neighbour that the network classifies otherwise.

    Every point walks up the gradient of the loss of the class that it is given, one step for each coordinate's sign
    and one at random, and is put back into its box. All networks' points walk at once, with the same random steps; so
    what is found of one network depends on no other. The ensemble is in evaluation mode.

    Args:
        x: points, shape (n_rows, n_features); they may leave the range of the data, but not the box.
        radius: greatest change of any coordinate, in the units of `x`.

    Returns:
        Shape (n_networks, n_rows).
    """
    budget = budget or Budget()
    start = ensemble.tensor(np.broadcast_to(x, (len(ensemble), *x.shape)))
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    with torch.no_grad():
        given = ensemble.logits(start).argmax(dim=-1)
    critical = torch.zeros_like(given, dtype=torch.bool)
    goes_on = torch.ones(len(ensemble), 1, dtype=torch.bool, device=start.device)
    point = start
    for step in range(1, budget.most + 1):
        noise = torch.randn(x.shape, generator=generator).to(start.device)
        point = point + radius * (_STEP * loss_gradient(ensemble, point, given).sign() + _NOISE * noise)
        point = torch.clamp(point, start - radius, start + radius)
        with torch.no_grad():
            new = (ensemble.logits(point).argmax(dim=-1) != given) & ~critical & goes_on
        critical |= new
        if step >= budget.least:
            goes_on &= new.sum(dim=1, keepdim=True) >= budget.few * len(x)
            if not goes_on.any():
                break
    return critical.cpu().numpy()


def critical_ratio(
    ensemble: Ensemble, x: NDArray[np.float32], radius: float, budget: Budget | None = None
) -> NDArray[np.float64]:
    """Critical sample ratio (CSR): share of the points that are critical for each network, shape (n_networks,)."""
    return np.asarray(critical_samples(ensemble, x, radius, budget).mean(axis=1), dtype=np.float64)


def radius_for_ratio(
    ensemble: Ensemble, x: NDArray[np.float32], ratio: float, *, tolerance: float = 0.005, budget: Budget | None = None
) -> float:
    """Radius at which this share of the points is critical, on average over the networks.

    By halving on a logarithmic scale between a thousandth of the deviation of `x` and twice the deviation, to within
    `tolerance` of the share or a hundredth of the radius.
    """
    low, high = 1e-3 * float(x.std()), 2 * float(x.std())
    while high / low > 1.01:
        radius = math.sqrt(low * high)
        found = float(critical_ratio(ensemble, x, radius, budget).mean())
        if abs(found - ratio) <= tolerance:
            return radius
        low, high = (radius, high) if found < ratio else (low, radius)
    return math.sqrt(low * high)


def loss_gradient(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each row's negative log-likelihood with regard to its inputs: the shape of `x`.

    Args:
        x: shape (n_networks, n_rows, n_features).
        y: labels, shape (n_networks, n_rows).
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(row_losses(ensemble.logits(x), y).sum(), x)
    return gradient
