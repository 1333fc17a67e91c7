"""Each API's requests ask for what is meant, and each reader believes only answers that can be true."""

import copy
import json
import math

import numpy as np
import pytest
from canned_answers import (
    CASES,
    MODEL,
    PREFIX,
    TAIL,
    TEXTS,
    TOP,
    TOP_K,
    VOCABULARY,
    A,
    B,
    D,
    by_id,
    chat,
    chat_answer,
    chat_vllm,
    completion,
    echoed,
    llama,
    llama_entry,
    llamacpp,
    next_token,
    openai,
    sglang,
    text_top,
    vllm,
    with_tail,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.apis import APIS, dialect_for
from canary_audit.endpoints.chat import ChatDialect
from canary_audit.endpoints.openai import OpenAiDialect
from canary_audit.errors import EndpointError

NAMES = [case.name for case in CASES]


def same(one, other):
    return np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other


def paths_in(value, here=()):
    """Every place below the top, as a path."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*here, step)
        yield from paths_in(inner, (*here, step))


WRONG = (None, True, 2.5, 10**6, -1e300, math.nan, math.inf, "text", [], {})


def damaged(body, data):
    """The body with one place deleted, or holding a value of another type or an impossible number."""
    body = copy.deepcopy(body)
    *above, step = data.draw(st.sampled_from(list(paths_in(body))))
    parent = body
    for way in above:
        parent = parent[way]
    others = [wrong for wrong in WRONG if type(wrong) is not type(parent[step]) or isinstance(wrong, int | float)]
    if data.draw(st.booleans()):
        del parent[step]
    else:
        parent[step] = data.draw(st.sampled_from(others))
    return body


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_true_answer_is_read(case):
    assert same(case.request.read(copy.deepcopy(case.body)), case.expected)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_answer_is_refused_or_its_damage_changes_nothing(case, data):
    body = damaged(case.body, data)
    try:
        found = case.request.read(body)
    except EndpointError:
        return
    assert same(found, case.expected)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("body", [None, [], {}, "no", 3, {"choices": []}, {"error": {"message": "no"}}, [[], []]])
def test_an_answer_of_another_shape_is_refused(case, body):
    with pytest.raises(EndpointError):
        case.request.read(body)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_request_is_json_and_costs_at_least_what_it_sends(case):
    body = json.loads(json.dumps(case.request.body))
    prompt = body.get("prompt", body.get("input_ids"))
    if isinstance(prompt, list) and isinstance(prompt[0], int):
        assert case.request.n_tokens >= len(prompt)
        assert case.request.order == tuple(prompt)
    assert case.request.n_tokens >= 2
    assert case.request.path.startswith("/")


def test_a_seed_tells_requests_apart_in_every_api():
    for dialect in (vllm, sglang, llamacpp, openai, chat):
        bodies = [dialect.write("xy", **{**written, "seed": seed}).body for seed in (0, 1)]
        assert bodies[0] != bodies[1]


def test_texts_drawn_in_one_sglang_request_have_seeds_of_their_own():
    seeds = [sampling["sampling_seed"] for sampling in sglang.write("xy", **written).body["sampling_params"]]
    assert len(set(seeds)) == 2


def test_vllm_chooses_tokens_in_the_way_its_front_ends_demand():
    body = vllm.window(PREFIX, [D, B], tier="chosen-tokens").body
    assert (body["logprob_token_ids"], body["logprobs"]) == ([D, B], 2)
    with pytest.raises(EndpointError, match="129"):
        vllm.window(PREFIX, range(129), tier="chosen-tokens")


def test_a_vllm_that_ignores_chosen_tokens_is_noticed():
    request = vllm.window(PREFIX, [A, D], tier="chosen-tokens")
    with pytest.raises(EndpointError, match="ignores the choice"):
        request.read(completion(next_token(f"token_id:{A}", -0.5, by_id({A: -0.5, B: -1.5}))))


def test_a_vllm_that_names_tokens_by_text_is_noticed():
    request = vllm.window(PREFIX, (), tier="top-k")
    with pytest.raises(EndpointError, match="by number"):
        request.read(completion(next_token("A", -0.5, text_top)))


def test_a_vllm_that_writes_a_token_that_is_not_allowed_is_noticed():
    with pytest.raises(EndpointError, match="ignores the restriction"):
        vllm.forced(PREFIX, D).read(completion(next_token(f"token_id:{A}", -0.5, by_id({A: -0.5}))))


def test_a_server_that_adds_a_token_before_the_prompt_is_noticed():
    request = vllm.window(PREFIX, (), tier="top-k")
    with pytest.raises(EndpointError, match="2 tokens were sent"):
        request.read(completion(next_token(f"token_id:{B}", -1.5, by_id(TOP)), n_prompt=3))


def test_another_model_s_answer_is_noticed():
    body = {**completion(next_token(f"token_id:{B}", -1.5, by_id(TOP))), "model": "other"}
    with pytest.raises(EndpointError, match="another model"):
        vllm.window(PREFIX, (), tier="top-k").read(body)


def test_a_llama_cpp_with_speculative_decoding_is_noticed():
    """It then claims certainty, and names no token."""
    with pytest.raises(EndpointError, match="0 likeliest tokens"):
        llamacpp.forced(PREFIX, D).read(llama([llama_entry(D, 0.0, {})]))


def test_a_llama_cpp_that_knows_no_probability_is_told_from_an_unlikely_token():
    with pytest.raises(EndpointError, match="probability of zero"):
        llamacpp.forced(PREFIX, D).read(llama([llama_entry(D, -3.4028234663852886e38, {A: -0.5})]))


def test_a_llama_cpp_that_ignores_the_grammar_is_noticed():
    with pytest.raises(EndpointError, match="another token"):
        llamacpp.forced(PREFIX, D).read(llama([llama_entry(A, -0.5, {A: -0.5})]))


def test_a_llama_cpp_is_not_asked_to_write_a_part_of_a_character():
    with pytest.raises(EndpointError, match="inside a character"):
        llamacpp.forced(PREFIX, 0xC3)


def test_an_openai_server_that_ignores_echo_is_noticed():
    with pytest.raises(EndpointError, match="tokens has 1 entries where 3 are due"):
        openai.forced(PREFIX, D).read(completion(next_token("A", -0.5, {"A": -0.5}), n_prompt=3))
    other = {**echoed, "tokens": ["x", "y", "A"]}
    with pytest.raises(EndpointError, match="does not repeat the prompt"):
        openai.forced(PREFIX, D).read(completion(other, n_prompt=3))


def test_an_openai_server_may_name_the_drawn_token_besides_the_likeliest():
    window = openai.window(PREFIX, [D], tier="top-k").read(completion(next_token("D", TAIL, {**text_top, "D": TAIL})))
    assert window == with_tail


def test_a_chat_in_which_the_drawn_token_took_a_place_counts_one_less():
    named = {D: TAIL, A: -0.5, B: -1.5}
    window = chat.window(PREFIX, [D], tier="top-k").read(chat_answer(D, TAIL, named))
    assert (window.n_top, dict(window.log_probs)) == (2, named)


def test_a_chat_continues_the_assistant_s_text():
    assert chat.tiers[0] == "top-k"
    messages = chat_vllm.window(PREFIX, [], tier="top-k").body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["content"] == "xy"
    assert chat_vllm.window(PREFIX, [], tier="top-k").body["continue_final_message"] is True


def test_a_chat_without_prefill_only_writes():
    plain = ChatDialect(MODEL, None)
    assert plain.tiers == ("text-only",)
    assert plain.write("xy", **written).body["messages"] == [{"role": "user", "content": "xy"}]
    for ask in (
        lambda: plain.window(PREFIX, [], tier="top-k"),
        lambda: plain.forced(PREFIX, A),
        lambda: plain.score(PREFIX, 1),
    ):
        with pytest.raises(EndpointError):
            ask()


def test_a_chat_s_texts_are_read_and_a_message_without_content_is_empty():
    choices = [{"message": {"role": "assistant", "content": text}} for text in ("one", None)]
    assert chat.write("xy", **written).read({"choices": choices}) == ("one", "")


def test_a_beginning_that_a_chat_repeats_is_no_writing_of_the_model():
    choices = [{"message": {"role": "assistant", "content": text}} for text in ("xyone", "two")]
    assert chat.write("xy", **written).read({"choices": choices}) == TEXTS
    assert ChatDialect(MODEL, None).write("xy", **written).read({"choices": choices}) == ("xyone", "two")


def test_without_a_tokenizer_tokens_named_by_text_are_refused():
    request = OpenAiDialect(MODEL, None, TOP_K).window(PREFIX, [D], tier="top-k")
    with pytest.raises(EndpointError, match="--tokenizer"):
        request.read(completion(next_token("A", -0.5, text_top)))


@pytest.mark.parametrize(
    ("dialect", "bodies", "names"),
    [
        (vllm, [{"version": "0.30.1"}, {"data": [{"id": MODEL}]}], ["vLLM 0.30.1", MODEL]),
        (sglang, [{"model_path": "/srv/models/tiny"}, {"data": [{"id": MODEL}]}], ["SGLang tiny", MODEL]),
        (
            llamacpp,
            [{"build_info": "b9000-abc", "model_path": "C:\\models\\t.gguf"}, {"data": []}],
            ["llama.cpp b9000-abc t.gguf", ""],
        ),
        (openai, [{"data": [{"id": "org/a"}, {"id": "/srv/b\n"}]}], ["org/a, b"]),
        (chat, [{"data": [{"id": "m" * 200}]}], ["m" * 80]),
    ],
)
def test_what_serves_is_named_in_short(dialect, bodies, names):
    requests = dialect.identity()
    assert all(request.body is None for request in requests)
    assert [request.read(body) for request, body in zip(requests, bodies, strict=True)] == names
    for request in requests:
        with pytest.raises(EndpointError):
            request.read([])


def test_each_api_has_a_dialect_and_openai_s_are_asked_for_what_they_allow():
    asked = {}
    for api in APIS:
        dialect = dialect_for(api, model=MODEL, vocabulary=VOCABULARY, config=EndpointConfig(), prefill="plain")
        assert dialect.api == api
        body = dialect.window(PREFIX, (), tier="top-k").body
        asked[api] = body.get("n_probs") or body.get("top_logprobs_num") or body.get("top_logprobs") or body["logprobs"]
    assert asked == {"vllm": 20, "sglang": 20, "llamacpp": 20, "openai": 5, "chat": 20}
    wide = dialect_for("openai", model=MODEL, vocabulary=VOCABULARY, config=EndpointConfig(top_k=9))
    assert wide.window(PREFIX, (), tier="top-k").body["logprobs"] == 9
