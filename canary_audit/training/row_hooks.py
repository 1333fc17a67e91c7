"""Opacus' hooks, fitted to a training in which every backward pass is a batch of its own.

Two things are left out that cost as much as the gradients by row themselves: the gradient of the whole batch, which
nobody reads, and the copies with which Opacus gathers several passes.
"""

import warnings
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from opacus.grad_sample.embedding import compute_embedding_grad_sample, compute_embedding_norm_sample
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient
from opacus.grad_sample.linear import compute_linear_grad_sample, compute_linear_norm_sample
from opacus.grad_sample.utils import register_grad_sampler, register_norm_sampler
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

from canary_audit.models.recurrence import HiddenMap, RowsApart
from canary_audit.training.loss import row_losses_nats

register_grad_sampler(HiddenMap)(compute_linear_grad_sample)
register_norm_sampler([HiddenMap, Conv1D])(compute_linear_norm_sample)


@register_grad_sampler(nn.Embedding)  # type: ignore[untyped-decorator]
def _embedding_grad_sample(layer: nn.Embedding, activations: list[Tensor], backprops: Tensor) -> Any:
    return compute_embedding_grad_sample(layer, activations, _without_padding(layer, activations, backprops))


@register_norm_sampler(nn.Embedding)  # type: ignore[untyped-decorator]
def _embedding_norm_sample(layer: nn.Embedding, activations: list[Tensor], backprops: Tensor) -> Any:
    return compute_embedding_norm_sample(layer, activations, _without_padding(layer, activations, backprops))


def _without_padding(layer: nn.Embedding, activations: list[Tensor], backprops: Tensor) -> Tensor:
    """torch never trains the padding entry, which Opacus overlooks; some models use that token for real."""
    if layer.padding_idx is None:
        return backprops
    return backprops.masked_fill((activations[0] == layer.padding_idx)[..., None], 0.0)


@register_grad_sampler(Conv1D)  # type: ignore[untyped-decorator]
def _conv1d_grad_sample(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    """GPT-2's linear layer, whose weight is the transpose of nn.Linear's."""
    samples = compute_linear_grad_sample(layer, activations, backprops)
    return {weight: sample.mT if weight is layer.weight else sample for weight, sample in samples.items()}


@register_grad_sampler(LlamaRMSNorm)  # type: ignore[untyped-decorator]
def _rms_norm_grad_sample(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[Any, Tensor]:
    """Without it Opacus differentiates the layer anew, which takes a tenth of a small Llama's step."""
    normalized = functional.rms_norm(activations[0].float(), layer.weight.shape, eps=layer.variance_epsilon)
    return {layer.weight: (normalized * backprops).flatten(1, -2).sum(dim=1)}


class _OnePass:
    """What both kinds of hooks share."""

    def __init__(self, network: nn.Module, **options: Any) -> None:
        self._network = network
        self._apart = RowsApart(network)
        self._lowest: list[Tensor] = []
        with self._apart:
            super().__init__(network, loss_reduction="sum", **options)  # type: ignore[call-arg]

    def losses(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """`row_losses_nats`, watched."""
        self._lowest = []
        with self._apart:
            return row_losses_nats(self._network, tokens, lengths)

    def backward(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Run the hooks; the gradient of the whole batch is taken for the lowest weights alone, and dropped."""
        backward(loss, retain_graph=retain_graph, inputs=self._lowest or None)
        for weight in self._lowest:
            weight.grad = None

    def capture_activations_hook(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Also note which weights lie lowest: a backward pass to them meets every other watched layer on its way."""
        super().capture_activations_hook(module, inputs, output)  # type: ignore[misc]
        if torch.is_grad_enabled() and not any(one.requires_grad for one in inputs):
            self._lowest += [weight for weight in module.parameters(recurse=False) if weight.requires_grad]


class SampleHooks(_OnePass, GradSampleHooks):  # type: ignore[misc]  # opacus is untyped to mypy
    """Leave the gradients by row of one backward pass in each weight's `grad_sample`, shape (n_rows, *weight.shape)."""

    def capture_backprops_hook(
        self, module: Any, _inputs: Any, gradients: Any, loss_reduction: str, batch_first: bool
    ) -> None:
        """Take the samples of one call of one layer; those of a weight that serves several calls are summed."""
        sampler = self.GRAD_SAMPLERS.get(type(module), ft_compute_per_sample_gradient)
        for weight, sample in sampler(module, module.activations.pop(), gradients[0].detach()).items():
            if weight.requires_grad:
                weight.grad_sample = sample if weight.grad_sample is None else weight.grad_sample + sample


class NormHooks(_OnePass, GradSampleHooksFastGradientClipping):  # type: ignore[misc]  # opacus is untyped to mypy
    """Leave the norms of the gradients by row for `get_norm_sample`."""


def backward(loss: Tensor, **options: Any) -> None:
    """A backward pass of a network under hooks, with the options of `torch.autograd.backward`."""
    with warnings.catch_warnings():
        # Token ids have no gradient, so the hooks of the embedding fire on its output: that is all they need.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.autograd.backward(loss, **options)
