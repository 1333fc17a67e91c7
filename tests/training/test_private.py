import math

import numpy as np
import pytest
import torch
from scipy import special
from tiny_training import CONTEXT, sentences, tiny_tokenizer

from canary_audit.config import ModelConfig, PrivacyConfig, TrainingConfig
from canary_audit.errors import ConfigError, ModelError
from canary_audit.models.networks import build_network
from canary_audit.results import NotAvailable
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.loop import Recipe, train
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.per_row import per_row_gradients
from canary_audit.training.private import PrivateSteps
from canary_audit.training.processes import this_process
from canary_audit.training.stream import TokenRows, pack_documents

TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences()[:120], TOKENIZER, CONTEXT)
KEY = b"k" * 32
CPU = torch.device("cpu")


def network(kind="llama", *, dropout=0.0, layers=1):
    config = ModelConfig(kind=kind, hidden_size=16, layers=layers, heads=2, context_tokens=CONTEXT)
    return build_network(config, len(TOKENIZER), dropout, 1)


def recipe(*, key=KEY, epochs=2, batch_size=8, clip_norm=1.0, checkpoint_every_steps=200, **privacy):
    return Recipe(
        training=TrainingConfig(
            epochs=epochs, batch_size=batch_size, clip_norm=clip_norm, checkpoint_every_steps=checkpoint_every_steps
        ),
        seed=1,
        privacy=PrivacyConfig(**(privacy or {"noise_multiplier": 1.0})),
        key=key,
    )


def steps_of(model, made, *, lr=0.0, rows=ROWS):
    """Private steps over plain gradient descent: with `lr=0` they leave a step's noisy gradient in `grad`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return PrivateSteps(
        model,
        rows,
        optimizer,
        config=made.training,
        privacy=made.privacy,
        seed=made.seed,
        key=made.key,
        processes=this_process("cpu"),
    )


def gradient(model):
    return torch.cat([weight.grad.flatten() for weight in model.parameters()]).double()


def clipped_sum(model, indices, clip_norm):
    """Rows one at a time, clipped and summed, in double precision: algorithm 1 written down naively."""
    total = None
    for index in indices:
        tokens, lengths = batch_of(ROWS, [index], CPU)
        loss = row_losses_nats(model, tokens, lengths).sum() / CONTEXT
        parts = torch.autograd.grad(loss, list(model.parameters()))
        own = torch.cat([part.flatten() for part in parts]).double()
        own = own * min(1.0, clip_norm / float(own.norm()))
        total = own if total is None else total + own
    return total


@pytest.mark.parametrize("kind", ["lstm", "llama"])
@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_a_step_without_noise_is_the_clipped_sum_of_its_rows(kind, clipping):
    model = network(kind)
    made = recipe(noise_multiplier=0.0, clipping=clipping, physical_rows=3, clip_norm=0.05)
    steps = steps_of(model, made)
    drawn = steps._draw(0)
    steps.take(0)
    expected = clipped_sum(network(kind), drawn, 0.05) / made.training.batch_size
    found = gradient(model)
    assert len(drawn) > 3, "the test needs several passes"
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
@pytest.mark.parametrize("clip_norm", [1e-3, 0.02])
def test_no_row_weighs_more_than_the_clip_norm(clipping, clip_norm):
    model = network()
    model.train()
    for weight in model.parameters():
        weight.summed_grad = None
    gradients = per_row_gradients(model, clipping, clip_norm=clip_norm, scale=CONTEXT)
    for index in range(6):
        for weight in model.parameters():
            weight.summed_grad = None
        gradients.add_clipped(*batch_of(ROWS, [index], CPU))
        norm = torch.cat([weight.summed_grad.flatten() for weight in model.parameters()]).double().norm().item()
        assert norm == pytest.approx(clip_norm, rel=1e-6), "these rows are all longer than the clip norm"


def test_the_noise_has_the_promised_variance():
    model, quiet, made = network(), network(), recipe(noise_multiplier=1.3, clip_norm=0.5)
    silent = steps_of(quiet, recipe(noise_multiplier=0.0, clip_norm=0.5))
    noisy = steps_of(model, made)
    squares, count = 0.0, 0
    for step in range(4):
        noisy.take(step)
        silent.take(step)
        noise = (gradient(model) - gradient(quiet)) * made.training.batch_size / (1.3 * 0.5)
        squares += float(noise.square().sum())
        count += len(noise)
    tail = special.gammaincc(count / 2, squares / 2)
    assert 1e-6 < tail < 1 - 1e-6, "the sum of squares is chi-square with one degree of freedom a weight"


def test_every_step_has_fresh_noise_that_only_the_key_decides():
    def noises(key):
        model = network()
        steps = steps_of(model, recipe(key=key))
        found = []
        for step in range(2):
            steps.take(step)
            found.append(gradient(model))
        return found

    first, second = noises(KEY)
    again, _ = noises(KEY)
    other, _ = noises(b"o" * 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_another_training_under_the_same_key_has_other_noise():
    """Without gradients to speak of, what is left of a step is its noise: Adam's first step is its sign."""

    def first_signs(rows):
        model = network()
        before = [weight.detach().clone() for weight in model.parameters()]
        one_step = recipe(epochs=1, batch_size=rows.n_rows - 1, noise_multiplier=100.0, clip_norm=1.0)
        train(model, rows, one_step)
        pairs = zip(before, model.parameters(), strict=True)
        return torch.cat([(after.detach() - start).sign().flatten() for start, after in pairs])

    mine, other = ROWS.select(np.arange(20)), ROWS.select(np.arange(1, 21))
    assert torch.equal(first_signs(mine), first_signs(mine))
    assert (first_signs(mine) == first_signs(other)).double().mean() < 0.7, "half of the signs agree by chance"


