"""What experiments on language models are made of, against known answers and slow direct computations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from canary_audit.canaries import Group
from canary_audit.config import ModelConfig
from canary_audit.models.networks import build_network
from canary_audit.models.token_scores import token_scores
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.results import EpochResult, NotAvailable
from canary_audit.statistics.gini import gini
from canary_audit.studies.language.correctness import correct_tokens
from canary_audit.studies.language.courses import Course, course_of
from canary_audit.studies.language.embedding_search import critical_radii
from canary_audit.studies.language.places import secret_places, spread, text_places
from canary_audit.studies.language.row_gradients import gradient_norms
from canary_audit.studies.seeds import band, listed
from canary_audit.training.loss import batch_of, row_losses_nats
from canary_audit.training.stream import pack_documents

TEXTS = ["the rain falls on the plain", "a plain day", "rain " * 12 + "ends"]
CONTEXT = 16


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300, CONTEXT)


@pytest.fixture(params=["lstm", "llama"])
def network(request, tokenizer):
    sizes = ModelConfig(kind=request.param, hidden_size=16, heads=2, context_tokens=CONTEXT)
    return build_network(sizes, len(tokenizer), 0.0, seed=3).eval()


class LastTokenNetwork(nn.Module):
    """Predicts from the last token's embedding alone, linearly: how far it is from another prediction is known."""

    def __init__(self, n_tokens=6, size=5):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(n_tokens, size)
        self.head = nn.Linear(size, n_tokens)
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(vocab_size=n_tokens))

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.embed(input_ids)))

    @torch.no_grad()
    def least_radius(self, token):
        """Smallest box around the embedding in which another token wins, in units of the table's root mean square."""
        logits = self.head(self.embed.weight[token])
        top = int(logits.argmax())
        reach = (self.head.weight - self.head.weight[top]).abs().sum(dim=1)
        others = [i for i in range(len(logits)) if i != top]
        distance = min(float((logits[top] - logits[i]) / reach[i]) for i in others)
        return distance / float(self.embed.weight.square().mean().sqrt())


@pytest.fixture
def linear_network():
    with torch.random.fork_rng():
        return LastTokenNetwork()


def test_the_search_finds_the_known_radius(linear_network):
    radii = tuple(0.01 * 1.2**step for step in range(40))
    contexts = [[0, 1], [2], [3, 4, 5], [5]]
    found = critical_radii(linear_network, contexts, radii, steps=30)
    for context, radius in zip(contexts, found, strict=True):
        known = linear_network.least_radius(context[-1])
        assert known <= radius <= known * 1.2**3  # never below what is possible, and near it


def test_the_search_repeats_and_leaves_the_network_as_it_was(network, tokenizer):
    before = [weight.clone() for weight in network.parameters()]
    contexts = [place.context for place in text_places(tokenizer, TEXTS[:2], {3, 4})]
    state = torch.get_rng_state()
    found = [critical_radii(network, contexts, (0.01, 0.1, 1.0), steps=4, seed=7) for _ in range(2)]
    np.testing.assert_array_equal(*found)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(before, network.parameters(), strict=True))
    assert not network.get_input_embeddings()._forward_hooks


def test_without_a_radius_nothing_flips(network):
    assert np.isinf(critical_radii(network, [[1, 2], [3]], (0.0,))).all()
    assert critical_radii(network, [], (1.0,)).shape == (0,)


def test_gradient_norms_are_those_of_one_document_alone(network, tokenizer):
    found = gradient_norms(network, tokenizer, TEXTS, CONTEXT)
    for text, norm in zip(TEXTS, found, strict=True):
        network.zero_grad()
        rows = pack_documents([text], tokenizer, CONTEXT)
        tokens, lengths = batch_of(rows, slice(None), torch.device("cpu"))
        (row_losses_nats(network, tokens, lengths).sum() / lengths.sum()).backward()
        squares = [float(weight.grad.square().sum()) for weight in network.parameters() if weight.grad is not None]
        assert norm == pytest.approx(sum(squares) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "known"), [([1, 1, 1], 0.0), ([0, 0, 0, 1], 0.75), ([1, 2, 3], 2 / 9), ([0, 0], 0.0), ([5], 0.0)]
)
def test_gini(values, known):
    assert gini(values) == pytest.approx(known)


