import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from canary_audit.config import ModelConfig
from canary_audit.errors import ConfigError
from canary_audit.models.networks import LstmForCausalLM, build_network

KINDS = pytest.mark.parametrize("kind", ["lstm", "llama"])
SMALL = {"hidden_size": 16, "heads": 2, "context_tokens": 16}


def build(kind, *, dropout=0.0, seed=1):
    return build_network(ModelConfig(kind=kind, **SMALL), 300, dropout, seed)


@KINDS
def test_weights_are_a_function_of_the_seed_alone(kind):
    torch.manual_seed(5)
    one = build(kind).state_dict()
    undisturbed = torch.rand(1)
    other = build(kind).state_dict()
    torch.manual_seed(5)
    assert torch.equal(undisturbed, torch.rand(1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], tensor) for name, tensor in build(kind, seed=2).state_dict().items())


@KINDS
def test_size_follows_the_configuration(kind):
    network = build(kind)
    assert isinstance(network, {"lstm": LstmForCausalLM, "llama": LlamaForCausalLM}[kind])
    assert network(torch.zeros((2, 5), dtype=torch.long)).logits.shape == (2, 5, 300)
    assert network.dtype == torch.float32
    assert network.get_input_embeddings().weight.data_ptr() != network.lm_head.weight.data_ptr()


@KINDS
def test_every_weight_has_a_gradient(kind):
    # the embedding of <|endoftext|>, token 0, included: a padding id would have stopped it
    network = build(kind).train()
    tokens = torch.arange(12).reshape(2, 6)
    cross_entropy(network(tokens).logits.flatten(0, 1), tokens.flatten()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    assert network.get_input_embeddings().weight.grad[0].abs().sum() > 0


@KINDS
def test_dropout_acts_in_training_only(kind):
    network = build(kind, dropout=0.5)
    tokens = torch.arange(12).reshape(2, 6)
    network.train()
    assert not torch.equal(network(tokens).logits, network(tokens).logits)
    network.eval()
    assert torch.equal(network(tokens).logits, network(tokens).logits)


@KINDS
def test_it_learns(kind):
    network = build(kind).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    tokens = torch.arange(12).reshape(2, 6)
    losses = []
    for _ in range(60):
        loss = cross_entropy(network(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 5
    assert losses[-1] < 0.5


def test_heads_that_do_not_divide_the_hidden_size_are_refused():
    with pytest.raises(ConfigError, match="multiple of twice the heads"):
        build_network(ModelConfig(kind="llama", hidden_size=20, heads=4), 300, 0.0, 1)
