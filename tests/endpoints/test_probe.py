"""The probe: what a sound endpoint is shown to give, and what an endpoint that promises falsely is refused for."""

import json
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from audited_world import audit, byte_tokenizer, make_model, make_world
from simulated import FAULTS, SHAPES, Fault, simulated_server
from simulated.model import TwoModels
from simulated.shape import scaled

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import parse_address
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.consistency import _DISAGREES_P, _N_SAMPLES, _frequencies_p_value
from canary_audit.endpoints.control import Control
from canary_audit.endpoints.failures import ContradictionError
from canary_audit.endpoints.offers import offers_of
from canary_audit.endpoints.probe import confirm, prove
from canary_audit.errors import EndpointError
from canary_audit.vocabulary import ByteVocabulary, vocabulary_of

BEST = {
    **dict.fromkeys(("vllm", "sglang", "llamacpp"), "chosen-tokens"),
    "openai": "prompt-logprobs",
    "chat": "top-k",
}
LEAD = (0,)
CONFIG = EndpointConfig(concurrency=4)
MODEL = make_model()
VOCABULARY = vocabulary_of(byte_tokenizer())
OTHER_WAYS = ("vllm", "sglang", "openai")
"""APIs that score what they read as well as what they write."""


@contextmanager
def probed(shape, *, model=MODEL, vocabulary=VOCABULARY, tier=None, fault=None, good_requests=0):
    """A client of a server, what to offer, and the server."""
    offers = offers_of(shape, model="simulated-1", vocabulary=vocabulary, config=CONFIG, tier=tier)
    with (
        simulated_server(model, shape, fault=fault, good_requests=good_requests) as server,
        Client(parse_address(server.url), None, CONFIG, None, Budget(None, None)) as client,
    ):
        yield client, offers, server


def proof_of(shape, *, vocabulary=VOCABULARY, **changes):
    with probed(shape, vocabulary=vocabulary, **changes) as (client, offers, _):
        return prove(client, offers, vocabulary, lead=LEAD)


def rows_changed(change):
    """The model with another distribution in every place."""
    return MODEL.changed(lambda tokens: np.array([change(row) for row in MODEL.all_log_probs(tokens)]))


def noisy(deviation):
    rng = np.random.default_rng(3)
    return MODEL.changed(
        lambda tokens: np.array(
            [scaled(row + rng.normal(0.0, deviation, row.shape), 1.0) for row in MODEL.all_log_probs(tokens)]
        ),
        remembers=False,
    )


def drawn_otherwise(**settings):
    """A server whose defaults change what it writes, whatever is asked for; its log-probabilities stay the model's."""
    return Fault(name="other-defaults", ask=lambda body: body | settings if body.get("temperature") == 1 else body)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sound_endpoint_is_shown_to_give_the_best_of_its_api(shape):
    proof = proof_of(shape)
    assert proof.tier == BEST[shape]
    assert proof.noise_floor_nats == 0.0
    assert all(finding.holds for finding in proof.findings), proof.findings
    names = {finding.name for finding in proof.findings}
    assert {"identity", BEST[shape], "determinism", "same tokenizer", "true frequencies"} <= names
    assert ("two ways agree" in names) == (shape != "chat")


@pytest.mark.parametrize("shape", ["vllm", "sglang", "llamacpp", "openai"])
def test_the_control_text_has_the_score_that_the_model_gives_it(shape):
    control = Control.of(VOCABULARY, LEAD)
    rows = MODEL.all_log_probs(control.tokens)
    true = -sum(rows[place - 1, control.tokens[place]] for place in range(control.start, len(control.tokens)))
    assert proof_of(shape).control_nll_nats == pytest.approx(true, abs=1e-6)


@pytest.mark.parametrize("shape", ["vllm", "sglang", "llamacpp", "openai"])
def test_another_tokenizer_is_refused(shape):
    with pytest.raises(EndpointError, match="tokenizer"):
        proof_of(shape, vocabulary=ByteVocabulary(), tier=BEST[shape])


@pytest.mark.parametrize("temperature", [0.7, 1.4])
@pytest.mark.parametrize("shape", OTHER_WAYS)
def test_scaled_scores_of_what_is_read_are_refused(shape, temperature):
    model = TwoModels(read=rows_changed(lambda row: scaled(row, temperature)), written=MODEL)
    with pytest.raises(ContradictionError, match="contradicts itself"):
        proof_of(shape, model=model)


@pytest.mark.parametrize("temperature", [0.7, 1.4])
@pytest.mark.parametrize("shape", OTHER_WAYS)
def test_scaled_scores_of_what_is_written_are_refused(shape, temperature):
    model = TwoModels(read=MODEL, written=rows_changed(lambda row: scaled(row, temperature)))
    with pytest.raises(ContradictionError, match="contradicts itself"):
        proof_of(shape, model=model)


@pytest.mark.parametrize("shape", OTHER_WAYS)
def test_tokens_outside_the_likeliest_are_compared_too(shape):
    """Next tokens of another model: in most places it does not name the text's token at all."""
    model = TwoModels(read=MODEL, written=rows_changed(lambda row: np.roll(row, 1)))
    with pytest.raises(ContradictionError, match="contradicts itself"):
        proof_of(shape, model=model)


@pytest.mark.parametrize("settings", [{"temperature": 0.6}, {"top_p": 0.6}], ids=str)
@pytest.mark.parametrize("shape", ["vllm", "openai"])
def test_texts_drawn_in_another_way_than_their_log_probs_say_are_refused(shape, settings):
    with pytest.raises(ContradictionError, match="as often as it says"):
        proof_of(shape, fault=drawn_otherwise(**settings))


