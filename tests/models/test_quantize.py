"""Rounded weights, against a naive loop and the bounds of rounding."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from canary_audit.config import ModelConfig
from canary_audit.models.networks import build_network
from canary_audit.models.quantize import quantize, rounded


def naive(weight, bits):
    """Row by row, number by number, in double precision."""
    most = 2 ** (bits - 1) - 1
    out = np.zeros_like(weight)
    for row, values in enumerate(weight):
        scale = max(abs(value) for value in values) / most
        for column, value in enumerate(values):
            out[row, column] = round(value / scale) * scale if scale else value
    return out


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_is_that_of_a_loop(bits):
    weight = np.random.default_rng(bits).normal(size=(5, 7))
    weight[2] = 0.0
    found = rounded(torch.from_numpy(weight), bits, channel_axis=0).numpy()
    assert found == pytest.approx(naive(weight, bits), abs=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_channel_has_few_values_each_within_half_a_step_and_its_largest_unchanged(bits):
    weight = torch.randn(6, 500, generator=torch.Generator().manual_seed(1))
    found = rounded(weight, bits, channel_axis=0)
    largest = weight.abs().amax(dim=1, keepdim=True)
    step = largest / (2 ** (bits - 1) - 1)
    assert all(len(row.unique()) <= 2**bits - 1 for row in found)
    assert ((found - weight).abs() <= step / 2 * (1 + 1e-5)).all()
    assert torch.allclose(found.abs().amax(dim=1, keepdim=True), largest)
    assert torch.allclose(rounded(found, bits, channel_axis=0), found)


def test_matrices_are_rounded_and_vectors_are_not():
    network = build_network(ModelConfig(hidden_size=16), 300, 0.0, 1)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    quantize(network, 4)
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            assert torch.equal(weight, before[name])
        else:
            assert not torch.equal(weight, before[name])
            assert all(len(row.unique()) <= 15 for row in weight)


def test_the_channels_of_gpt2_are_columns():
    """Its layers keep their weights transposed."""
    network = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2))
    quantize(network, 3)
    layer = network.transformer.h[0].mlp.c_fc.weight
    assert all(len(column.unique()) <= 7 for column in layer.T)
    assert any(len(row.unique()) > 7 for row in layer)
    embedding = network.transformer.wte.weight
    assert all(len(row.unique()) <= 7 for row in embedding)
