"""Many requests: nothing answered is asked again, nothing is overspent, and nothing is lost."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from number_requests import KEY, requests
from raw_server import RawServer, Seen, always, reply

from canary_audit.config import EndpointConfig
from canary_audit.endpoints import connection as wire
from canary_audit.endpoints.address import parse_address
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.dialect import Request
from canary_audit.endpoints.failures import RefusedError
from canary_audit.endpoints.journal import Journal
from canary_audit.errors import BudgetSpentError, EndpointError, RunError

SECRET = "281265017"  # noqa: S105


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(wire, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "answers.sqlite", KEY) as journal:
        yield journal


def echo(one: socket.socket, seen: Seen) -> None:
    one.sendall(reply(seen.json))


def client_of(server: RawServer, journal: Journal | None = None, budget: Budget | None = None, **settings) -> Client:
    config = EndpointConfig(**{"tries": 2, "deadline_seconds": 10.0, **settings})
    return Client(parse_address(server.url), None, config, journal, budget or Budget(None, None))


def asked(server: RawServer) -> Counter[int]:
    """How often each number was asked for."""
    return Counter(seen.json["n"] for seen in server.seen)


def test_answers_come_in_the_order_of_requests_and_equal_ones_are_sent_once(journal):
    numbers = requests(20)
    shuffled = [numbers[place] for place in (7, 3, 19, 3, 0, 7)]
    with RawServer(answer=echo) as server, client_of(server, journal) as client:
        assert client.ask(shuffled) == [7, 3, 19, 3, 0, 7]
        assert (client.calls, client.tokens) == (4, 40)
        assert client.ask(shuffled) == [7, 3, 19, 3, 0, 7]
    assert asked(server) == {7: 1, 3: 1, 19: 1, 0: 1}


def test_requests_are_sent_in_their_order(journal):
    with RawServer(answer=echo) as server, client_of(server, journal, concurrency=1) as client:
        client.ask(requests(10)[::-1])
    assert [seen.json["n"] for seen in server.seen] == list(range(10))


def test_requests_run_side_by_side_up_to_the_limit():
    lock, five, under_way, most = threading.Lock(), threading.Barrier(5), [0], [0]

    def answer(one: socket.socket, seen: Seen) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        five.wait(10)
        with lock:
            under_way[0] -= 1
        echo(one, seen)

    with RawServer(answer=answer) as server, client_of(server, concurrency=5) as client:
        client.ask(requests(30))
    assert most[0] == 5
    assert server.connections == 5


def test_without_a_journal_answers_are_kept_in_memory():
    with RawServer(answer=echo) as server, client_of(server) as client:
        assert client.ask(requests(3)) == client.ask(requests(3)) == [0, 1, 2]
    assert len(server.seen) == 3


def test_asking_again_on_purpose_asks_again(journal):
    with RawServer(answer=echo) as server, client_of(server, journal) as client:
        for repeat in (0, 1, 2, 1):
            client.ask(requests(2), repeat=repeat)
        assert client.calls == 6
    assert asked(server) == {0: 3, 1: 3}


def test_a_later_process_uses_what_an_earlier_one_paid_for(tmp_path):
    path = tmp_path / "answers.sqlite"
    with RawServer(answer=echo) as server:
        for n in (5, 9):
            with Journal(path, KEY) as kept, client_of(server, kept, Budget(9, None)) as client:
                assert client.ask(requests(n)) == list(range(n))
                assert (client.calls, client.calls_left()) == (n, 9 - n), "answers of the journal count as well"
    assert set(asked(server).values()) == {1}


@pytest.mark.parametrize("limits", [(12, None), (None, 125), (12, 125)])
def test_a_budget_is_used_to_the_last_request_and_never_exceeded(journal, limits):
    budget = Budget(*limits)
    with RawServer(answer=echo) as server, client_of(server, journal, budget, concurrency=8) as client:
        assert client.ask(requests(5)) == list(range(5))
        with pytest.raises(BudgetSpentError):
            client.ask(requests(40))
        assert (client.calls, client.tokens, client.budget_spent) == (12, 120, True)
        assert client.ask(requests(12)) == list(range(12)), "what was paid for remains"
    assert asked(server) == dict.fromkeys(range(12), 1)


def test_a_request_that_failed_costs_nothing(journal):
    def answer(one: socket.socket, seen: Seen) -> None:
        one.sendall(reply(b"", status=400) if seen.json["n"] == 3 else reply(seen.json))

    budget = Budget(10, None)
    with RawServer(answer=answer) as server, client_of(server, journal, budget, concurrency=1) as client:
        with pytest.raises(RefusedError) as caught:
            client.ask(requests(6))
        assert caught.value.status == 400
        assert (client.calls, budget.calls_left) == (3, 7)


def test_when_one_request_fails_the_others_under_way_are_kept(journal):
    arrived = threading.Barrier(4)

    def answer(one: socket.socket, seen: Seen) -> None:
        arrived.wait(5)
        if seen.json["n"] != 1:
            time.sleep(0.1)  # the failure comes first
        one.sendall(reply(b"", status=400) if seen.json["n"] == 1 else reply(seen.json))

    with RawServer(answer=answer) as server, client_of(server, journal, concurrency=4) as client:
        with pytest.raises(RefusedError):
            client.ask(requests(50))
        assert client.calls == 3
        assert client.ask([requests(4)[number] for number in (0, 2, 3)]) == [0, 2, 3]
    assert len(server.seen) == 4


def test_an_answer_that_its_reader_refuses_is_neither_kept_nor_asked_again(journal):
    def refuse(_found):
        raise EndpointError("logprobs: missing")

    request = Request(path="/v1/x", body={"prompt": SECRET}, n_tokens=1, read=refuse)
    with RawServer(answer=always(reply({}))) as server, client_of(server, journal) as client:
        with pytest.raises(EndpointError, match=f"127.0.0.1:{server.port}/v1/x: logprobs: missing"):
            client.ask([request])
        assert client.calls == 0
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "read",
    [lambda found: found[SECRET], lambda found: int(found["text"]), lambda found: found.text, lambda found: 1 / 0],
)
def test_a_reader_that_stumbles_repeats_nothing_of_the_answer(journal, read):
    request = Request(path="/v1/x", body=None, n_tokens=1, read=read)
    with RawServer(answer=always(reply({"text": f"x{SECRET}"}))) as server, client_of(server, journal) as client:
        with pytest.raises(EndpointError) as caught:
            client.ask([request])
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_the_first_failure_in_order_is_the_one_reported(journal):
    def answer(one: socket.socket, seen: Seen) -> None:
        time.sleep(0.05 * (2 - seen.json["n"]))
        one.sendall(reply(b"", status=410 + seen.json["n"]))

    with RawServer(answer=answer) as server, client_of(server, journal, concurrency=3) as client:
        with pytest.raises(RefusedError) as caught:
            client.ask(requests(3))
        assert caught.value.status == 410


def test_a_journal_that_cannot_be_written_ends_the_audit(journal):
    with RawServer(answer=echo) as server, client_of(server, journal) as client:
        client.ask(requests(2))
        journal._rows.execute("PRAGMA query_only = ON")
        with pytest.raises(RunError, match="journal"):
            client.ask(requests(9))
        journal._rows.execute("PRAGMA query_only = OFF")
        assert client.ask(requests(9)) == list(range(9))


def test_it_works_where_an_event_loop_is_running(journal):
    async def cell() -> list[int]:
        with RawServer(answer=echo) as server, client_of(server, journal) as client:
            return client.ask(requests(3))

    assert asyncio.run(cell()) == [0, 1, 2]


@pytest.fixture(scope="module")
def order():
    """Tells the program of `number_requests` to begin a process, or to wait for one."""
    command = [sys.executable, Path(__file__).with_name("number_requests.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:

        def order(what: object) -> int:
            program.stdin.write(json.dumps(what) + "\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        yield order
        program.stdin.close()


@contextlib.contextmanager
def killed(order, *arguments: object):
    """A process that asks; it is killed where the context ends."""
    process = order(arguments)
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        order(process)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


class Stall:
    """Answers the first `n`, then holds every request back until it is let go."""

    def __init__(self, n: int) -> None:
        self.n, self.answered, self.held, self.free = n, Counter(), 0, threading.Event()
        self._lock = threading.Lock()

    def __call__(self, one: socket.socket, seen: Seen) -> None:
        if seen.number >= self.n and not self.free.is_set():
            with self._lock:
                self.held += 1
            self.free.wait(30)
            return
        echo(one, seen)
        with self._lock:
            self.answered[seen.json["n"]] += 1


@pytest.mark.parametrize(("n_answered", "concurrency"), [(0, 1), (1, 1), (37, 1), (37, 4), (60, 8)])
def test_after_a_kill_no_answered_request_is_sent_again(order, tmp_path, n_answered, concurrency):
    """Killed when all workers wait for an answer: whatever was answered must be in the journal by then."""
    stall, path = Stall(n_answered), tmp_path / "answers.sqlite"
    with RawServer(answer=stall) as server:
        with killed(order, server.url, str(path), 80, concurrency):
            wait_until(lambda: stall.held == concurrency)
        assert sum(stall.answered.values()) == n_answered
        stall.free.set()
        with Journal(path, KEY) as kept, client_of(server, kept) as client:
            assert kept.count == n_answered
            assert client.ask(requests(80)) == list(range(80))
    assert stall.answered == dict.fromkeys(range(80), 1)


def test_after_kills_at_any_moment_only_what_was_being_read_is_sent_again(order, tmp_path):
    path, concurrency, kills = tmp_path / "answers.sqlite", 3, (1, 40, 43, 99)
    with RawServer(answer=echo) as server:
        for n_seen in kills:
            with killed(order, server.url, str(path), 150, concurrency):
                wait_until(lambda n_seen=n_seen: len(server.seen) >= n_seen)
        with Journal(path, KEY) as kept, client_of(server, kept) as client:
            assert kept.count > 0
            assert client.ask(requests(150)) == list(range(150))
    assert set(asked(server)) == set(range(150))
    assert sum(asked(server).values()) - 150 <= len(kills) * concurrency


def test_an_interrupt_ends_it_at_once_and_loses_nothing(order, tmp_path):
    stall, path = Stall(25), tmp_path / "answers.sqlite"
    with RawServer(answer=stall) as server:
        process = order([server.url, str(path), 80, 4])
        wait_until(lambda: stall.held == 4)
        start = time.monotonic()
        os.kill(process, signal.SIGINT)
        assert order(process) == 2
        assert time.monotonic() - start < 2
        with Journal(path, KEY) as kept:
            assert kept.count == 25
        stall.free.set()


def test_an_interrupt_at_any_moment_of_opening_and_closing_ends_the_program():
    program = "\n".join(
        [
            "import signal, sys, threading, os, time",
            "from canary_audit.config import EndpointConfig",
            "from canary_audit.endpoints.address import parse_address",
            "from canary_audit.endpoints.budget import Budget",
            "from canary_audit.endpoints.client import Client",
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))",
            "after = float(sys.argv[1])",
            "strike = lambda: (time.sleep(after), os.kill(os.getpid(), signal.SIGTERM))",
            "threading.Thread(target=strike, daemon=True).start()",
            "while True:",
            "    with Client(parse_address('http://127.0.0.1:9'), None, EndpointConfig(), None, Budget(None, None)):",
            "        pass",
        ]
    )
    for after in (0.001, 0.01, 0.05, 0.1, 0.2, 0.3):
        ended = subprocess.run([sys.executable, "-c", program, str(after)], timeout=30, capture_output=True)
        assert ended.returncode == 143, ended.stderr
