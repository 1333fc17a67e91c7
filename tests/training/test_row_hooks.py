"""Gradients by row from hooks against a loop over the rows."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from canary_audit.config import ModelConfig
from canary_audit.models.networks import build_network
from canary_audit.training.adapters import LowRankAdapters
from canary_audit.training.loss import row_losses_nats
from canary_audit.training.row_hooks import NormHooks, SampleHooks

VOCAB_SIZE, CONTEXT = 50, 11
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def built_in(kind, layers):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, layers=layers, context_tokens=CONTEXT)
    return build_network(config, VOCAB_SIZE, 0.0, 1)


def seeded(architecture, config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return architecture(config)


def gpt2():
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
    rest = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    return seeded(GPT2LMHeadModel, GPT2Config(vocab_size=VOCAB_SIZE, **sizes, **rest))


def with_adapters(network):
    LowRankAdapters(network, 4, 1)
    with torch.no_grad():  # the second factors start at zero, and the first would have no gradient
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    return network


def frozen(network, *kept):
    """Only weights whose names hold one of `kept` are trained."""
    for name, weight in network.named_parameters():
        weight.requires_grad_(any(part in name for part in kept))
    return network


UNTIED = {
    "lstm": lambda: built_in("lstm", 1),
    "lstm, 2 layers": lambda: built_in("lstm", 2),
    "llama": lambda: built_in("llama", 2),
    "neox": lambda: seeded(GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES)),
    "llama, padding": lambda: seeded(LlamaForCausalLM, LlamaConfig(**SIZES, pad_token_id=int(batch()[0][0, 3]))),
    "llama, adapters": lambda: with_adapters(built_in("llama", 2)),
    "llama, upper half": lambda: frozen(built_in("llama", 2), "layers.1", "lm_head"),
    "llama, scattered": lambda: frozen(built_in("llama", 2), "layers.0.mlp.up", "layers.1.input_layernorm", "k_proj"),
    "lstm, without its embedding": lambda: frozen(built_in("lstm", 2), "lstm", "lm_head"),
    "lstm, upper layer": lambda: frozen(built_in("lstm", 2), "l1"),
}
TIED = {
    "gpt2": gpt2,
    "llama, tied": lambda: seeded(LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True)),
}


def batch():
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, VOCAB_SIZE, (4, CONTEXT + 1), generator=generator)
    return tokens, torch.tensor([CONTEXT, 4, 1, CONTEXT])


def looped(network, weights):
    """Gradients of each row on its own, in one vector a row."""
    tokens, lengths = batch()
    rows = []
    for row in range(len(tokens)):
        loss = row_losses_nats(network, tokens[row : row + 1], lengths[row : row + 1]).sum()
        rows.append(torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, weights)]))
    return torch.stack(rows)


def trained(network):
    return [weight for weight in network.parameters() if weight.requires_grad]


@pytest.mark.parametrize("name", UNTIED | TIED)
def test_samples_are_the_gradients_of_single_rows(name):
    network = (UNTIED | TIED)[name]().train()
    weights = trained(network)
    expected = looped(network, weights)
    hooks = SampleHooks(network)
    for _ in range(2):  # nothing is left over from a pass
        hooks.backward(hooks.losses(*batch()).sum())
        found = torch.cat([weight.grad_sample.flatten(1) for weight in weights], dim=1)
        assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()
        assert all(weight.grad is None for weight in network.parameters())
        for weight in weights:
            weight.grad_sample = None


@pytest.mark.parametrize("name", UNTIED)
def test_norms_are_those_of_single_rows(name):
    network = UNTIED[name]().train()
    expected = looped(network, trained(network)).norm(dim=1)
    hooks = NormHooks(network, max_grad_norm=1.0)
    for _ in range(2):
        hooks.backward(hooks.losses(*batch()).sum())
        torch.testing.assert_close(hooks.get_norm_sample(), expected, rtol=1e-5, atol=0)
        assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("kind", [SampleHooks, NormHooks])
def test_what_is_taken_out_leaves_nothing(kind):
    network = built_in("lstm", 2).train()
    hooks = kind(network)
    hooks.backward(hooks.losses(*batch()).sum())
    hooks.cleanup()
    assert not any(hasattr(weight, "grad_sample") or hasattr(weight, "_norm_sample") for weight in network.parameters())
    assert isinstance(network.lstm, torch.nn.LSTM)
    kind(network).cleanup()  # which would not be possible on top of the first
