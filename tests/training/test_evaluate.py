import math
from collections import Counter

import numpy as np
import pytest
from tiny_training import CONTEXT, TinyNetwork, naive_nats, sentences, tiny_tokenizer

from canary_audit.config import TrainingConfig
from canary_audit.results import NotAvailable
from canary_audit.training.evaluate import language_check, unigram_bits_per_char, validation_bits_per_char
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import pack_documents

TOKENIZER = tiny_tokenizer()
HELD_OUT = sentences()[:9]
N_CHARS = sum(map(len, HELD_OUT))
TRAINING_ROWS = pack_documents(sentences()[9:], TOKENIZER, CONTEXT)
HELD_OUT_ROWS = pack_documents(HELD_OUT, TOKENIZER, CONTEXT)
VOCAB_SIZE = len(TOKENIZER)


def baseline():
    return unigram_bits_per_char(TRAINING_ROWS, HELD_OUT_ROWS, n_chars=N_CHARS, vocab_size=VOCAB_SIZE)


def test_validation_loss_equals_a_loop_over_single_tokens():
    network = TinyNetwork(VOCAB_SIZE).eval()
    nats = sum(
        naive_nats(network, row, length)
        for row, length in zip(HELD_OUT_ROWS.tokens, HELD_OUT_ROWS.lengths, strict=True)
    )
    bits = validation_bits_per_char(network, HELD_OUT_ROWS, N_CHARS)
    assert bits == pytest.approx(nats / math.log(2) / N_CHARS, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_mode_and_has_no_dropout(training):
    network = TinyNetwork(VOCAB_SIZE, dropout=0.5).train(training)
    values = {validation_bits_per_char(network, HELD_OUT_ROWS, N_CHARS) for _ in range(2)}
    assert len(values) == 1
    assert network.training is training


def test_more_rows_than_one_batch_holds():
    many = HELD_OUT_ROWS.select(np.arange(200) % HELD_OUT_ROWS.n_rows)
    network = TinyNetwork(VOCAB_SIZE)
    single = [
        validation_bits_per_char(network, HELD_OUT_ROWS.select(np.array([row])), 1)
        for row in range(HELD_OUT_ROWS.n_rows)
    ]
    wanted = sum(single[row % HELD_OUT_ROWS.n_rows] for row in range(200))
    assert validation_bits_per_char(network, many, 1) == pytest.approx(wanted, rel=1e-6)


def test_baseline_equals_smoothed_frequencies_of_the_documents():
    def predicted(documents):
        return [token for text in documents for token in [*TOKENIZER.encode(text), TOKENIZER.eos_token_id]]

    counts = Counter(predicted(sentences()[9:]))
    total = sum(counts.values()) + VOCAB_SIZE
    bits = sum(-math.log2((counts[token] + 1) / total) for token in predicted(HELD_OUT))
    assert baseline() == pytest.approx(bits / N_CHARS, rel=1e-12)


def test_an_untrained_network_has_not_learned_its_language():
    for seed in range(20):
        network = TinyNetwork(VOCAB_SIZE, seed=seed)
        bits = validation_bits_per_char(network, HELD_OUT_ROWS, N_CHARS)
        assert not language_check(bits, baseline()).learned


def test_a_trained_network_has():
    network = TinyNetwork(VOCAB_SIZE)
    train(network, TRAINING_ROWS, Recipe(training=TrainingConfig(epochs=2, learning_rate=1e-2), seed=1))
    bits = validation_bits_per_char(network, HELD_OUT_ROWS, N_CHARS)
    check = language_check(bits, baseline())
    assert check.learned
    assert (check.validation_bits_per_char, check.baseline_bits_per_char) == (bits, baseline())


def test_token_frequencies_alone_are_not_language():
    assert not language_check(baseline(), baseline()).learned
    assert not language_check(0.95 * baseline(), baseline()).learned


def test_what_was_not_measured_was_not_learned():
    missing = NotAvailable(not_available="no held-out text")
    assert not language_check(missing, 3.0).learned
    assert not language_check(1.0, missing).learned
