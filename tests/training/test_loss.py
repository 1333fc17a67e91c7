import numpy as np
import pytest
import torch
from tiny_training import CONTEXT, TinyNetwork, naive_nats, sentences, tiny_tokenizer

from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.stream import pack_documents

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows():
    return pack_documents(sentences()[:12], tiny_tokenizer(), CONTEXT)


@pytest.fixture(scope="module")
def network():
    return TinyNetwork(320).eval()


def test_row_losses_equal_a_loop_over_single_tokens(rows, network):
    assert len(set(rows.lengths.tolist())) > 1, "the test needs rows of several lengths"
    with torch.inference_mode():
        losses = row_losses_nats(network, *batch_of(rows, slice(None), CPU))
        wanted = [naive_nats(network, row, length) for row, length in zip(rows.tokens, rows.lengths, strict=True)]
    assert losses.tolist() == pytest.approx(wanted, rel=1e-5)


def gradient_of_row_0(rows, network, neighbour):
    tokens, lengths = batch_of(rows, np.array([0, neighbour]), CPU)
    loss = row_losses_nats(network, tokens, lengths)[0]
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))])


def test_a_rows_gradient_does_not_depend_on_its_neighbour(rows, network):
    longest, shortest = int(rows.lengths.argmax()), int(rows.lengths.argmin())
    torch.testing.assert_close(
        gradient_of_row_0(rows, network, longest), gradient_of_row_0(rows, network, shortest), rtol=1e-5, atol=1e-6
    )
