"""Scores of tokens in batches against a loop that reads one prefix at a time."""

import numpy as np
import pytest
import torch
from tiny_networks import CAUSAL, ENCODER_DECODERS, VOCAB_SIZE, naive_log_probs

from canary_audit.errors import ModelError
from canary_audit.models import token_scores as module
from canary_audit.models.token_scores import text_tokens, token_scores
from canary_audit.models.tokenizer import train_tokenizer

TEXTS = ["the cat sat", "seven", "", "a pin of 40213", "<|endoftext|>", "the mat"]
TOKENIZER = train_tokenizer(["the cat sat on the mat. seven stones, a pin."] * 9, VOCAB_SIZE, 16)


def naive_scores(network, text):
    """(token, log p, mean, deviation, distance from the top) of each predicted token, prefix by prefix."""
    framed = [0, *TOKENIZER.encode(text, split_special_tokens=True), 0]
    for place in range(1, len(framed)):
        log_probs = naive_log_probs(network, framed[:place])
        probs = np.exp(log_probs)
        mean = float(probs @ log_probs)
        deviation = float(np.sqrt(probs @ (log_probs - mean) ** 2))
        yield framed[place], log_probs[framed[place]], mean, deviation, log_probs.max() - log_probs[framed[place]]


@pytest.mark.parametrize("kind", ["lstm", "llama-2", "gpt2-tied", "neox", "gemma2-window", "mamba"])
def test_scores_equal_a_loop_over_prefixes(kind):
    network = CAUSAL[kind]()
    for text, found in zip(TEXTS, token_scores(network, TOKENIZER, TEXTS), strict=True):
        tokens, log_probs, means, deviations, below_top = map(list, zip(*naive_scores(network, text), strict=True))
        assert found.tokens.tolist() == tokens
        assert found.log_probs == pytest.approx(log_probs, abs=2e-5)
        assert found.means == pytest.approx(means, abs=2e-5)
        assert found.deviations == pytest.approx(deviations, abs=2e-4)
        assert all(top == (gap == 0) or gap < 1e-4 for top, gap in zip(found.is_top, below_top, strict=True))
        assert found.nll_nats == pytest.approx(-sum(log_probs), abs=1e-4)


def test_small_batches_and_slices_change_rounding_only(monkeypatch):
    network = CAUSAL["llama"]()
    together = token_scores(network, TOKENIZER, TEXTS)
    monkeypatch.setattr(module, "_TOKENS_PER_BATCH", 20)
    monkeypatch.setattr(module, "_LOGITS_PER_SLICE", 3 * VOCAB_SIZE)
    for one, other in zip(together, token_scores(network, TOKENIZER, TEXTS), strict=True):
        for name in ("tokens", "log_probs", "means", "deviations"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)


def test_the_logits_of_a_batch_are_bounded(monkeypatch):
    network, shapes = CAUSAL["llama"](), []
    network.register_forward_hook(lambda _module, _args, output: shapes.append(output.logits.shape))
    monkeypatch.setattr(module, "_LOGITS_PER_BATCH", 24 * VOCAB_SIZE)
    token_scores(network, TOKENIZER, ["the cat sat"] * 30)
    assert len(shapes) > 3
    assert all(rows * width <= 24 for rows, width, _ in shapes)


def test_the_order_of_texts_changes_nothing():
    network = CAUSAL["lstm"]()
    forward, backward = token_scores(network, TOKENIZER, TEXTS), token_scores(network, TOKENIZER, TEXTS[::-1])
    for one, other in zip(forward, backward[::-1], strict=True):
        assert one.log_probs.tolist() == other.log_probs.tolist()


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_left(training):
    network = CAUSAL["lstm"]().train(training)
    runs = [token_scores(network, TOKENIZER, TEXTS[:1])[0].log_probs.tolist() for _ in range(2)]
    assert runs[0] == runs[1]
    assert network.training is training


class Fixed(torch.nn.Module):
    """The same logits everywhere."""

    def __init__(self, logits):
        super().__init__()
        self.network = CAUSAL["lstm"]()
        self.config, self.device, self.logits = self.network.config, torch.device("cpu"), torch.tensor(logits)

    def forward(self, input_ids):
        return self.network(input_ids).__class__(logits=self.logits.expand(*input_ids.shape, -1))


def test_a_token_that_is_ruled_out_weighs_nothing():
    """Models with padded vocabularies rule tokens out by minus infinity."""
    logits = [0.0] * (VOCAB_SIZE - 1) + [-np.inf]
    (found,) = token_scores(Fixed(logits), TOKENIZER, ["the"])
    assert found.means == pytest.approx(-np.log(VOCAB_SIZE - 1), abs=1e-5)
    assert found.deviations == pytest.approx(0, abs=1e-3)
    assert found.is_top.all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_impossible_numbers_are_refused(broken):
    logits = np.zeros(VOCAB_SIZE, dtype=np.float32)
    logits[0] = broken  # the end token
    with pytest.raises(ModelError, match="damaged or overflows"):
        token_scores(Fixed(logits), TOKENIZER, ["the"])


def test_a_text_too_long_is_refused():
    with pytest.raises(ModelError, match="a text reaches"):
        token_scores(CAUSAL["llama"](), TOKENIZER, ["40213 40213 40213 40213"])


def test_an_encoder_decoder_is_refused():
    with pytest.raises(ModelError, match="writes from a source text"):
        token_scores(ENCODER_DECODERS["bart"](), TOKENIZER, ["the"])


def test_without_special_tokens_the_first_token_is_only_read():
    bare = train_tokenizer(["the cat sat on the mat. seven stones, a pin."] * 9, VOCAB_SIZE, 16)
    bare.bos_token = bare.eos_token = None
    network = CAUSAL["lstm"]()
    tokens = bare.encode("a pin of 40213")
    (found,) = token_scores(network, bare, ["a pin of 40213"])
    expected = [naive_log_probs(network, tokens[:place])[tokens[place]] for place in range(1, len(tokens))]
    assert found.log_probs == pytest.approx(expected, abs=2e-5)
    with pytest.raises(ModelError, match="no token that could be predicted"):
        token_scores(network, bare, ["7"])


def test_no_texts_are_no_scores():
    assert token_scores(CAUSAL["lstm"](), TOKENIZER, []) == []
    assert text_tokens(TOKENIZER, []) == []
