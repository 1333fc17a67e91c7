"""The catalogue of endpoint faults: each does what its name says, and no reader takes a false number for a true one."""

import functools
import json
import math
import socket
import time
import zlib

import httpx
import numpy as np
import pytest
from simulated import FAULTS, SHAPES, Recorded, faults_of, prose_table, simulated_server, simulation, table_model

from canary_audit.config import EndpointConfig
from canary_audit.endpoints import connection
from canary_audit.endpoints.address import ApiKey, parse_address
from canary_audit.endpoints.apis import dialect_for
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.dialect import Window
from canary_audit.endpoints.strict_json import BrokenJsonError, decode_json
from canary_audit.errors import EndpointError

MODEL = table_model(prose_table(np.random.default_rng(6)))
PROMPT = [*b"the pin is "]
DIGITS = [*b"0123456789"]
ENDLESS = {"never-answers", "body-dripping", "headers-dripping", "headers-endless", "promises-endless", "body-endless"}
CASES = [pytest.param(shape, fault, id=f"{shape}-{fault}") for shape in SHAPES for fault in faults_of(shape)]
ANSWERS = [case for case in CASES if case.values[1].send is None]
BY_CHANCE = {"tokens-under-other-names", "token-missing"}
"""A wanted token may have a likely neighbour's number; and the least likely of the top may be missing unseen where the
drawn token fills their number."""
PLAIN = [case for case in ANSWERS if case.values[1].shows == "at-once" and case.values[1].name not in BY_CHANCE]
WIRE = [fault for fault in FAULTS.values() if fault.send or fault.name.startswith(("half", "json"))]


@functools.cache
def questions(shape):
    """Every kind of question of an API that has an answer in numbers, and one for text."""
    dialect = dialect_for(
        shape, model="simulated-1", vocabulary=MODEL.vocabulary, config=EndpointConfig(), prefill="plain"
    )
    asked = [dialect.window(PROMPT, DIGITS, tier=tier) for tier in dialect.tiers if tier != "text-only"]
    if shape != "chat":
        asked += [dialect.forced(PROMPT, DIGITS[1]), dialect.score([*PROMPT, *DIGITS], len(PROMPT))]
    return [*asked, dialect.write("the pin is ", max_tokens=3, temperature=0.0, n=1, seed=1)]


@functools.cache
def clean_answers(shape):
    return [read(question, content_of(shape, question)) for question in questions(shape)]


def content_of(shape, question, fault=None):
    request = Recorded(method="POST", path=question.path, body=json.loads(json.dumps(question.body)))
    status, content = simulation(MODEL, shape, fault=fault).reply(request, fault)
    return content if status == 200 else None


def read(question, content):
    """What the reader takes from an answer; None for an error of this package, or a status that is none of its."""
    try:
        return None if content is None else question.read(decode_json(content))
    except (EndpointError, BrokenJsonError):
        return None


def distance(one, other):
    """Largest difference in nats between two answers of the same kind; infinite if they are not comparable."""
    if isinstance(one, tuple):
        return 0.0 if one == other else math.inf
    if isinstance(one, Window):
        n_top = min(one.n_top, other.n_top)  # one less where the drawn token took a place
        if likeliest(one, n_top) != likeliest(other, n_top):
            return math.inf
        shared = one.log_probs.keys() & other.log_probs.keys()
        return max((abs(one.log_probs[token] - other.log_probs[token]) for token in shared), default=math.inf)
    return float(np.max(np.abs(np.asarray(one) - other)))


def likeliest(window, count):
    """The tokens to which a window gives most."""
    return set(sorted(window.log_probs, key=window.log_probs.__getitem__, reverse=True)[:count])


