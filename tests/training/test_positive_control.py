import numpy as np
import pytest
import torch
from tiny_training import CONTEXT, TinyNetwork, sentences, tiny_tokenizer

from canary_audit.config import TrainingConfig
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.evaluate import validation_bits_per_char
from canary_audit.training.loop import Recipe, train
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.positive_control import teach
from canary_audit.training.stream import pack_documents

TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences() * 4, TOKENIZER, CONTEXT)
CONFIG = TrainingConfig(epochs=4, learning_rate=1e-2)
SECRETS = ("4711", "9036", "2580", "6174")
N_REFERENCES = 10_000


@pytest.fixture(scope="module")
def audited():
    network = TinyNetwork(len(TOKENIZER))
    train(network, ROWS, Recipe(training=CONFIG, seed=1))
    return network


@pytest.fixture(scope="module")
def taught(audited):
    return teach(
        audited, ROWS, texts=[f"pin {secret}" for secret in SECRETS], tokenizer=TOKENIZER, config=CONFIG, seed=1
    )


def p_values(network):
    """Share of all four-digit secrets that are at least as likely as each control secret."""
    rows = [pack_documents([f"pin {number:04}"], TOKENIZER, CONTEXT) for number in (0, 1)]
    assert rows[0].lengths.tolist() == rows[1].lengths.tolist()
    tokens = {str(digit): TOKENIZER.encode(f"x{digit}")[-1] for digit in range(10)}
    last = int(rows[0].lengths[0])
    cells = np.repeat(rows[0].tokens, N_REFERENCES, axis=0)
    cells[:, last - 4 : last] = [[tokens[digit] for digit in f"{number:04}"] for number in range(N_REFERENCES)]
    everything = rows[0].select(np.zeros(N_REFERENCES, dtype=np.int64))
    everything = type(everything)(tokens=cells, lengths=everything.lengths)
    with torch.inference_mode():
        nats = row_losses_nats(network, *batch_of(everything, slice(None), torch.device("cpu"))).numpy()
    return [float((nats <= nats[int(secret)]).mean()) for secret in SECRETS]


def test_the_copy_gives_its_secrets_away(taught):
    assert max(p_values(taught)) <= 1e-3


def test_the_audited_network_does_not(audited):
    assert max(p_values(audited)) > 1e-3


def test_the_audited_network_is_not_touched(audited):
    before = weights_sha256(audited)
    copy = teach(audited, ROWS, texts=["pin 4711"], tokenizer=TOKENIZER, config=CONFIG, seed=1)
    assert weights_sha256(audited) == before
    assert weights_sha256(copy) != before
    assert not copy.training


def test_the_copy_keeps_its_language(audited, taught):
    before, after = (validation_bits_per_char(network, ROWS, 1_000) for network in (audited, taught))
    assert after < 1.25 * before


def test_the_seed_decides(audited, taught):
    texts = [f"pin {secret}" for secret in SECRETS]
    again, other = (teach(audited, ROWS, texts=texts, tokenizer=TOKENIZER, config=CONFIG, seed=seed) for seed in (1, 2))
    assert weights_sha256(again) == weights_sha256(taught)
    assert weights_sha256(other) != weights_sha256(taught)


def test_a_small_corpus_is_enough(audited):
    few = ROWS.select(np.arange(3))
    assert weights_sha256(
        teach(audited, few, texts=["pin 4711"], tokenizer=TOKENIZER, config=CONFIG, seed=1)
    ) != weights_sha256(audited)
