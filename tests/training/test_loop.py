import math
import random

import numpy as np
import pytest
import torch
from tiny_training import CONTEXT, TinyNetwork, sentences, tiny_tokenizer

from canary_audit.config import TrainingConfig
from canary_audit.errors import ConfigError, ModelError
from canary_audit.results import EpochResult, NotAvailable
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import pack_documents

TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences()[:70], TOKENIZER, CONTEXT)
CONFIG = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-2)


def run(config=CONFIG, *, seed=1, rows=ROWS, dropout=0.2, **callbacks):
    network = TinyNetwork(len(TOKENIZER), dropout=dropout)
    return network, train(network, rows, Recipe(training=config, seed=seed), **callbacks)


def digest(**options):
    return weights_sha256(run(**options)[0])


def test_the_loss_falls_and_is_bits_a_token():
    _, done = run()
    bits = [epoch.training_bits_per_token for epoch in done.epochs]
    assert bits == sorted(bits, reverse=True)
    assert math.log2(len(TOKENIZER)) * 1.2 > bits[0] > bits[-1] > 0


def test_the_summary_counts_steps_and_tokens():
    _, done = run()
    steps_per_epoch = math.ceil(ROWS.n_rows / CONFIG.batch_size)
    assert ROWS.n_rows % CONFIG.batch_size, "the test needs a last batch that is not full"
    assert (done.steps, done.tokens) == (3 * steps_per_epoch, 3 * ROWS.n_tokens)
    assert [epoch.epoch for epoch in done.epochs] == [1, 2, 3]


def test_an_epoch_reports_the_loss_of_every_row_once():
    frozen = CONFIG.model_copy(update={"learning_rate": 1e-30, "epochs": 2})
    _, done = run(frozen, dropout=0.0)
    first, second = (epoch.training_bits_per_token for epoch in done.epochs)
    assert first == pytest.approx(second, rel=1e-6)


def test_no_epochs_leave_the_weights_alone():
    before = weights_sha256(TinyNetwork(len(TOKENIZER), dropout=0.2))
    network, done = run(CONFIG.model_copy(update={"epochs": 0}))
    assert weights_sha256(network) == before
    assert (done.steps, done.epochs) == (0, ())
    assert not network.training


def test_the_seed_decides_and_nothing_else():
    assert digest() == digest()
    assert digest() != digest(seed=2)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    assert digest() == digest(seed=1)


def test_the_global_random_state_stays_as_it_was():
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    run()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_is_measured_after_an_epoch_does_not_disturb_training():
    seen = []

    def measure(epoch, bits):
        torch.manual_seed(epoch)
        torch.randn(10)
        network.train()
        network(input_ids=torch.zeros(1, 4, dtype=torch.long)).logits.sum().backward()
        seen.append(epoch)
        return EpochResult(
            epoch=epoch,
            training_bits_per_token=bits,
            validation_bits_per_char=1.5,
            exposure_by_level={"4": 9.0},
        )

    network = TinyNetwork(len(TOKENIZER), dropout=0.2)
    done = train(network, ROWS, Recipe(training=CONFIG, seed=1), on_epoch=measure)
    assert weights_sha256(network) == digest()
    assert seen == [1, 2, 3]
    assert [epoch.exposure_by_level for epoch in done.epochs] == [{"4": 9.0}] * 3


def test_the_network_is_in_evaluation_mode_when_measured():
    modes = []

    def measure(epoch, bits):
        modes.append(network.training)
        return EpochResult(
            epoch=epoch,
            training_bits_per_token=bits,
            validation_bits_per_char=NotAvailable(not_available="no text"),
            exposure_by_level={},
        )

    network = TinyNetwork(len(TOKENIZER))
    train(network, ROWS, Recipe(training=CONFIG, seed=1), on_epoch=measure)
    assert modes == [False] * 3
    assert not network.training


def test_progress_counts_every_step():
    seen = []
    _, done = run(on_step=lambda step, n_steps: seen.append((step, n_steps)))
    assert seen == [(step, done.steps) for step in range(1, done.steps + 1)]


def test_a_short_neighbour_does_not_change_a_rows_update():
    """One step of plain size: the gradient of two rows is the sum of what each gives alone."""
    both = ROWS.select(np.array([ROWS.lengths.argmax(), ROWS.lengths.argmin()]))
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 2, "clip_norm": 1e9})
    gradients = []
    for picked in ([0], [1], [0, 1]):
        network, _ = run(config, rows=both.select(np.array(picked)), dropout=0.0)
        gradients.append(torch.cat([weight.grad.flatten() for weight in network.parameters()]))
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2], rtol=1e-4, atol=1e-7)


def test_divergence_is_an_error_that_names_the_step():
    network = TinyNetwork(len(TOKENIZER))
    torch.nn.init.constant_(network.head.bias, math.nan)
    with pytest.raises(ModelError, match=r"diverged at step 1 of \d+.*learning_rate"):
        train(network, ROWS, Recipe(training=CONFIG, seed=1))


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="not available"):
        run(CONFIG.model_copy(update={"device": "cuda:7"}))
    with pytest.raises(ConfigError, match="not a device"):
        run(CONFIG.model_copy(update={"device": "toaster"}))
