"""An audit of a served model that is killed, interrupted or short of budget goes on where it stopped: no answer is paid
for twice, and the result is the same."""

import functools
import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import forked_cli
import pytest
from audited_world import KEY, POLICY, make_world
from simulated import SimulatedServer, simulated_server

from canary_audit.canaries import save_key

CONCURRENCY = 4
STRIKES = (10, 40, 80)
"""Requests that each life of an audit gets to send before it is struck; an audit needs about two hundred."""
BUDGET = 130
"""More than the probe and a look at each canary, and less than the audit would like."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A server, and how the command line is told to audit it."""

    server: SimulatedServer
    arguments: tuple[str, ...]

    def audit(self, out: Path, *more: str):
        """Run it, or go on with it."""
        return forked_cli.forked_cli(*self.arguments, "--out", str(out), *more, folder=out)

    def bodies(self) -> Counter[str]:
        """Requests that the server got, each with how often."""
        return Counter(f"{one.path} {json.dumps(one.body, sort_keys=True)}" for one in self.server.requests)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    save_key(folder / "secrets", KEY)
    policy = folder / "policy.toml"
    policy.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in policy_table().items()))
    return make_world(folder), policy


def policy_table():
    """Our policy as a TOML table; TOML has no null."""
    return {name: value for name, value in POLICY.table.model_dump(mode="json").items() if value is not None}


@pytest.fixture(scope="module")
def setting(files, request):
    world, policy = files
    api = getattr(request, "param", "vllm")
    with simulated_server(world.model, api) as server:
        arguments = (
            *("audit", "--ledger", world.ledger, "--model", "simulated-1", "--endpoint", server.url, "--api", api),
            *("--tokenizer", world.tokenizer, "--validation", world.validation, "--policy", policy, "--quiet"),
            *("--set", f"endpoint.concurrency={CONCURRENCY}", "--set", "endpoint.held_out_rows=4"),
        )
        yield Setting(server=server, arguments=tuple(map(str, arguments)))


@pytest.fixture(scope="module")
def undisturbed(setting, tmp_path_factory):
    """Further options -> result.json and requests of an audit that nothing befell."""

    @functools.cache
    def run(*more):
        out = tmp_path_factory.mktemp("undisturbed") / "run"
        setting.server.requests.clear()
        ending = setting.audit(out, *more)
        assert ending.code == 0, ending.err
        return (out / "result.json").read_bytes(), setting.bodies()

    return run


def n_kept(out):
    """Answers in the journal of a run directory."""
    file = out / "secrets" / "answers.sqlite"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as rows:
        return rows.execute("SELECT count(*) FROM answers").fetchone()[0]


def child_of_server():
    """Process of the command line that runs now, if one does."""
    server = forked_cli._server().pid
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return int(children[0]) if children else None


@contextmanager
def struck(setting, n_requests, name):
    """Send a signal to the audit that runs within, once it has sent so many requests."""
    due, over = setting.server.n_requests + n_requests, threading.Event()

    def strike():
        while not over.wait(0.001):
            if setting.server.n_requests >= due and (pid := child_of_server()):
                os.kill(pid, signal.Signals[name])
                return

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def audit_through(setting, out, name, strikes, *more):
    """Strike the audit again and again, then let it end."""
    setting.server.requests.clear()
    kept = 0
    for n_requests in strikes:
        with struck(setting, n_requests, name):
            ending = setting.audit(out, *more)
        assert ending.code == {"SIGKILL": -9, "SIGINT": 130, "SIGTERM": 143}[name], ending.err
        assert not (out / "result.json").exists()
        assert n_kept(out) >= kept + n_requests - CONCURRENCY - 1, "answers were lost"
        kept = n_kept(out)
    ending = setting.audit(out, *more)
    assert ending.code == 0, ending.err


def require_nothing_twice(requests, clean, n_strikes):
    """Only what was under way when it was struck is asked again."""
    assert not clean - requests, "something was never asked"
    assert (requests - clean).total() <= CONCURRENCY * n_strikes


@pytest.mark.parametrize(
    "name",
    [
        "SIGKILL",
        pytest.param("SIGINT", marks=pytest.mark.nightly),
        pytest.param("SIGTERM", marks=pytest.mark.nightly),
    ],
)
def test_a_struck_audit_goes_on_where_it_stopped(setting, undisturbed, tmp_path, name):
    clean, clean_requests = undisturbed()
    audit_through(setting, tmp_path / "run", name, STRIKES)
    assert (tmp_path / "run" / "result.json").read_bytes() == clean
    require_nothing_twice(setting.bodies(), clean_requests, len(STRIKES))


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["sglang", "llamacpp", "openai", "chat"], indirect=True)
def test_so_it_does_through_every_api(setting, undisturbed, tmp_path):
    test_a_struck_audit_goes_on_where_it_stopped(setting, undisturbed, tmp_path, "SIGKILL")


def test_a_finished_audit_asks_nothing_again(setting, undisturbed, tmp_path):
    clean, _ = undisturbed()
    assert setting.audit(tmp_path / "run").code == 0
    setting.server.requests.clear()
    assert setting.audit(tmp_path / "run").code == 0
    assert setting.server.n_requests == 0
    assert (tmp_path / "run" / "result.json").read_bytes() == clean


def test_a_budget_holds_over_kills(setting, undisturbed, tmp_path):
    budget = ("--max-calls", str(BUDGET))
    clean, clean_requests = undisturbed(*budget)
    assert clean_requests.total() <= BUDGET
    assert json.loads(clean)["calls"] == clean_requests.total()
    audit_through(setting, tmp_path / "run", "SIGKILL", STRIKES[:2], *budget)
    assert (tmp_path / "run" / "result.json").read_bytes() == clean
    require_nothing_twice(setting.bodies(), clean_requests, 2)
    assert n_kept(tmp_path / "run") == clean_requests.total()


def test_a_spent_budget_goes_on_with_a_larger_one(setting, undisturbed, tmp_path):
    """What the small budget paid for is not paid for again."""
    clean, clean_requests = undisturbed("--max-calls", "1000")
    setting.server.requests.clear()
    ending = setting.audit(tmp_path / "run", "--max-calls", "60")
    assert (ending.code, setting.server.n_requests) == (2, 60)
    assert "--max-calls" in ending.err
    assert setting.audit(tmp_path / "run", "--max-calls", "1000").code == 0
    assert (tmp_path / "run" / "result.json").read_bytes() == clean
    assert setting.bodies() == clean_requests


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "SIGKILL",
        pytest.param("SIGINT", marks=pytest.mark.nightly),
        pytest.param("SIGTERM", marks=pytest.mark.nightly),
    ],
)
def test_an_audit_that_is_struck_twenty_times_ends_all_the_same(setting, undisturbed, tmp_path, name):
    clean, clean_requests = undisturbed()
    audit_through(setting, tmp_path / "run", name, [7] * 20)
    assert (tmp_path / "run" / "result.json").read_bytes() == clean
    require_nothing_twice(setting.bodies(), clean_requests, 20)