def test_gini_is_half_the_relative_mean_difference():
    values = np.random.default_rng(0).exponential(size=50)
    slow = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(slow)


def test_correct_tokens_are_those_that_scores_call_top(network, tokenizer):
    short = TEXTS[:2]
    scored = token_scores(network, tokenizer, short) if network.config.model_type != "llama" else None
    found = correct_tokens(network, tokenizer, short, 64 if scored else CONTEXT)
    if scored:
        for correct, score in zip(found, scored, strict=True):
            np.testing.assert_array_equal(correct, score.is_top)
    lengths = [len(tokens) + 1 for tokens in tokenizer(short)["input_ids"]]
    assert [len(correct) for correct in found] == lengths


def test_long_texts_are_read_piece_by_piece(network, tokenizer):
    (found,) = correct_tokens(network, tokenizer, [TEXTS[2]], 8)
    rows = pack_documents([TEXTS[2]], tokenizer, 8)
    assert rows.n_rows > 1
    slow = []
    for row, length in zip(rows.tokens.astype(np.int64), rows.lengths, strict=True):
        top = network(input_ids=torch.from_numpy(row[None, :length])).logits[0].argmax(dim=-1).numpy()
        slow.extend(top == row[1 : length + 1])
    np.testing.assert_array_equal(found, slow)
    assert correct_tokens(network, tokenizer, [], 8) == []


def test_places_of_a_secret_are_its_digits(tokenizer):
    group = Group(name="pin", format="{digit:4}", prefix="my pin is ", suffix=" today")
    places = secret_places(tokenizer, group, b"4071")
    assert [tokenizer.decode([place.token]) for place in places] == list("4071")
    assert tokenizer.decode(places[2].context[1:]) == "my pin is 40"
    assert {place.context[0] for place in places} == {tokenizer.eos_token_id}


def test_places_of_texts_have_the_asked_lengths(tokenizer):
    places = text_places(tokenizer, TEXTS, {2, 5, 90})
    assert sorted({len(place.context) for place in places}) == [2, 5]
    tokens = tokenizer(TEXTS[0])["input_ids"]
    assert places[0].token == tokens[1]
    assert places[0].context == (tokenizer.eos_token_id, tokens[0])


def test_spread():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]


def course(losses, bits):
    return Course(losses=losses, exposures={16: bits})


def test_a_course_knows_when_what_happened():
    one = course((3.0, 2.0, 1.5, 1.6), (2.0, 8.0, 11.0, 12.0))
    assert (one.best_epoch, one.still_falls) == (3, False)
    assert one.passes(16, 10.0) == 3
    assert one.passes(16, 12.0) is None
    assert one.share_before_best(16) == pytest.approx(8 / 12)
    assert course((3.0, 2.0), (1.0, 2.0)).still_falls
    assert course((2.0, 3.0), (1.0, 2.0)).share_before_best(16) == 0.0


def test_a_course_is_read_from_epochs():
    epoch = EpochResult(
        epoch=1, training_bits_per_token=1.0, validation_bits_per_char=2.0, exposure_by_level={"4": 1.0, "16": 3.0}
    )
    assert course_of([epoch]) == Course(losses=(2.0,), exposures={4: (1.0,), 16: (3.0,)})
    broken = epoch.model_copy(update={"validation_bits_per_char": NotAvailable(not_available="none")})
    with pytest.raises(Exception, match="no validation loss in epoch 1"):
        course_of([broken])


def test_words():
    assert listed([10, 10]) == "10"
    assert listed([9, None]) == "9 and never"
    assert listed(["a", "b", "c"]) == "a, b and c"
    series = band("x", [[1.0, 4.0], [3.0, 2.0]], [1.0, 2.0])
    assert (series.y, series.low, series.high) == ((2.0, 3.0), (1.0, 2.0), (3.0, 4.0))
