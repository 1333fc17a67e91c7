"""Gradients of single rows, clipped and summed: what DP-SGD is made of (Abadi et al. 2016, algorithm 1).

Opacus' hooks do the work inside the network, without wrapping it. Either they keep every row's gradient of every weight
("hooks"), or only its norm, and a second backward pass sums the rows, each scaled by its clipping factor ("ghost";
Li et al. 2022). A network they do not serve exactly is refused before a single step is taken.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from canary_audit.errors import ModelError
from canary_audit.training.loss import row_losses_nats
from canary_audit.training.row_hooks import NormHooks, SampleHooks, backward

logging.getLogger("opacus").setLevel(logging.ERROR)

_MISMATCH = 1e-4
"""Relative difference between a row's gradient and the hooks' at which the network is refused. Rounding alone makes
1e-7 to 1e-6; a row that feels its neighbours is off by far more."""


class PerRowGradients(Protocol):
    """Adds clipped gradients of rows to the weights' sums; `close` takes the hooks out again."""

    def add_clipped(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Add the clipped gradients of these rows to each weight's `summed_grad`; returns the rows' losses in nats.

        Args:
            tokens: shape (n_rows, context_tokens + 1).
            lengths: predicted tokens of each row, shape (n_rows,).
        """

    def close(self) -> None: ...


def per_row_gradients(
    network: torch.nn.Module, clipping: Literal["hooks", "ghost"], *, clip_norm: float, scale: float
) -> PerRowGradients:
    """The chosen way to clip rows.

    Args:
        clip_norm: largest L2 norm of a row's gradient, over all weights that are trained.
        scale: losses are divided by it before their gradients are taken.

    Raises:
        ModelError: the network ties weights and `clipping` is "ghost", or holds a layer whose rows cannot be told
            apart, such as batch normalization.
    """
    kind = Hooks if clipping == "hooks" else Ghost
    try:
        return kind(network, clip_norm=clip_norm, scale=scale)
    except NotImplementedError as error:
        raise ModelError(f"this network cannot be trained privately: {error}") from None


class Hooks:
    """Keeps the gradient of every row: memory for rows x weights, one backward pass."""

    def __init__(self, network: torch.nn.Module, *, clip_norm: float, scale: float) -> None:
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self._clip_norm = clip_norm
        self._scale = scale
        self._hooks = SampleHooks(network)

    def rows(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Losses in nats, and every weight's gradients by row, each of shape (n_rows, *weight.shape)."""
        losses = self._hooks.losses(tokens, lengths)
        self._hooks.backward(losses.sum() / self._scale)
        samples = [_samples(weight) for weight in self._weights]
        for weight in self._weights:
            weight.grad_sample = None  # type: ignore[attr-defined]  # Opacus' own attribute
        return losses.detach(), samples

    def add_clipped(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """See `PerRowGradients.add_clipped`."""
        losses, samples = self.rows(tokens, lengths)
        norms = torch.stack([sample.flatten(1).norm(dim=1) for sample in samples]).norm(dim=0)
        factors = _factors(norms, self._clip_norm)
        for weight, sample in zip(self._weights, samples, strict=True):
            _add(weight, torch.tensordot(factors, sample, dims=1))
        return losses

    def close(self) -> None:
        """Take the hooks out of the network."""
        self._hooks.cleanup()


class Ghost:
    """Keeps only norms: little memory, two backward passes; no tied weights."""

    def __init__(self, network: torch.nn.Module, *, clip_norm: float, scale: float) -> None:
        _refuse_tied(network)
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self._clip_norm = clip_norm
        self._scale = scale
        self._hooks = NormHooks(network, max_grad_norm=clip_norm)

    def add_clipped(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """See `PerRowGradients.add_clipped`."""
        losses = self._hooks.losses(tokens, lengths)
        self._hooks.backward(losses.sum() / self._scale, retain_graph=True)
        factors = _factors(self._hooks.get_norm_sample(), self._clip_norm)
        self._hooks.disable_hooks()
        backward((factors * losses).sum() / self._scale)
        self._hooks.enable_hooks()
        for weight in self._weights:
            if weight.grad is not None:
                _add(weight, weight.grad)
            weight.grad = None
        return losses.detach()

    def close(self) -> None:
        """Take the hooks out of the network."""
        self._hooks.cleanup()


def check_rows(network: torch.nn.Module, tokens: Tensor, lengths: Tensor) -> None:
    """Compare the gradients of a few rows, taken together by hooks, with each row's own; dropout rests meanwhile.

    Raises:
        ModelError: they differ, or the network does not take several rows apart at all.
    """
    resting = _rest_dropout(network)
    try:
        hooks = Hooks(network, clip_norm=1.0, scale=1.0)
        try:
            _, samples = hooks.rows(tokens, lengths)
        finally:
            hooks.close()
        for row in range(len(tokens)):
            _compare(network, [sample[row] for sample in samples], tokens[row : row + 1], lengths[row : row + 1])
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"this network cannot be trained privately: {type(error).__name__} while its rows were taken apart; "
            "train it without [privacy], or train adapters ([training] method = 'lora')"
        ) from error
    finally:
        for module in resting:
            module.train()


def _compare(network: torch.nn.Module, found: Sequence[Tensor], tokens: Tensor, lengths: Tensor) -> None:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    own = torch.autograd.grad(row_losses_nats(network, tokens, lengths).sum(), weights, allow_unused=True)
    squares = [(0.0, 0.0)]
    for mine, theirs in zip(own, found, strict=True):
        reference = torch.zeros_like(theirs) if mine is None else mine
        squares.append((float((reference - theirs).square().sum()), float(reference.square().sum())))
    difference, size = (sum(column) for column in zip(*squares, strict=True))
    if not difference <= (_MISMATCH**2) * size:
        raise ModelError(
            "this network cannot be trained privately: the gradient of a row depends on how it is computed, or on "
            "other rows of its batch"
        )


def _rest_dropout(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Put modules without weights of their own, dropout among them, into evaluation mode; hooks watch the others."""
    resting = [
        module
        for module in network.modules()
        if module.training and not any(weight.requires_grad for weight in module.parameters(recurse=False))
    ]
    for module in resting:
        module.training = False
    return resting


def _refuse_tied(network: torch.nn.Module) -> None:
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    if len(names) != len(list(network.parameters())):
        raise ModelError(
            "[privacy] clipping: 'ghost' does not serve a network whose input and output share weights; use 'hooks'"
        )


def _factors(norms: Tensor, clip_norm: float) -> Tensor:
    """What each row's gradient is multiplied by; one without gradient keeps it."""
    return (clip_norm / norms).clamp(max=1.0)


def _samples(weight: Any) -> Tensor:
    sample = weight.grad_sample
    if not isinstance(sample, Tensor):
        raise ModelError("this network cannot be trained privately: some weights get no gradient by row")
    return sample


def _add(weight: Any, gradient: Tensor) -> None:
    weight.summed_grad = gradient if weight.summed_grad is None else weight.summed_grad + gradient