def test_rows_are_drawn_by_chance_each_on_its_own():
    steps = steps_of(network(), recipe(batch_size=12))
    counts = np.zeros(ROWS.n_rows)
    sizes = []
    n_draws = 400
    for step in range(n_draws):
        drawn = steps._draw(step)
        counts[drawn] += 1
        sizes.append(len(drawn))
    rate = 12 / ROWS.n_rows
    spread = (counts - n_draws * rate) ** 2 / (n_draws * rate * (1 - rate))
    assert 1e-6 < special.gammaincc(ROWS.n_rows / 2, spread.sum() / 2) < 1 - 1e-6
    assert np.var(sizes) == pytest.approx(ROWS.n_rows * rate * (1 - rate), rel=0.5), "batches are not of one size"


def test_an_empty_draw_is_a_step_of_noise_alone_and_is_counted():
    model = network()
    done = train(model, ROWS, recipe(epochs=1, batch_size=1, noise_multiplier=0.6))
    accounting = done.accounting
    assert accounting.steps == done.steps == ROWS.n_rows
    assert 0 < accounting.noise_only_steps < accounting.steps
    expected = math.exp(-1) * accounting.steps
    assert abs(accounting.noise_only_steps - expected) < 6 * math.sqrt(expected)

    fresh = network()
    steps = steps_of(fresh, recipe(batch_size=1, noise_multiplier=0.6))
    empty = next(step for step in range(200) if not len(steps._draw(step)))
    loss = steps.take(empty)
    assert (loss.nats, loss.tokens) == (0.0, 0)
    assert float(gradient(fresh).norm()) > 0


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_a_killed_private_training_goes_on_bit_for_bit(tmp_path, kind):
    class KilledError(Exception):
        pass

    def kill(step, n_steps):
        if step == 7:
            raise KilledError

    made = recipe(checkpoint_every_steps=3)
    whole = network(kind, dropout=0.1)
    expected = train(whole, ROWS, made)
    with pytest.raises(KilledError):
        train(network(kind, dropout=0.1), ROWS, made, checkpoint_dir=tmp_path, on_step=kill)
    resumed = network(kind, dropout=0.1)
    done = train(resumed, ROWS, made, checkpoint_dir=tmp_path)
    assert weights_sha256(resumed) == weights_sha256(whole)
    assert done == expected


