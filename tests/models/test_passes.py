"""Memory that runs out: fewer rows a pass, the same scores, and a notice."""

import numpy as np
import pytest
import torch
from tiny_networks import CAUSAL, ENCODER_DECODERS, NOBODY, PROMPT, all_tokens

from canary_audit.errors import ModelError
from canary_audit.models.back_end import language_model

NETWORKS = {name: {**CAUSAL, **ENCODER_DECODERS}[name] for name in ("lstm", "llama-2", "mamba", "bart")}
ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory."),
    "processor": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "numpy": MemoryError(),
}


class SmallMemory:
    """A hook that fails every pass of the output layer with more than `most_rows` rows."""

    def __init__(self, network, most_rows, error):
        self.most_rows = most_rows
        self.error = error
        network.get_output_embeddings().register_forward_hook(self)

    def __call__(self, layer, inputs, output):
        if len(inputs[0]) > self.most_rows:
            raise self.error


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def two_steps(network, batch_rows):
    """Scores of ten rows behind ten rows, and the model that gave them."""
    model = language_model(network, batch_rows=batch_rows, context=[4] if network.config.is_encoder_decoder else None)
    rng = np.random.default_rng(1)
    state, _ = model.root(PROMPT, NOBODY)
    state, first = model.step(state, np.zeros(10, dtype=np.int64), np.arange(10), all_tokens(10))
    _, second = model.step(state, rng.integers(10, size=10), np.arange(10), all_tokens(10))
    return np.concatenate([first, second]), model


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_pass_that_runs_out_of_memory_is_repeated_with_half_its_rows(network, error):
    expected, _ = two_steps(network, 10)
    SmallMemory(network, 3, error)
    found, model = two_steps(network, 64)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.batch_rows == 2
    halvings = [notice for notice in model.notices if "memory ran out" in notice]
    assert [notice.split(";")[0] for notice in halvings] == [
        "memory ran out on a forward pass of 10 rows",
        "memory ran out on a forward pass of 5 rows",
    ]


def test_memory_too_small_for_a_single_row_is_an_error(network):
    model = language_model(network, context=[4] if network.config.is_encoder_decoder else None)
    SmallMemory(network, 0, ERRORS["gpu"])
    with pytest.raises(ModelError, match="single row: free memory"):
        model.root(PROMPT, all_tokens(1))


def test_other_errors_pass_through(network):
    model = language_model(network, context=[4] if network.config.is_encoder_decoder else None)
    SmallMemory(network, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        model.root(PROMPT, all_tokens(1))
