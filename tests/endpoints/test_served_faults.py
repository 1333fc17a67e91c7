"""Whatever is wrong with an endpoint: no audit passes it, none hangs, and none repeats its key.

The same audit passes the same model behind a server that is well, so a verdict other than PASS says something here.
"""

import functools
import logging
import sqlite3
import time
import zlib
from contextlib import closing
from dataclasses import dataclass

import pytest
from audited_world import audit, make_world
from simulated import FAULTS, SHAPES, faults_of, simulated_server

from canary_audit.config import EndpointConfig
from canary_audit.endpoints import connection
from canary_audit.errors import CanaryAuditError
from canary_audit.report import render
from canary_audit.results import AuditResult

API_KEY = "sk-Zq7-simulated-0451"
LAST_REQUESTS = 24
"""As many before the end of an audit a late fault begins: the probe is long over, the last look is still to come."""
ENDLESS = {"never-answers", "body-dripping", "headers-dripping", "headers-endless", "promises-endless", "body-endless"}
DEADLINE_SECONDS = 0.5
"""For endless answers; others have longer, so that a busy machine is no fault."""
SLACK_SECONDS = 60.0
"""A whole audit on a busy machine; a hang would last until the test is killed."""
CHEAPEST = ("vllm", "sglang", "chat", "openai", "llamacpp")
"""By the requests that an audit takes."""
QUICK = [
    (shapes[place % min(len(shapes), len(shapes) if fault.expected == "error" and fault.from_start else 2)], fault)
    for place, fault in enumerate(FAULTS.values())
    if (shapes := [shape for shape in CHEAPEST if shape in fault.shapes])
]
"""Every fault once, spread over the APIs that can have it; where the audit goes on to its end, over the cheapest."""
EVERY = [(shape, fault) for shape in SHAPES for fault in faults_of(shape)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an audit ended, and all that was said and kept on the way."""

    result: AuditResult | None
    error: CanaryAuditError | None
    seconds: float
    said: str


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def clean(world):
    """Shape -> result of the audit of a server that is well."""

    @functools.cache
    def of(shape):
        with simulated_server(world.model, shape) as server:
            return audit(world, server.url, shape)

    return of


@pytest.fixture
def attempt(world, tmp_path, monkeypatch, caplog, capfd):
    """Audit a server with a fault, and keep everything that is said."""
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("SIMULATED_KEY", API_KEY)
    caplog.set_level(logging.DEBUG)

    def run(shape, fault, good_requests):
        deadline = DEADLINE_SECONDS if fault.name in ENDLESS else SLACK_SECONDS
        settings = EndpointConfig(concurrency=4, held_out_rows=4, tries=3, deadline_seconds=deadline)
        journal, result, error, said = tmp_path / "answers.sqlite", None, None, []
        begun = time.monotonic()
        with simulated_server(world.model, shape, fault=fault, good_requests=good_requests, api_key=API_KEY) as server:
            try:
                result = audit(
                    world, server.url, shape, settings=settings, journal=journal, api_key="env:SIMULATED_KEY"
                )
            except CanaryAuditError as raised:
                error = raised
            seconds = time.monotonic() - begun
        if result is None:
            said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        else:
            said += [repr(result), *(render(result, form) for form in ("json", "html", "markdown"))]
        said += [*capfd.readouterr(), caplog.text, *kept_in(journal)]
        return Outcome(result=result, error=error, seconds=seconds, said="\n".join(said))

    return run


def kept_in(journal):
    """What a journal holds, as it lies on the disk and unpacked."""
    if journal.exists():
        yield journal.read_bytes().decode("latin-1")
        with closing(sqlite3.connect(journal)) as rows:
            for (body,) in rows.execute("SELECT body FROM answers"):
                yield zlib.decompress(body).decode("utf-8", errors="replace")


def measured(result):
    """All that an audit found out about the model, and how it judged it; servers draw at random, so what the draws
    cost is left out."""
    parts = ("verdict", "reasons", "language", "groups", "levels", "canaries", "null", "epsilon", "positive_control")
    return [result.model.tier, *(getattr(result, part) for part in parts)]


def require_harmless(outcome, fault, clean_result):
    """An error, the very result of a server that is well, or one that does not pass."""
    assert API_KEY not in outcome.said
    assert outcome.seconds < SLACK_SECONDS
    if fault.expected == "recovers":
        assert outcome.result is not None, outcome.error
    if outcome.result is not None and (fault.expected == "recovers" or outcome.result.verdict == "PASS"):
        assert measured(outcome.result) == measured(clean_result())


def cases(pairs):
    return [pytest.param(shape, fault, id=f"{shape}-{fault}") for shape, fault in pairs]


@pytest.mark.parametrize(
    "shape",
    [
        "vllm",
        "sglang",
        pytest.param("llamacpp", marks=pytest.mark.slow),
        pytest.param("openai", marks=pytest.mark.slow),
    ],
)
def test_the_same_model_behind_a_server_that_is_well_passes(clean, shape):
    result = clean(shape)
    assert (result.verdict, [reason.code for reason in result.reasons]) == ("PASS", ["no-leak"])


def test_chat_shows_too_little_to_pass_and_all_else_is_well(clean):
    result = clean("chat")
    assert [reason.code for reason in result.reasons] == ["language-not-measured"]
    assert all(canary.exposure.exact for canary in result.canaries)


def test_the_quick_form_holds_every_fault():
    assert len({fault.name for _, fault in QUICK}) == len(QUICK) == len(FAULTS) >= 30


@pytest.mark.parametrize(("shape", "fault"), cases((s, f) for s, f in QUICK if f.from_start))
def test_a_fault_never_passes(attempt, clean, shape, fault):
    outcome = attempt(shape, fault, 0)
    require_harmless(outcome, fault, lambda: clean(shape))
    assert fault.name not in ENDLESS or outcome.seconds < 10


@pytest.mark.parametrize(("shape", "fault"), cases((s, f) for s, f in QUICK if not f.from_start))
def test_a_server_that_changes_late_never_passes(attempt, clean, shape, fault):
    require_harmless(attempt(shape, fault, clean(shape).calls - LAST_REQUESTS), fault, lambda: clean(shape))


@pytest.mark.nightly
@pytest.mark.parametrize(("shape", "fault"), cases((s, f) for s, f in EVERY if f.from_start))
def test_no_fault_of_any_api_passes(attempt, clean, shape, fault):
    require_harmless(attempt(shape, fault, 0), fault, lambda: clean(shape))


@pytest.mark.nightly
@pytest.mark.parametrize(("shape", "fault"), cases(EVERY))
def test_no_late_fault_of_any_api_passes(attempt, clean, shape, fault):
    require_harmless(attempt(shape, fault, clean(shape).calls - LAST_REQUESTS), fault, lambda: clean(shape))
