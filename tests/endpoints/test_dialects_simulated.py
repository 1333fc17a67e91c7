"""What each dialect asks of a simulated server is what the model behind it says, to the last digit."""

import json

import numpy as np
import pytest
from simulated import Recorded, prose_table, simulation, table_model
from simulated.shape import NAME

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.apis import APIS, dialect_for
from canary_audit.endpoints.strict_json import decode_json
from canary_audit.errors import EndpointError
from canary_audit.vocabulary import ByteVocabulary

TEXT = "the pin is "
PROMPT = [*TEXT.encode()]
DIGITS = [*b"0123456789"]
MODEL = table_model(prose_table(np.random.default_rng(5)))
ROW = MODEL.next_log_probs(PROMPT)
SCORING = [api for api in APIS if api != "chat"]
PREFILLS = ("none", "plain", "vllm")


def dialect(api, prefill="plain"):
    return dialect_for(api, model=NAME, vocabulary=ByteVocabulary(), config=EndpointConfig(), prefill=prefill)


def ask(api, request):
    method = "GET" if request.body is None else "POST"
    recorded = Recorded(method=method, path=request.path, body=json.loads(json.dumps(request.body)))
    status, content = simulation(MODEL, api).reply(recorded)
    assert status == 200, content
    return request.read(decode_json(content))


def tiers_of(api):
    return [(api, tier) for tier in dialect(api).tiers if tier != "text-only"]


@pytest.mark.parametrize(("api", "tier"), [pair for api in APIS for pair in tiers_of(api)])
def test_a_window_holds_the_model_s_own_numbers(api, tier):
    window = ask(api, dialect(api).window(PROMPT, DIGITS, tier=tier))
    assert all(value == ROW[token] for token, value in window.log_probs.items())
    assert window.is_top or set(DIGITS) <= set(window.log_probs)
    likeliest = np.sort(ROW)[::-1][: window.n_top]
    assert np.array_equal(sorted(window.log_probs.values(), reverse=True)[: window.n_top], likeliest)


@pytest.mark.parametrize("api", SCORING)
def test_tokens_and_texts_are_scored_with_the_model_s_own_numbers(api):
    for token in (DIGITS[7], int(np.argmin(ROW[:128]))):
        assert ask(api, dialect(api).forced(PROMPT, token)) == ROW[token]
    expected = [MODEL.next_log_probs(PROMPT[:place])[PROMPT[place]] for place in range(3, len(PROMPT))]
    assert np.array_equal(ask(api, dialect(api).score(PROMPT, 3)), expected)


@pytest.mark.parametrize(("api", "prefill"), [(api, "none") for api in SCORING] + [("chat", each) for each in PREFILLS])
def test_texts_go_on_from_the_prefix_and_differ(api, prefill):
    speaking = dialect(api, prefill)
    texts = [
        text
        for seed in range(3)
        for text in ask(api, speaking.write(TEXT, max_tokens=8, temperature=1.0, n=4, seed=seed))
    ]
    assert len(set(texts)) == 12
    (greedy,) = ask(api, speaking.write(TEXT, max_tokens=1, temperature=0.0, n=1, seed=0))
    assert greedy == chr(int(np.argmax(ROW)))


def test_llama_cpp_s_echo_is_seen_to_be_none():
    """It takes the word and ignores it."""
    with pytest.raises(EndpointError):
        ask("llamacpp", dialect("openai").forced(PROMPT, DIGITS[0]))


@pytest.mark.parametrize("api", APIS)
def test_what_serves_is_known(api):
    assert all(NAME in ask(api, request) or "vLLM" in ask(api, request) for request in dialect(api).identity())
