"""The tree of keys and values: immutable states, and memory of one token a node."""

import numpy as np
import torch
from tiny_networks import CAUSAL, NOBODY, PROMPT, all_tokens

from canary_audit.models.rereading import RereadingModel
from canary_audit.models.transformer import TransformerModel


def n_bytes(past):
    """All distinct storage behind a state."""
    layers = [*past.prompt, *(layer for level in past.levels for layer in level.layers)]
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for pair in layers for tensor in pair
    }
    return sum(storages.values())


def test_memory_grows_by_one_token_a_node():
    network = CAUSAL["mistral-window"]()
    config = network.config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    model = TransformerModel(network, batch_rows=7)
    state, _ = model.root(PROMPT, NOBODY)
    assert n_bytes(state) == len(PROMPT) * per_token
    rng = np.random.default_rng(0)
    n_nodes, n_rows = len(PROMPT), 1
    for n_next in (10, 50, 20):
        state, _ = model.step(state, rng.integers(n_rows, size=n_next), rng.integers(300, size=n_next), NOBODY)
        n_nodes, n_rows = n_nodes + n_next, n_next
        assert n_bytes(state) == n_nodes * per_token


def test_later_steps_leave_every_older_state_as_it_was():
    """A tree grown from several of its states, against reading from the start."""
    network = CAUSAL["gemma3-window"]()
    fast, slow = TransformerModel(network, batch_rows=3), RereadingModel(network)
    rng = np.random.default_rng(3)
    states = [tuple(model.root(PROMPT, NOBODY)[0] for model in (fast, slow))]
    sizes = [1]
    for _ in range(25):
        which = int(rng.integers(len(states)))
        if len(PROMPT) + 5 < states[which][1].shape[1]:
            continue
        n_rows = int(rng.integers(1, 6))
        parents, tokens = rng.integers(sizes[which], size=n_rows), rng.integers(300, size=n_rows)
        answers = [
            model.step(state, parents, tokens, all_tokens(n_rows))
            for model, state in zip((fast, slow), states[which], strict=True)
        ]
        np.testing.assert_allclose(answers[0][1], answers[1][1], atol=1e-4)
        states.append((answers[0][0], answers[1][0]))
        sizes.append(n_rows)


def test_the_network_is_left_as_it_was():
    network = CAUSAL["gpt2-tied"]()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = TransformerModel(network)
    state, _ = model.root(PROMPT, all_tokens(1))
    model.step(state, np.array([0]), np.array([1]), all_tokens(1))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network.train()
    network(torch.tensor([PROMPT]), labels=torch.tensor([PROMPT])).loss.backward()
