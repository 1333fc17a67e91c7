"""Rounded weights: what a model quantized to a few bits would say.

Simulated weight-only quantization, round to nearest: every weight becomes a whole multiple of a scale of its output
channel, and is computed with in fp32. Activations, biases and norms stay as they are. The losses are those of the
simplest scheme; calibrated ones (GPTQ, AWQ) lose less.
"""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


@torch.no_grad()
def quantize(network: nn.Module, bits: int) -> None:
    """Round every matrix of `network` in place, symmetrically, to 2**bits - 1 values per output channel.

    A channel's scale is its largest magnitude over 2**(bits - 1) - 1. Of an embedding the channels are its rows; tied
    weights are rounded once, by rows.
    """
    transposed = {id(module.weight) for module in network.modules() if isinstance(module, Conv1D)}
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.copy_(rounded(weight, bits, channel_axis=1 if id(weight) in transposed else 0))


def rounded(weight: Tensor, bits: int, *, channel_axis: int) -> Tensor:
    """The rounded weights, of the same shape; a channel of zeros stays as it is."""
    most = 2 ** (bits - 1) - 1
    others = [axis for axis in range(weight.ndim) if axis != channel_axis]
    scale = weight.abs().amax(dim=others, keepdim=True) / most
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight / scale).round() * scale