def test_a_server_that_ignores_echo_is_stepped_down_from_and_the_result_says_so(tmp_path):
    world = make_world(tmp_path)
    with simulated_server(world.model, "openai", fault=FAULTS["echo-ignored"]) as server:
        result = audit(world, server.url, "openai")
    assert result.model.tier == "top-k"
    refused = [finding for finding in result.endpoint.probe if not finding.holds]
    assert {finding.name for finding in refused} == {"prompt-logprobs"}
    assert len(refused) == 2  # with no token written, and with one
    assert result.verdict == "INCONCLUSIVE"


def test_a_tier_that_was_asked_for_is_shown_or_refused():
    assert proof_of("openai", tier="top-k").tier == "top-k"
    with pytest.raises(EndpointError):
        proof_of("openai", tier="prompt-logprobs", fault=FAULTS["echo-ignored"])
    with pytest.raises(EndpointError, match="cannot give chosen-tokens"):
        proof_of("openai", tier="chosen-tokens")
    with pytest.raises(EndpointError, match="--tokenizer"):
        proof_of("vllm", tier="chosen-tokens", vocabulary=None)


@pytest.mark.parametrize("shape", ["vllm", "openai"])
def test_a_small_spread_becomes_the_noise_floor(shape):
    """Twelve tokens, each with a hundredth of a nat of noise."""
    proof = proof_of(shape, model=noisy(0.01))
    assert 0.001 < proof.noise_floor_nats < 0.3
    (found,) = [finding.detail for finding in proof.findings if finding.name == "determinism"]
    assert f"{proof.noise_floor_nats:.2g} nats" in found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_last_look_is_content_with_the_same_model_and_asks_what_was_set_aside(shape):
    with probed(shape) as (client, offers, server):
        proof = prove(client, offers, VOCABULARY, lead=LEAD)
        server.requests.clear()
        confirm(client, proof, VOCABULARY, LEAD)
        asked = Counter(json.dumps(request.body, sort_keys=True) for request in server.requests)
    assert asked.keys() == {json.dumps(json.loads(json.dumps(one.body)), sort_keys=True) for one in proof.last_look}
    assert asked.total() <= len(proof.last_look)


@pytest.mark.parametrize("shape", SHAPES)
def test_another_model_after_the_probe_is_refused(shape):
    with probed(shape) as (client, offers, server):
        prove(client, offers, VOCABULARY, lead=LEAD)
        n_probe = server.n_requests
    with probed(shape, fault=FAULTS["another-model"], good_requests=n_probe) as (client, offers, _):
        proof = prove(client, offers, VOCABULARY, lead=LEAD)
        with pytest.raises(EndpointError, match="another model answers now"):
            confirm(client, proof, VOCABULARY, LEAD)


def test_next_tokens_of_another_model_after_the_probe_are_refused_too():
    """Where whole texts are scored, but the search asks for next tokens as well."""
    with probed("openai") as (client, offers, server):
        prove(client, offers, VOCABULARY, lead=LEAD)
        n_probe = server.n_requests
    with probed("openai", fault=FAULTS["numbers-of-other-tokens"], good_requests=n_probe) as (client, offers, _):
        proof = prove(client, offers, VOCABULARY, lead=LEAD)
        with pytest.raises(ContradictionError):
            confirm(client, proof, VOCABULARY, LEAD)


# --- the test of true frequencies ----------------------------------------------------------------------------------


def claims(rng, n_named):
    """Sixty tokens' probabilities, likeliest first; the test is told those of the first `n_named`."""
    return np.sort(rng.dirichlet(np.full(60, 0.3)))[::-1], n_named


def p_value(rng, probs, n_named, temperature=1.0):
    """Of one set of draws, at a temperature."""
    scaled_probs = probs ** (1.0 / temperature)
    drawn = rng.multinomial(_N_SAMPLES, scaled_probs / scaled_probs.sum())
    texts = [f"t{place}" for place in range(len(drawn))]
    return _frequencies_p_value(
        Counter({text: int(count) for text, count in zip(texts, drawn, strict=True) if count}),
        dict(zip(texts, probs[:n_named], strict=False)),
    )


@pytest.mark.parametrize("n_named", [1, 5, 20])
def test_honest_draws_are_hardly_ever_refused(n_named):
    """2,000 sets of draws from distributions of every kind, as many of whose tokens are named as an API allows."""
    rng = np.random.default_rng(11)
    values = np.array([p_value(rng, *claims(rng, n_named)) for _ in range(2_000)])
    assert values.min() > _DISAGREES_P
    assert (values <= 0.01).mean() <= 0.02
    assert (values <= 0.1).mean() <= 0.13


@pytest.mark.parametrize("n_named", [5, 20])
@pytest.mark.parametrize(("temperature", "share"), [(0.7, 0.95), (1.4, 0.5), (2.0, 0.95)])
def test_scaled_draws_are_refused(temperature, share, n_named):
    """Zipf's law over sixty tokens; a temperature of 0.9 or 1.1 takes more draws than these."""
    probs = 1.0 / np.arange(1, 61)
    rng = np.random.default_rng(12)
    refused = [p_value(rng, probs / probs.sum(), n_named, temperature) < _DISAGREES_P for _ in range(300)]
    assert np.mean(refused) > share
