"""The simulated servers say exactly what their model says, and refuse what the real ones refuse."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from simulated import SHAPES, Recorded, prose_table, simulated_server, simulation, table_model
from simulated.shape import LEAST, LOWEST, NAME
from worlds import naive_cost

from canary_audit.models.table import digit_tree

PROMPT = [*b"the pin is "]
DIGITS = [*b"0123456789"]
MODEL = table_model(prose_table(np.random.default_rng(5)))
ROW = MODEL.next_log_probs(PROMPT)
LIKELIEST = [int(token) for token in np.argsort(-ROW)]
PATHS = {
    "vllm": "/v1/completions",
    "sglang": "/generate",
    "llamacpp": "/completion",
    "openai": "/v1/completions",
    "chat": "/v1/chat/completions",
}


def ask(shape, body, *, model=MODEL, path=None, **switches):
    """Status and decoded answer."""
    request = Recorded(method="POST", path=path or PATHS[shape], body=body)
    status, content = simulation(model, shape, **switches).reply(request)
    return status, httpx.Response(status, content=content).json()


def good(shape, body, **settings):
    status, answer = ask(shape, body, **settings)
    assert status == 200, answer
    return answer


def refused(shape, body, **settings):
    return ask(shape, body, **settings)[0]


def floats(node):
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return ([node] if isinstance(node, float) else []) + [found for value in inner for found in floats(value)]


def naive_scores(tokens):
    return [float(MODEL.next_log_probs(tokens[:place])[tokens[place]]) for place in range(1, len(tokens))]


NEXT = {"prompt": PROMPT, "max_tokens": 1, "return_tokens_as_token_ids": True}
BEGUN = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "the pin is "}]


class TestVllm:
    def tops(self, extra, **switches):
        logprobs = good("vllm", NEXT | extra, **switches)["choices"][0]["logprobs"]
        (sampled,) = logprobs["tokens"]
        (top,) = logprobs["top_logprobs"]
        assert top[sampled] == logprobs["token_logprobs"][0]
        return sampled, top

    def test_chosen_tokens_come_with_the_sampled_one_and_no_other(self):
        sampled, top = self.tops({"logprobs": 10, "logprob_token_ids": DIGITS})
        assert set(top) == {sampled} | {f"token_id:{token}" for token in DIGITS}
        assert all(value == ROW[int(name.removeprefix("token_id:"))] for name, value in top.items())

    def test_an_older_server_ignores_the_choice(self):
        sampled, top = self.tops({"logprobs": 3, "logprob_token_ids": DIGITS}, supports_token_ids=False)
        assert set(top) == {sampled} | {f"token_id:{token}" for token in LIKELIEST[:3]}

    def test_sampling_is_restricted_and_log_probs_are_not(self):
        sampled, top = self.tops({"logprobs": 1, "allowed_token_ids": [LIKELIEST[200]]})
        assert sampled == f"token_id:{LIKELIEST[200]}"
        assert top[sampled] == ROW[LIKELIEST[200]]

    def test_temperature_leaves_log_probs_alone(self):
        sampled, top = self.tops({"logprobs": 2, "temperature": 0})
        assert sampled == f"token_id:{LIKELIEST[0]}"
        assert list(top.values()) == [ROW[token] for token in LIKELIEST[:2]]

    def test_prompt_log_probs_name_each_token_and_the_likeliest(self):
        entries = good("vllm", {"prompt": PROMPT, "max_tokens": 1, "prompt_logprobs": 2})["choices"][0][
            "prompt_logprobs"
        ]
        assert entries[0] is None
        assert [entry[str(token)]["logprob"] for token, entry in zip(PROMPT[1:], entries[1:], strict=True)] == (
            naive_scores(PROMPT)
        )
        assert all(sorted(value["rank"] for value in entry.values())[:2] == [1, 2] for entry in entries[1:])

    @pytest.mark.parametrize("n_written", [0, 2])
    def test_echo_scores_the_prompt(self, n_written):
        body = {"prompt": PROMPT, "max_tokens": n_written, "echo": True, "logprobs": 0}
        choice = good("vllm", body)["choices"][0]
        values = choice["logprobs"]["token_logprobs"]
        assert len(values) == len(PROMPT) + n_written
        assert values[: len(PROMPT)] == [None, *naive_scores(PROMPT)]
        assert choice["text"].startswith("the pin is ")

    def test_token_ids_are_returned_on_request(self):
        choice = good("vllm", {"prompt": "the pin is ", "max_tokens": 2, "return_token_ids": True})["choices"][0]
        assert choice["prompt_token_ids"] == PROMPT
        assert bytes(choice["token_ids"]).decode(errors="replace") == choice["text"]

    def test_many_prompts_and_choices_in_order(self):
        body = {"prompt": [PROMPT, [65, 66]], "max_tokens": 1, "n": 2, "return_token_ids": True}
        answer = good("vllm", body)
        assert [choice["prompt_token_ids"] for choice in answer["choices"]] == [PROMPT, PROMPT, [65, 66], [65, 66]]
        assert answer["usage"]["prompt_tokens"] == len(PROMPT) + 2

    @pytest.mark.parametrize(
        "extra",
        [
            {"logprobs": 21},
            {"logprobs": -1},
            {"prompt_logprobs": 21},
            {"logprob_token_ids": [5]},
            {"logprobs": 1, "logprob_token_ids": []},
            {"logprobs": 1, "logprob_token_ids": list(range(129))},
            {"logprobs": 1, "logprob_token_ids": [256]},
            {"allowed_token_ids": []},
            {"max_tokens": 0},
            {"prompt": [256]},
            {"prompt": ""},
            {"temperature": 0, "n": 2},
        ],
    )
    def test_refusals(self, extra):
        assert refused("vllm", NEXT | extra) == 400

    def test_a_generous_server_gives_the_whole_vocabulary(self):
        _, top = self.tops({"logprobs": -1}, max_logprobs=-1)
        assert len(top) == MODEL.vocab_size

    def test_another_model_is_unknown(self):
        assert refused("vllm", NEXT | {"model": "other"}) == 404
        assert refused("vllm", NEXT | {"model": NAME}) == 200


class TestSglang:
    def meta(self, parameters=(), **extra):
        sampling = {"max_new_tokens": 1, "temperature": 1, **dict(parameters)}
        body = {"input_ids": PROMPT, "sampling_params": sampling, "return_logprob": True, **extra}
        return good("sglang", body)["meta_info"]

    def test_chosen_and_likeliest_tokens(self):
        meta = self.meta(token_ids_logprob=DIGITS, top_logprobs_num=3)
        assert meta["output_token_ids_logprobs"] == [[[ROW[token], token, None] for token in DIGITS]]
        assert meta["output_top_logprobs"] == [[[ROW[token], token, None] for token in LIKELIEST[:3]]]

    def test_input_is_scored_behind_its_first_token(self):
        scored = self.meta(logprob_start_len=3)["input_token_logprobs"]
        assert [token for _, token, _ in scored] == PROMPT[3:]
        assert [value for value, _, _ in scored] == [None, *naive_scores(PROMPT)[3:]]

    def test_temperature_is_in_what_it_writes_but_not_in_what_it_reads(self):
        meta = self.meta({"temperature": 0.5}, token_ids_logprob=DIGITS, logprob_start_len=0)
        tempered = 2 * ROW - np.logaddexp.reduce(2 * ROW)
        given = [value for value, _, _ in meta["output_token_ids_logprobs"][0]]
        np.testing.assert_allclose(given, tempered[DIGITS], atol=1e-12)
        assert [value for value, _, _ in meta["input_token_logprobs"]][1:] == naive_scores(PROMPT)

    def test_a_list_of_texts_with_their_own_parameters(self):
        parameters = [{"max_new_tokens": 2, "sampling_seed": seed} for seed in (1, 2, 1)]
        answers = good("sglang", {"text": ["pin"] * 3, "sampling_params": parameters})
        first, second, again = (answer["output_ids"] for answer in answers)
        assert first == again != second

    def test_an_unknown_parameter_breaks_it(self):
        assert refused("sglang", {"text": "a", "sampling_params": {"seed": 1}}) == 500

    def test_zero_probability(self):
        model = table_model(digit_tree(2, np.random.default_rng(1)))
        body = {"input_ids": [65, 65], "sampling_params": {"max_new_tokens": 1}, "return_logprob": True}
        meta = good("sglang", body | {"token_ids_logprob": [65], "logprob_start_len": 0}, model=model)["meta_info"]
        assert meta["output_token_ids_logprobs"] == [[[LOWEST, 65, None]]]
        assert meta["input_token_logprobs"] == [[None, 65, None], [None, 65, None]]


class TestLlamaCpp:
    def probabilities(self, **extra):
        return good("llamacpp", {"prompt": PROMPT, "n_predict": 1, **extra})["completion_probabilities"]

    def test_a_grammar_forces_tokens_and_leaves_their_numbers(self):
        given = self.probabilities(n_predict=3, n_probs=1, grammar="root ::= <[48]> <[7]> <[57]>")
        assert [entry["id"] for entry in given] == [48, 7, 57]
        assert [entry["logprob"] for entry in given] == naive_scores([*PROMPT, 48, 7, 57])[-3:]

    def test_all_tokens_can_be_asked_for(self):
        (entry,) = self.probabilities(n_probs=1_000)
        assert [each["id"] for each in entry["top_logprobs"]] == LIKELIEST
        assert [each["logprob"] for each in entry["top_logprobs"]] == [ROW[token] for token in LIKELIEST]

    def test_a_grammar_of_characters(self):
        (entry,) = self.probabilities(n_probs=1, grammar="root ::= [0-9]+")
        assert entry["id"] in DIGITS

    def test_nothing_is_told_of_a_token_that_ends_inside_a_character(self):
        body = {"prompt": PROMPT, "n_predict": 1, "n_probs": 1, "grammar": "root ::= <[195]>"}
        assert "completion_probabilities" not in good("llamacpp", body)
        given = self.probabilities(n_predict=2, n_probs=1, grammar="root ::= <[195]> <[169]>")
        assert [entry["id"] for entry in given] == [169]

    def test_zero_probability_is_the_lowest_number(self):
        model = table_model(digit_tree(2, np.random.default_rng(1)))
        body = {"prompt": "pin ", "n_predict": 1, "n_probs": 256, "grammar": "root ::= <[65]>"}
        (entry,) = good("llamacpp", body, model=model)["completion_probabilities"]
        assert entry["logprob"] == entry["top_logprobs"][-1]["logprob"] == LOWEST

    def test_single_precision_is_close(self):
        body = {"prompt": PROMPT, "n_predict": 1, "n_probs": 256}
        (entry,) = good("llamacpp", body, single_precision=True)["completion_probabilities"]
        values = [each["logprob"] for each in entry["top_logprobs"]]
        np.testing.assert_allclose(values, ROW[LIKELIEST], rtol=1e-6)
        assert values != [ROW[token] for token in LIKELIEST]

    @pytest.mark.parametrize("grammar", ["root ::= <[256]>", "root ::= 'a' | 'b'", "digits"])
    def test_grammars_it_does_not_read(self, grammar):
        assert refused("llamacpp", {"prompt": PROMPT, "n_predict": 1, "grammar": grammar}) == 400

    def test_echo_is_accepted_and_ignored(self):
        body = {"prompt": "the pin is ", "max_tokens": 2, "echo": True, "logprobs": 1}
        choice = good("llamacpp", body, path="/v1/completions")["choices"][0]
        assert len(choice["logprobs"]["content"]) == 2
        assert "pin" not in choice["text"]

    def test_how_it_stopped(self):
        body = {"prompt": PROMPT, "grammar": "root ::= <[48]>", "return_tokens": True}
        assert good("llamacpp", body | {"n_predict": 1})["stop_type"] == "limit"
        assert good("llamacpp", body | {"n_predict": 2})["stop_type"] == "eos"
        assert good("llamacpp", body | {"n_predict": 2})["tokens"] == [48]


class TestOpenAi:
    def logprobs(self, extra, **switches):
        body = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 2, **extra}
        return good("openai", body, **switches)["choices"][0]["logprobs"]

    def test_echo_scores_the_prompt(self):
        given = self.logprobs({})
        assert given["token_logprobs"] == [None, *naive_scores(PROMPT)]
        assert "".join(given["tokens"]) == "the pin is "
        assert given["top_logprobs"][0] is None
        assert given["text_offset"] == list(range(len(PROMPT)))

    def test_likeliest_tokens_and_the_drawn_one(self):
        given = self.logprobs({"echo": False, "max_tokens": 1})
        names = {chr(token) for token in LIKELIEST[:2]} | set(given["tokens"])
        assert set(given["top_logprobs"][0]) == names

    def test_bytes_that_are_no_text(self):
        assert self.logprobs({"prompt": [65, 226, 128]})["tokens"] == ["A", "bytes:\\xe2", "bytes:\\x80"]

    def test_switches(self):
        body = {"prompt": PROMPT, "max_tokens": 1, "logprobs": 6}
        assert refused("openai", body) == 400
        assert refused("openai", body, max_logprobs=6) == 200
        assert refused("openai", body | {"logprobs": 1}, takes_token_ids=False) == 400
        assert refused("openai", body | {"logprobs": 1, "echo": True}, echo=False) == 400

    def test_zero_probability_is_minus_9999(self):
        model = table_model(digit_tree(2, np.random.default_rng(1)))
        assert self.logprobs({"prompt": [65, 65]}, model=model)["token_logprobs"] == [None, LEAST]


class TestChat:
    def top(self, messages, extra=(), **switches):
        body = {"messages": messages, "max_tokens": 1, "logprobs": True, "top_logprobs": 20, **dict(extra)}
        (entry,) = good("chat", body, **switches)["choices"][0]["logprobs"]["content"]
        assert all(bytes(each["bytes"]).decode() == each["token"] for each in entry["top_logprobs"])
        return [(each["bytes"][0], each["logprob"]) for each in entry["top_logprobs"]]

    def test_a_users_text_is_gone_on_with(self):
        expected = [(token, ROW[token]) for token in LIKELIEST[:20]]
        assert self.top([{"role": "user", "content": "the pin is "}]) == expected

    def test_whether_an_answer_is_gone_on_with(self):
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        here, new_turn = ROW, MODEL.next_log_probs([*PROMPT, 10])
        for row, found in [
            (here, self.top(BEGUN)),
            (new_turn, self.top(BEGUN, prefill="none")),
            (new_turn, self.top(BEGUN, flags, prefill="none")),
            (new_turn, self.top(BEGUN, prefill="flagged")),
            (here, self.top(BEGUN, flags, prefill="flagged")),
        ]:
            assert found == [(int(token), row[token]) for token in np.argsort(-row)[:20]]

    def test_log_probs_can_be_refused_or_ignored(self):
        body = {"messages": BEGUN, "logprobs": True}
        assert refused("chat", body, logprobs="refused") == 400
        assert good("chat", body, logprobs="ignored")["choices"][0]["logprobs"] is None
        assert refused("chat", {"messages": BEGUN}, logprobs="refused") == 200

    @pytest.mark.parametrize(
        "extra",
        [
            {"messages": []},
            {"logprobs": True, "top_logprobs": 21},
            {"top_logprobs": 5},
            {"continue_final_message": True},
        ],
    )
    def test_refusals(self, extra):
        assert refused("chat", {"messages": BEGUN, **extra}) == 400


BODIES = {
    "vllm": {"prompt": PROMPT, "max_tokens": 2, "logprobs": 5, "prompt_logprobs": 2},
    "sglang": {
        "input_ids": PROMPT,
        "return_logprob": True,
        "top_logprobs_num": 5,
        "sampling_params": {"max_new_tokens": 2},
    },
    "llamacpp": {"prompt": PROMPT, "n_predict": 2, "n_probs": 5},
    "openai": {"prompt": PROMPT, "max_tokens": 2, "logprobs": 5, "echo": True},
    "chat": {"messages": BEGUN, "max_tokens": 2, "logprobs": True, "top_logprobs": 5},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_float_is_a_log_probability(shape):
    found = floats(good(shape, BODIES[shape]))
    assert len(found) >= 10
    assert all(value <= 0 for value in found)


@pytest.mark.parametrize("shape", ["vllm", "openai"])
def test_seeded_choices_repeat_and_differ(shape):
    body = {"prompt": "pin ", "max_tokens": 8, "n": 4, "seed": 7}
    first, again = ([choice["text"] for choice in good(shape, body)["choices"]] for _ in range(2))
    assert first == again
    assert len(set(first)) == 4
    unseeded = [good(shape, body | {"seed": None})["choices"][0]["text"] for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_samples_follow_the_model():
    body = {"prompt": PROMPT, "max_tokens": 1, "n": 2_000, "seed": 1, "return_token_ids": True}
    drawn = [choice["token_ids"][0] for choice in good("vllm", body)["choices"]]
    shares = np.bincount(drawn, minlength=256) / len(drawn)
    likely = np.exp(ROW) > 0.01
    np.testing.assert_allclose(shares[likely], np.exp(ROW)[likely], atol=4 * np.sqrt(0.1 / len(drawn)))


def test_top_p_keeps_the_nucleus():
    body = {"prompt": PROMPT, "max_tokens": 1, "n": 200, "top_p": 0.2, "seed": 1, "return_token_ids": True}
    drawn = {choice["token_ids"][0] for choice in good("vllm", body)["choices"]}
    n_kept = 1 + int(np.searchsorted(np.cumsum(np.exp(ROW[LIKELIEST])), 0.2))
    assert drawn == set(LIKELIEST[:n_kept])


def test_a_served_table_stands_behind_any_prompt():
    table = digit_tree(4, np.random.default_rng(3))
    body = {"prompt": "pin ", "n_predict": 4, "n_probs": 1, "grammar": "root ::= <[49]> <[50]> <[51]> <[52]>"}
    given = good("llamacpp", body, model=table_model(table))["completion_probabilities"]
    assert -sum(entry["logprob"] for entry in given) == pytest.approx(naive_cost(table, (49, 50, 51, 52)))


class TestServer:
    def test_it_records_what_it_was_asked_and_keeps_the_connection(self):
        with simulated_server(MODEL, "vllm", api_key="k") as server, httpx.Client(base_url=server.url) as client:
            client.headers["Authorization"] = "Bearer k"
            for number in range(3):
                assert client.post("/v1/completions", json={"prompt": [65 + number]}).status_code == 200
            assert client.get("/version").json() == {"version": "0.30.0"}
            assert client.get("/nothing").status_code == 404
            client.headers.pop("Authorization")
            assert client.get("/version").status_code == 401
        assert [request.path for request in server.requests] == [
            *["/v1/completions"] * 3,
            *["/version", "/nothing", "/version"],
        ]
        assert [request.body for request in server.requests[1:4]] == [{"prompt": [66]}, {"prompt": [67]}, None]
        assert (server.n_requests, server.answered) == (6, 4)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_what_goes_over_the_network_is_what_it_says(self, shape):
        body = BODIES[shape] | {"temperature": 0, "sampling_params": {"max_new_tokens": 2, "temperature": 0}}
        with simulated_server(MODEL, shape) as server:
            assert httpx.post(f"{server.url}{PATHS[shape]}", json=body).json() == good(shape, body)

    def test_many_clients_at_once(self):
        with simulated_server(MODEL, "vllm") as server, httpx.Client(base_url=server.url) as client:
            body = {"max_tokens": 1, "logprobs": 1, "logprob_token_ids": [48], "return_tokens_as_token_ids": True}

            def score(token):
                answer = client.post("/v1/completions", json={**body, "prompt": [token]}).json()
                return answer["choices"][0]["logprobs"]["top_logprobs"][0]["token_id:48"]

            with ThreadPoolExecutor(8) as pool:
                given = list(pool.map(score, range(200)))
        assert given == [MODEL.next_log_probs([token])[48] for token in range(200)]
        assert server.n_requests == server.answered == 200

    def test_it_leaves_no_thread_behind(self):
        before = threading.active_count()
        with simulated_server(MODEL, "chat") as server, httpx.Client(base_url=server.url) as client:
            client.get("/v1/models")
        assert threading.active_count() == before
