"""The recurrence of private training against nn.LSTM."""

import pytest
import torch
from torch import nn

from canary_audit.config import ModelConfig
from canary_audit.models.networks import build_network
from canary_audit.models.recurrence import PerRowLstm, RowsApart

LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])


def pair(layers, *, input_size=5, hidden_size=7, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layers)
        lstm = nn.LSTM(input_size, hidden_size, layers, batch_first=True).to(dtype)
    return lstm, PerRowLstm(lstm)


def inputs_and_weights(n_rows, n_tokens, *, input_size=5, hidden_size=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    shapes = (n_rows, n_tokens, input_size), (n_rows, n_tokens, hidden_size)
    inputs, weights = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return inputs.requires_grad_(), weights


def gradients(module, lstm, inputs, weights):
    outputs, _ = module(inputs)
    return outputs, torch.autograd.grad((outputs * weights).sum(), [inputs, *lstm.parameters()])


@LAYERS
@pytest.mark.parametrize("n_tokens", [1, 2, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_outputs_state_and_gradients_are_those_of_the_fused_kernel(layers, n_tokens, dtype, tolerance):
    lstm, ours = pair(layers, dtype=dtype)
    inputs, weights = inputs_and_weights(4, n_tokens, dtype=dtype)
    expected, expected_gradients = gradients(lstm, lstm, inputs, weights)
    outputs, found = gradients(ours, lstm, inputs, weights)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance)
    for one, other in zip(found, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.norm()))
    for one, other in zip(ours(inputs)[1], lstm(inputs)[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_gradients_agree_with_finite_differences():
    _, ours = pair(2, input_size=2, hidden_size=3)
    inputs, _ = inputs_and_weights(2, 3, input_size=2)
    assert torch.autograd.gradcheck(lambda x, *_: ours(x)[0], (inputs, *ours.parameters()))


def test_a_second_backward_pass_finds_what_the_first_did():
    lstm, ours = pair(2)
    inputs, weights = inputs_and_weights(3, 5)
    loss = (ours(inputs)[0] * weights).sum()
    first, second = (
        torch.autograd.grad(loss, [inputs, *lstm.parameters()], retain_graph=again) for again in (True, False)
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_strided_inputs_and_gradients_are_read_right():
    lstm, ours = pair(1)
    wide, weights = inputs_and_weights(4, 6, input_size=10)
    inputs = wide.detach().transpose(0, 1).contiguous().transpose(0, 1)[..., ::2].requires_grad_()
    strided = weights.transpose(0, 1).contiguous().transpose(0, 1)
    expected, found = (gradients(module, lstm, inputs, strided)[1] for module in (lstm, ours))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_autocast_does_not_touch_it():
    _, ours = pair(1, dtype=torch.float32)
    inputs, _ = inputs_and_weights(2, 4, dtype=torch.float32)
    undisturbed = ours(inputs)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(inputs)[0], undisturbed)


def test_outside_of_the_block_the_network_is_what_it_was():
    network = build_network(ModelConfig(kind="lstm", hidden_size=16, layers=2, context_tokens=16), 300, 0.0, 1)
    lstm, names = network.lstm, list(network.state_dict())
    apart = RowsApart(network)
    with apart:
        inside = network.lstm
        assert isinstance(inside, PerRowLstm)
        assert {id(weight) for weight in inside.parameters()} == {id(weight) for weight in lstm.parameters()}
    assert network.lstm is lstm
    assert list(network.state_dict()) == names
    with apart:
        assert network.lstm is inside
    with pytest.raises(ZeroDivisionError), apart:
        raise ZeroDivisionError
    assert network.lstm is lstm


def test_the_built_in_network_computes_the_same_in_the_block():
    network = build_network(ModelConfig(kind="lstm", hidden_size=16, layers=2, context_tokens=16), 300, 0.0, 1)
    tokens = torch.arange(24).reshape(2, 12)
    expected = network(tokens).logits
    with RowsApart(network):
        torch.testing.assert_close(network(tokens).logits, expected, rtol=0, atol=1e-6)