def test_there_are_many():
    assert len(FAULTS) >= 30
    assert all(len(faults_of(shape)) >= 30 for shape in SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_fault_every_reader_is_content(shape):
    assert all(answer is not None for answer in clean_answers(shape))


@pytest.mark.parametrize(("shape", "fault"), ANSWERS)
def test_a_false_answer_is_refused_or_shows_when_compared(shape, fault):
    """An answer that shows its fault is refused to at least one question; other faults change a number."""
    distances = []
    for question, clean in zip(questions(shape), clean_answers(shape), strict=True):
        taken = read(question, content_of(shape, question, fault))
        distances.append(math.nan if taken is None else distance(taken, clean))
    if fault.expected == "either":
        assert all(math.isnan(each) or each < 1e-6 for each in distances)
    elif fault.shows == "at-once":
        assert any(map(math.isnan, distances)), "every reader took it"
    else:
        assert max(distances) > 0.01, "it changes nothing"


@pytest.mark.parametrize(("shape", "fault"), PLAIN)
def test_what_shows_at_once_never_passes_as_another_number(shape, fault):
    """A question that the fault does not touch is answered truly; one that it touches is refused."""
    for question, clean in zip(questions(shape), clean_answers(shape), strict=True):
        taken = read(question, content_of(shape, question, fault))
        assert taken is None or distance(taken, clean) < 1e-6


@pytest.fixture(scope="module")
def client():
    """One client for all servers: to make one takes longer than to ask."""
    with httpx.Client(timeout=5) as one:
        yield one


def post(client, server, **settings):
    body = {"prompt": "pin ", "max_tokens": 1, "temperature": 0}
    return client.post(f"{server.url}/v1/completions", json=body, **settings)


def test_a_fault_begins_and_ends_when_told(client):
    with simulated_server(MODEL, "openai", fault=FAULTS["500-then-ok"], good_requests=3) as server:
        given = [post(client, server).status_code for _ in range(7)]
    assert given == [200, 200, 200, 500, 500, 200, 200]
    assert (server.n_requests, server.answered) == (7, 5)


def test_noise_is_fresh_in_every_answer():
    question = questions("vllm")[0]
    fault = FAULTS["noise-of-half-a-nat"]
    one, other = (read(question, content_of("vllm", question, fault)) for _ in range(2))
    assert distance(one, other) > 0.01


@pytest.mark.parametrize(
    "name", [fault.name for fault in FAULTS.values() if fault.send and fault.name not in {*ENDLESS, "gzip-bomb"}]
)
def test_a_broken_wire_never_brings_a_plain_answer(name, client):
    """To a client that follows no redirects; except for what is expected to do no harm."""
    with simulated_server(MODEL, "openai") as server:
        clean = post(client, server).content
    with simulated_server(MODEL, "openai", fault=FAULTS[name]) as server:
        try:
            answer = post(client, server)
        except httpx.HTTPError:
            return
    assert answer.status_code != 200 or answer.content != clean or FAULTS[name].expected == "either"


def test_a_small_body_unpacks_to_a_gigabyte(client):
    with (
        simulated_server(MODEL, "openai", fault=FAULTS["gzip-bomb"]) as server,
        client.stream("POST", f"{server.url}/v1/completions", json={}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = b"".join(answer.iter_raw())
    assert len(packed) < 2 << 20
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert unpacker.decompress(packed, 1 << 20) == b"[" + b" " * ((1 << 20) - 1)
    assert unpacker.unconsumed_tail


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_an_endless_answer_goes_on_until_the_server_ends(name):
    begun, n_received = time.monotonic(), 0
    with simulated_server(MODEL, "openai", fault=FAULTS[name]) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
            client.settimeout(0.05)
            while time.monotonic() - begun < 0.3:
                try:
                    received = client.recv(1 << 16)
                except TimeoutError:
                    continue
                assert received, "it ended by itself"
                n_received += len(received)
    assert time.monotonic() - begun < 2
    assert (n_received == 0) == (name == "never-answers")


def answer_or_message(client, question):
    try:
        return client.ask([question])[0], ""
    except EndpointError as error:
        return None, str(error)


@pytest.mark.parametrize("fault", WIRE, ids=str)
def test_our_client_ends_with_an_error_or_the_true_answer(fault, monkeypatch):
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.01)
    question, clean = questions("vllm")[0], clean_answers("vllm")[0]
    config = EndpointConfig(deadline_seconds=1.0, tries=3, concurrency=1)
    begun = time.monotonic()
    with simulated_server(MODEL, "vllm", fault=fault, api_key="s3cret") as server:
        address = parse_address(server.url)
        with Client(address, ApiKey("s3cret"), config, None, Budget(None, None)) as client:
            taken, message = answer_or_message(client, question)
    assert "s3cret" not in message
    assert "simulated" not in message
    assert time.monotonic() - begun < 3
    assert taken is None or distance(taken, clean) < 1e-6
    assert (taken is None) == (fault.expected == "error") or fault.expected == "either"


def test_a_second_answer_is_not_taken_for_that_of_the_next_request():
    asked = [questions("vllm")[0], *questions("vllm")[3:5]]
    config = EndpointConfig(deadline_seconds=5.0, concurrency=1)
    with (
        simulated_server(MODEL, "vllm", fault=FAULTS["second-answer"]) as server,
        Client(parse_address(server.url), None, config, None, Budget(None, None)) as client,
    ):
        try:
            taken = client.ask([*asked, *asked[:1]])
        except EndpointError:
            return  # it came in one piece with the first, and did not fit the next request
    expected = [clean_answers("vllm")[place] for place in (0, 3, 4, 0)]
    assert all(distance(one, other) < 1e-6 for one, other in zip(taken, expected, strict=True))


def test_a_refusal_repeats_the_key(client):
    with simulated_server(MODEL, "openai", fault=FAULTS["key-in-a-refusal"]) as server:
        answer = post(client, server, headers={"Authorization": "Bearer s3cret"})
    assert (answer.status_code, "s3cret" in answer.text) == (401, True)
