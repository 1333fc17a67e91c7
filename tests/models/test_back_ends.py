"""Every back-end against the conformance suite and against full forward passes of its network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import (
    CAUSAL,
    ENCODER_DECODERS,
    NOBODY,
    PROMPT,
    VOCAB_SIZE,
    all_tokens,
    built_in,
    naive_log_probs,
    naive_output_log_probs,
)

from canary_audit.errors import ModelError
from canary_audit.models.back_end import language_model
from canary_audit.models.conformance import check_model, check_steps
from canary_audit.models.encoder_decoder import EncoderDecoderModel
from canary_audit.models.interface import Children
from canary_audit.models.recurrent import RecurrentModel
from canary_audit.models.rereading import RereadingModel
from canary_audit.models.table import TableModel
from canary_audit.models.transformer import TransformerModel

CONTEXT = [5, 6, 9, 9, 4]


@pytest.fixture(scope="module", params=CAUSAL)
def network(request):
    return CAUSAL[request.param]()


@pytest.mark.parametrize("batch_rows", [1, 3, 4096])
def test_conformance(network, batch_rows):
    check_model(language_model(network, batch_rows=batch_rows), VOCAB_SIZE, PROMPT, seed=batch_rows)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32), n_rows=st.lists(st.integers(1, 9), min_size=1, max_size=5), batch_rows=st.integers(1, 9)
)
def test_random_trees_score_as_full_forward_passes(network, seed, n_rows, batch_rows):
    rng = np.random.default_rng(seed)
    model = language_model(network, batch_rows=batch_rows)
    state, log_probs = model.root(PROMPT, all_tokens(1))
    np.testing.assert_allclose(log_probs, naive_log_probs(network, PROMPT), atol=1e-4)
    prefixes = [PROMPT]
    for n in n_rows:
        parents, tokens = rng.integers(len(prefixes), size=n), rng.integers(VOCAB_SIZE, size=n)
        prefixes = [[*prefixes[parent], int(token)] for parent, token in zip(parents, tokens, strict=True)]
        rows = np.sort(rng.integers(n, size=rng.integers(2 * n)))
        children = Children(rows=rows, tokens=rng.integers(VOCAB_SIZE, size=len(rows)))
        state, log_probs = model.step(state, parents, tokens, children)
        expected = [
            naive_log_probs(network, prefixes[row])[token] for row, token in zip(rows, children.tokens, strict=True)
        ]
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_the_fake_steps_like_a_back_end():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = TableModel(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    check_steps(table, 12, [0], seed=1)


class Mixed(TableModel):
    """Forgets to gather its rows."""

    def step(self, state, parents, tokens, children):
        return super().step(state, np.minimum(np.arange(len(parents)), len(state) - 1), tokens, children)


class Unnormalized(TableModel):
    def root(self, prompt, children):
        state, log_probs = super().root(prompt, children)
        return state, log_probs * 1.01


@pytest.mark.parametrize(("broken", "reason"), [(Mixed, "scores differently"), (Unnormalized, "sum to")])
def test_conformance_finds_broken_models(broken, reason):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = broken(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    with pytest.raises(ModelError, match=reason):
        check_steps(table, 12, [0], seed=1)


def test_conformance_finds_a_model_that_ignores_its_prompt():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    table = TableModel(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rng.integers(5, size=(5, 12)))
    with pytest.raises(ModelError, match="reading it from the root"):
        check_model(table, 12, [0], seed=1)


def test_chunks_do_not_change_the_order_of_results(network):
    rng = np.random.default_rng(2)
    tokens, parents = rng.integers(VOCAB_SIZE, size=10), np.zeros(10, dtype=np.int64)
    whole, parts = (language_model(network, batch_rows=size) for size in (10, 3))
    (one, expected), (two, found) = (
        model.step(model.root(PROMPT, NOBODY)[0], parents, tokens, all_tokens(10)) for model in (whole, parts)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    order = rng.permutation(10)
    expected = whole.step(one, order, tokens, all_tokens(10))[1]
    np.testing.assert_allclose(parts.step(two, order, tokens, all_tokens(10))[1], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "llama"])
def test_logits_that_cannot_be_true_are_refused(kind):
    network = built_in(kind, 1)
    model = language_model(network)
    for value, fault in [(float("nan"), "not a number"), (float("inf"), "not a number")]:
        with torch.no_grad():
            network.lm_head.weight[9].fill_(value)
        with pytest.raises(ModelError, match=fault):
            model.root(PROMPT, Children(rows=np.array([0]), tokens=np.array([5])))


def test_a_token_the_model_rules_out_is_refused_when_asked_and_harmless_otherwise():
    network = built_in("lstm", 1)
    with torch.no_grad():
        network.lm_head.bias[9] = -torch.inf
    model = language_model(network)
    model.root(PROMPT, Children(rows=np.array([0]), tokens=np.array([5])))
    with pytest.raises(ModelError, match="1 of 2 log-probabilities are minus infinity"):
        model.root(PROMPT, Children(rows=np.array([0, 0]), tokens=np.array([5, 9])))


def test_an_empty_prompt_is_refused(network):
    with pytest.raises(ModelError, match="prompt is empty"):
        language_model(network).root([], NOBODY)


def test_a_network_in_training_mode_is_refused(network):
    network.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            language_model(network).root(PROMPT, NOBODY)
    finally:
        network.eval()


@pytest.mark.parametrize(
    ("rows", "tokens"), [([1, 0], [5, 5]), ([0, 2], [5, 5]), ([0, 0], [5, -1]), ([0], [5, 5]), ([-1], [5])]
)
def test_impossible_children_are_a_mistake_of_the_caller(network, rows, tokens):
    model = language_model(network)
    state, _ = model.root(PROMPT, NOBODY)
    children = Children(rows=np.array(rows), tokens=np.array(tokens))
    with pytest.raises(ValueError, match="children"):
        model.step(state, np.zeros(2, dtype=np.int64), np.array([3, 4]), children)


def test_the_context_of_a_transformer_ends():
    model = language_model(built_in("llama", 1))
    state, _ = model.root([0] * 15, NOBODY)
    state, _ = model.step(state, np.array([0]), np.array([1]), NOBODY)
    with pytest.raises(ModelError, match="reach 17 tokens, the model was built for 16"):
        model.step(state, np.array([0]), np.array([1]), NOBODY)


@pytest.mark.parametrize(
    ("name", "back_end", "reason"),
    [
        ("lstm", RecurrentModel, None),
        ("llama", TransformerModel, None),
        ("gemma3-window", TransformerModel, None),
        ("llama4-chunks", RereadingModel, "works in chunks"),
        ("mamba", RereadingModel, "LinearAttentionLayer"),
    ],
)
def test_the_choice_of_a_back_end_and_its_reason(name, back_end, reason):
    model = language_model(CAUSAL[name]())
    assert type(model) is back_end
    if reason is None:
        assert model.notices == []
    else:
        (notice,) = model.notices
        assert "read again from its start" in notice
        assert reason in notice


class WithoutAPast(type(built_in("llama", 1))):
    """Takes a cache, and leaves it out of its attention."""

    def forward(self, input_ids, cache=None, use_cache=False, logits_to_keep=0):
        output = super().forward(input_ids, use_cache=False, logits_to_keep=logits_to_keep)
        if cache is not None:
            super().forward(input_ids, cache=cache, use_cache=True)
        return output


class WithoutChosenRows(type(built_in("llama", 1))):
    def forward(self, input_ids, cache=None, use_cache=False, logits_to_keep: int = 0):
        return super().forward(input_ids, cache=cache, use_cache=use_cache, logits_to_keep=int(logits_to_keep))


@pytest.mark.parametrize(
    ("kind", "reason"), [(WithoutAPast, "scores differ by"), (WithoutChosenRows, "cannot be used")]
)
def test_a_network_that_fails_the_trial_of_its_cache_is_read_from_the_start(kind, reason):
    network = built_in("llama", 1)
    network.__class__ = kind
    model = language_model(network)
    assert type(model) is RereadingModel
    assert reason in model.notices[0]
    _, log_probs = model.root(PROMPT, all_tokens(1))
    np.testing.assert_allclose(log_probs, naive_log_probs(built_in("llama", 1), PROMPT), atol=1e-4)


def test_a_forward_pass_without_a_cache_is_no_back_end_for_a_tree():
    with pytest.raises(ModelError, match="takes no cache of keys and values, so prefixes cannot share it"):
        TransformerModel(built_in("lstm", 1))


@pytest.fixture(scope="module", params=ENCODER_DECODERS)
def encoder_decoder(request):
    return ENCODER_DECODERS[request.param]()


@pytest.mark.parametrize("batch_rows", [1, 3, 4096])
def test_conformance_of_encoder_decoders(encoder_decoder, batch_rows):
    model = language_model(encoder_decoder, batch_rows=batch_rows, context=CONTEXT)
    check_model(model, VOCAB_SIZE, PROMPT, seed=batch_rows)
    check_model(model, VOCAB_SIZE, [], seed=batch_rows)


@pytest.mark.parametrize("context", [CONTEXT, [8]])
def test_an_encoder_decoder_is_scored_given_its_source_text(encoder_decoder, context):
    model = language_model(encoder_decoder, context=context)
    state, log_probs = model.root(PROMPT, all_tokens(1))
    np.testing.assert_allclose(log_probs, naive_output_log_probs(encoder_decoder, context, PROMPT), atol=1e-4)
    state, _ = model.step(state, np.array([0, 0]), np.array([40, 41]), NOBODY)
    _, log_probs = model.step(state, np.array([1]), np.array([50]), all_tokens(1))
    expected = naive_output_log_probs(encoder_decoder, context, [*PROMPT, 41, 50])
    np.testing.assert_allclose(log_probs, expected, atol=1e-4)


def test_an_encoder_decoder_needs_a_source_text_and_a_start():
    network = ENCODER_DECODERS["bart"]()
    with pytest.raises(ModelError, match="give the tokens of one as its context"):
        language_model(network)
    with pytest.raises(ModelError, match="the source text reaches 17 tokens"):
        language_model(network, context=[4] * 17).root([], NOBODY)
    network.config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="no decoder_start_token_id"):
        language_model(network, context=CONTEXT)
    with pytest.raises(ModelError, match="has no encoder"):
        language_model(built_in("llama", 1), context=CONTEXT)


def test_a_state_of_another_back_end_has_no_source_text():
    state, _ = language_model(built_in("llama", 1)).root(PROMPT, NOBODY)
    model = EncoderDecoderModel(ENCODER_DECODERS["bart"](), context=CONTEXT)
    with pytest.raises(ValueError, match="another back-end"):
        model.step(state, np.array([0]), np.array([1]), NOBODY)


@pytest.mark.parametrize("name", ["lstm", "llama-2", "mistral-window", "mamba", "t5"])
def test_half_precision_scores_near_full_precision(name):
    """Normalized in fp32, and equal to the network's own bf16 logits taken from the start."""
    network = {**CAUSAL, **ENCODER_DECODERS}[name]().to(torch.bfloat16)
    is_pair = network.config.is_encoder_decoder
    model = language_model(network, context=CONTEXT if is_pair else None)
    state, _ = model.root(PROMPT, NOBODY)
    _, log_probs = model.step(state, np.array([0, 0]), np.array([9, 10]), all_tokens(2))
    assert log_probs.dtype == np.float64
    np.testing.assert_allclose(np.exp(log_probs.reshape(2, -1)).sum(axis=1), 1.0, atol=1e-5)
    tokens = [*PROMPT, 10]
    expected = naive_output_log_probs(network, CONTEXT, tokens) if is_pair else naive_log_probs(network, tokens)
    np.testing.assert_allclose(log_probs.reshape(2, -1)[1], expected, atol=0.3)
