"""Mixup, against losses taken one row at a time from embeddings mixed by hand."""

import numpy as np
import pytest
import torch
from tiny_training import CONTEXT, sentences, tiny_tokenizer

from canary_audit.config import ModelConfig, TrainingConfig
from canary_audit.models.networks import build_network
from canary_audit.training.loop import Recipe, train
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.mixup import mixed_row_losses_nats, mixture_losses_nats
from canary_audit.training.stream import pack_documents

CPU = torch.device("cpu")
KINDS = ("lstm", "llama")


@pytest.fixture(scope="module")
def batch():
    rows = pack_documents(sentences()[:9], tiny_tokenizer(), CONTEXT)
    assert len(set(rows.lengths.tolist())) > 1
    return batch_of(rows, np.arange(rows.n_rows), CPU)


def network_of(kind):
    config = ModelConfig(kind=kind, hidden_size=16, heads=2, context_tokens=CONTEXT)
    return build_network(config, 320, 0.0, 1).eval()


def naive_mixture(network, tokens, lengths, weights, partners):
    """Each row alone: its embeddings mixed by hand, the output read token by token for both targets."""
    table, losses = network.get_input_embeddings(), []
    for row, (partner, weight) in enumerate(zip(partners.tolist(), weights.tolist(), strict=True)):
        own, other = tokens[row], tokens[partner]
        mixed = weight * table(own[:-1]) + (1 - weight) * table(other[:-1])
        handle = table.register_forward_hook(lambda _module, _inputs, _output, mixed=mixed: mixed[None])
        log_probs = network(input_ids=own[None, :-1]).logits[0].log_softmax(-1)
        handle.remove()
        nats = 0.0
        for targets, length, share in ((own, lengths[row], weight), (other, lengths[partner], 1 - weight)):
            nats -= sum(share * log_probs[place, targets[place + 1]].item() for place in range(int(length)))
        losses.append(nats)
    return losses


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_loss_is_that_of_rows_mixed_by_hand(kind, batch):
    network, (tokens, lengths) = network_of(kind), batch
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(len(tokens), generator=generator)
    partners = torch.randperm(len(tokens), generator=generator)
    found = mixture_losses_nats(network, tokens, lengths, weights, partners)
    assert found.tolist() == pytest.approx(naive_mixture(network, tokens, lengths, weights, partners), rel=1e-4)


@torch.no_grad()
def test_weights_of_one_and_zero_are_the_row_and_its_partner(batch):
    network, (tokens, lengths) = network_of("lstm"), batch
    partners = torch.arange(len(tokens)).roll(1)
    plain = row_losses_nats(network, tokens, lengths)
    ones = torch.ones(len(tokens))
    assert torch.allclose(mixture_losses_nats(network, tokens, lengths, ones, partners), plain)
    assert torch.allclose(mixture_losses_nats(network, tokens, lengths, 0 * ones, partners), plain[partners])


@torch.no_grad()
def test_the_network_reads_as_before_afterwards(batch):
    network, (tokens, lengths) = network_of("lstm"), batch
    before = row_losses_nats(network, tokens, lengths)
    mixed_row_losses_nats(network, tokens, lengths, 1.0)
    assert torch.equal(row_losses_nats(network, tokens, lengths), before)


@torch.no_grad()
def test_draws_follow_the_global_generator(batch):
    network, (tokens, lengths) = network_of("lstm"), batch

    def losses(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return mixed_row_losses_nats(network, tokens, lengths, 1.0)

    assert torch.equal(losses(1), losses(1))
    assert not torch.equal(losses(1), losses(2))


def test_gradients_reach_both_rows_embeddings(batch):
    network, (tokens, lengths) = network_of("lstm"), batch
    pair, both = tokens[:2], lengths[:2]
    partners, weights = torch.tensor([1, 0]), torch.full((2,), 0.7)
    mixture_losses_nats(network, pair, both, weights, partners)[0].backward()
    read = torch.cat([pair[0, :-1], pair[1, :-1]]).unique()
    gradient = network.get_input_embeddings().weight.grad
    assert gradient[read].abs().sum() > 0
    assert all(gradient[token].abs().sum() > 0 for token in pair[1, :4])


class InterruptedTrainingError(Exception):
    """In the middle of a training."""


def trained(alpha, folder=None, stop_after=None):
    """Weights after two epochs; with `stop_after`, interrupted after that many steps."""

    def on_step(done, _total):
        if done == stop_after:
            raise InterruptedTrainingError

    network = network_of("lstm")
    rows = pack_documents(sentences()[:40], tiny_tokenizer(), CONTEXT)
    config = TrainingConfig(epochs=2, batch_size=8, mixup_alpha=alpha, checkpoint_every_steps=1)
    train(network, rows, Recipe(training=config, seed=5), checkpoint_dir=folder, on_step=on_step)
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_training_mixes_and_a_killed_one_goes_on_exactly(tmp_path):
    mixed = trained(1.0)
    assert not torch.allclose(mixed, trained(0.0))
    with pytest.raises(InterruptedTrainingError):
        trained(1.0, tmp_path, stop_after=3)
    assert torch.equal(trained(1.0, tmp_path), mixed)
