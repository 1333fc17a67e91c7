"""Every back-end against the conformance suite and against full forward passes of its network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from canary_audit.config import ModelConfig
from canary_audit.errors import ModelError
from canary_audit.models.conformance import check_model, check_steps
from canary_audit.models.interface import Children
from canary_audit.models.load import language_model
from canary_audit.models.networks import build_network
from canary_audit.models.table import TableModel

VOCAB_SIZE = 300
PROMPT = [0, 7, 7, 31]


def gpt2():
    config = GPT2Config(vocab_size=VOCAB_SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval()


def built_in(kind, layers):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, layers=layers, context_tokens=16)
    network = build_network(config, VOCAB_SIZE, 0.3, 1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)  # sharper distributions, so that a mixed-up row shows
    return network


NETWORKS = {
    "lstm": lambda: built_in("lstm", 1),
    "lstm-2": lambda: built_in("lstm", 2),
    "llama": lambda: built_in("llama", 1),
    "llama-2": lambda: built_in("llama", 2),
    "gpt2-tied": gpt2,
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def naive_log_probs(network, tokens):
    """Log-probabilities after the whole sequence, in one forward pass without any state."""
    with torch.inference_mode():
        logits = network(torch.tensor([tokens])).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def all_tokens(n_rows):
    return Children(rows=np.repeat(np.arange(n_rows), VOCAB_SIZE), tokens=np.tile(np.arange(VOCAB_SIZE), n_rows))


NOBODY = Children(rows=np.empty(0, dtype=np.int64), tokens=np.empty(0, dtype=np.int64))


@pytest.mark.parametrize("batch_rows", [1, 3, 4096])
def test_conformance(network, batch_rows):
    check_model(language_model(network, batch_rows=batch_rows), VOCAB_SIZE, PROMPT, seed=batch_rows)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32), n_rows=st.lists(st.integers(1, 9), min_size=1, max_size=5), batch_rows=st.integers(1, 9)
)
def test_random_trees_score_as_full_forward_passes(network, seed, n_rows, batch_rows):
    rng = np.random.default_rng(seed)
    model = language_model(network, batch_rows=batch_rows)
    state, log_probs = model.root(PROMPT, all_tokens(1))
    np.testing.assert_allclose(log_probs, naive_log_probs(network, PROMPT), atol=1e-4)
    prefixes = [PROMPT]
    for n in n_rows:
        parents, tokens = rng.integers(len(prefixes), size=n), rng.integers(VOCAB_SIZE, size=n)
        prefixes = [[*prefixes[parent], int(token)] for parent, token in zip(parents, tokens, strict=True)]
        rows = np.sort(rng.integers(n, size=rng.integers(2 * n)))
        children = Children(rows=rows, tokens=rng.integers(VOCAB_SIZE, size=len(rows)))
        state, log_probs = model.step(state, parents, tokens, children)
        expected = [
            naive_log_probs(network, prefixes[row])[token] for row, token in zip(rows, children.tokens, strict=True)
        ]
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_the_fake_steps_like_a_back_end():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = TableModel(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    check_steps(table, 12, [0], seed=1)


class Mixed(TableModel):
    """Forgets to gather its rows."""

    def step(self, state, parents, tokens, children):
        return super().step(state, np.minimum(np.arange(len(parents)), len(state) - 1), tokens, children)


class Unnormalized(TableModel):
    def root(self, prompt, children):
        state, log_probs = super().root(prompt, children)
        return state, log_probs * 1.01


@pytest.mark.parametrize(("broken", "reason"), [(Mixed, "scores differently"), (Unnormalized, "sum to")])
def test_conformance_finds_broken_models(broken, reason):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = broken(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    with pytest.raises(ModelError, match=reason):
        check_steps(table, 12, [0], seed=1)


def test_conformance_finds_a_model_that_ignores_its_prompt():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = TableModel(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    with pytest.raises(ModelError, match="reading it from the root"):
        check_model(table, 12, [0], seed=1)


def test_chunks_do_not_change_the_order_of_results(network):
    rng = np.random.default_rng(2)
    tokens, parents = rng.integers(VOCAB_SIZE, size=10), np.zeros(10, dtype=np.int64)
    whole, parts = (language_model(network, batch_rows=size) for size in (10, 3))
    (one, expected), (two, found) = (
        model.step(model.root(PROMPT, NOBODY)[0], parents, tokens, all_tokens(10)) for model in (whole, parts)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    order = rng.permutation(10)
    expected = whole.step(one, order, tokens, all_tokens(10))[1]
    np.testing.assert_allclose(parts.step(two, order, tokens, all_tokens(10))[1], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_logits_that_cannot_be_true_are_refused(kind):
    network = built_in(kind, 1)
    model = language_model(network)
    for value, fault in [(float("nan"), "not a number"), (float("inf"), "not a number")]:
        with torch.no_grad():
            network.lm_head.weight[9].fill_(value)
        with pytest.raises(ModelError, match=fault):
            model.root(PROMPT, Children(rows=np.array([0]), tokens=np.array([5])))


def test_a_token_the_model_rules_out_is_refused_when_asked_and_harmless_otherwise():
    network = built_in("lstm", 1)
    with torch.no_grad():
        network.lm_head.bias[9] = -torch.inf
    model = language_model(network)
    model.root(PROMPT, Children(rows=np.array([0]), tokens=np.array([5])))
    with pytest.raises(ModelError, match="1 of 2 log-probabilities are minus infinity"):
        model.root(PROMPT, Children(rows=np.array([0, 0]), tokens=np.array([5, 9])))


def test_an_empty_prompt_is_refused(network):
    with pytest.raises(ModelError, match="prompt is empty"):
        language_model(network).root([], NOBODY)


def test_a_network_in_training_mode_is_refused(network):
    network.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            language_model(network).root(PROMPT, NOBODY)
    finally:
        network.eval()


@pytest.mark.parametrize(
    ("rows", "tokens"), [([1, 0], [5, 5]), ([0, 2], [5, 5]), ([0, 0], [5, -1]), ([0], [5, 5]), ([-1], [5])]
)
def test_impossible_children_are_a_mistake_of_the_caller(network, rows, tokens):
    model = language_model(network)
    state, _ = model.root(PROMPT, NOBODY)
    children = Children(rows=np.array(rows), tokens=np.array(tokens))
    with pytest.raises(ValueError, match="children"):
        model.step(state, np.zeros(2, dtype=np.int64), np.array([3, 4]), children)


def test_the_context_of_a_transformer_ends():
    model = language_model(built_in("llama", 1))
    state, _ = model.root([0] * 15, NOBODY)
    state, _ = model.step(state, np.array([0]), np.array([1]), NOBODY)
    with pytest.raises(ModelError, match="reach 17 tokens, the model was built for 16"):
        model.step(state, np.array([0]), np.array([1]), NOBODY)


def sliding_window():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return MistralForCausalLM(MistralConfig(vocab_size=40, num_key_value_heads=2, sliding_window=4, **sizes))


def recurrent_state():
    return MambaForCausalLM(MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1))


def encoder_decoder():
    return T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


@pytest.mark.parametrize("build", [sliding_window, recurrent_state, encoder_decoder])
def test_a_past_that_prefixes_cannot_share_is_refused(build):
    with pytest.raises(ModelError, match="cannot be audited"):
        language_model(build())
