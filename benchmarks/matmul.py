"""Floating-point operations: what a model's passes take, and how many a second its matrix products reach at best."""

import torch
from subject import MeteredModel, cpu_seconds
from torch import nn
from transformers import PreTrainedModel

_ROWS = (128, 512, 2048)
_LARGEST_PRODUCT = 2**26
"""Entries of a result: above this a product times the allocation of memory."""
_REPEATS = 3


def flops(network: PreTrainedModel, meter: MeteredModel) -> float:
    """Operations behind what `meter` counted: two a weight and token, attention, and the output layer's asked rows.

    Normalizations, activations, the softmax and the gathering of caches are left out: they are not matrix products.
    """
    config = network.config
    head: int = network.get_output_embeddings().weight.numel()
    body = sum(layer.weight.numel() for layer in _linear_layers(network)) - head
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention: int = 4 * config.num_hidden_layers * config.num_attention_heads * head_size
    return 2.0 * body * meter.tokens + 2.0 * head * meter.asked_rows + float(attention) * meter.attended


@torch.inference_mode()
def peak_flops(network: PreTrainedModel) -> float:
    """Most operations a second of the products of the network's own weight shapes, over several numbers of rows."""
    shapes = sorted({(layer.in_features, layer.out_features) for layer in _linear_layers(network)})
    products = [(rows, *shape) for shape in shapes for rows in _ROWS if rows * shape[1] <= _LARGEST_PRODUCT]
    return max(_product_flops(*product) for product in products)


def _product_flops(rows: int, n_in: int, n_out: int) -> float:
    inputs, weights = torch.randn(rows, n_in), torch.randn(n_out, n_in)
    fastest = float("inf")
    for _ in range(_REPEATS):
        begun = cpu_seconds()
        nn.functional.linear(inputs, weights)
        fastest = min(fastest, cpu_seconds() - begun)
    return 2.0 * rows * n_in * n_out / fastest


def _linear_layers(network: PreTrainedModel) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]