def test_another_key_does_not_go_on_from_a_checkpoint(tmp_path):
    train(network(), ROWS, recipe(epochs=1), checkpoint_dir=tmp_path)
    with pytest.raises(Exception, match="belongs to another training") as refused:
        train(network(), ROWS, recipe(epochs=1, key=b"o" * 32), checkpoint_dir=tmp_path)
    assert (b"o" * 32).hex() not in str(refused.value)


def test_passes_of_any_size_train_alike():
    one, few = network(), network()
    train(one, ROWS, recipe(epochs=1, noise_multiplier=0.5, physical_rows=64))
    train(few, ROWS, recipe(epochs=1, noise_multiplier=0.5, physical_rows=2))
    for mine, theirs in zip(one.parameters(), few.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=2e-4)


def test_training_leaves_nothing_of_opacus_in_the_network():
    model = network()
    train(model, ROWS, recipe(epochs=1))
    assert not any(hasattr(weight, name) for weight in model.parameters() for name in ("grad_sample", "summed_grad"))
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not model.training


def test_a_target_epsilon_is_reached_from_below():
    done = train(network(), ROWS, recipe(target_epsilon=3.0, delta=1e-4, accountant="rdp"))
    assert 2.9 < done.accounting.epsilon <= 3.0
    assert done.accounting.delta == 1e-4
    assert done.accounting.sampling_rate == pytest.approx(8 / ROWS.n_rows)


def test_clipping_alone_promises_nothing():
    done = train(network(), ROWS, recipe(epochs=1, noise_multiplier=0.0))
    assert isinstance(done.accounting, NotAvailable)
    assert "infinite" in done.accounting.not_available


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (recipe(batch_size=10_000), "batch_size"),
        (recipe(noise_multiplier=1.0, delta=0.5), "delta"),
    ],
)
def test_what_promises_nothing_is_refused(made, message):
    with pytest.raises(ConfigError, match=message):
        train(network(), ROWS, made)


class NormalizesOverTheBatch(torch.nn.Module):
    """A network whose rows feel each other: the mean over the batch is taken off."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(TOKENIZER), 8)
        self.head = torch.nn.Linear(8, len(TOKENIZER))

    def forward(self, input_ids):
        states = self.embedding(input_ids)
        return type("Output", (), {"logits": self.head(states - states.mean(dim=0))})()


class HasBatchNorm(NormalizesOverTheBatch):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(8)

    def forward(self, input_ids):
        states = self.norm(self.embedding(input_ids).transpose(1, 2)).transpose(1, 2)
        return type("Output", (), {"logits": self.head(states)})()


@pytest.mark.parametrize("made", [NormalizesOverTheBatch, HasBatchNorm])
def test_a_network_whose_rows_feel_each_other_is_refused(made):
    with pytest.raises(ModelError, match="cannot be trained privately"):
        train(made(), ROWS, recipe())


def test_ghost_clipping_refuses_tied_weights_and_says_what_to_do():
    model = network()
    model.lm_head.weight = model.model.embed_tokens.weight
    with pytest.raises(ModelError, match="use 'hooks'"):
        train(model, ROWS, recipe(noise_multiplier=1.0, clipping="ghost"))


def test_a_row_of_padding_only_has_no_say():
    rows = TokenRows(tokens=ROWS.tokens[:20].copy(), lengths=ROWS.lengths[:20].copy())
    rows.lengths[3] = 0
    done = train(network(), rows, recipe(epochs=1, batch_size=4))
    assert math.isfinite(done.epochs[0].training_bits_per_token)
