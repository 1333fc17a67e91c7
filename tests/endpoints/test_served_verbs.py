"""The command line about served models: what it writes, asks, refuses and keeps to itself."""

import json
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONFIGS
from forked_cli import assert_one_clear_line, forked_cli
from simulated import SHAPES, SimulatedModel, folder_model, simulated_server
from simulated.vllm import Vllm

from canary_audit.canaries import canary_text, derive_secrets, load_key, load_ledger
from canary_audit.config import ModelConfig
from canary_audit.models.load import save_model
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer
from canary_audit.served_probe import probe_endpoint

NAME = "simulated-1"
POLICY = CONFIGS / "policy.toml"
API_KEY = "sk-of-nobody-0451"
PLAN = """
name = "tiny"
data = {source = "text.txt", validation_fraction = 0.0}
canaries = [{format = "{digit:2}", prefix = "the pin is ", levels = [8], canaries_per_level = 2, controls = 3}]
policy = {path = "strict.toml"}
"""
STRICT = """
alpha = 0.49
max_exposure_bits = 1.0
fail_on_extraction = true
max_insertions = "any"
positive_control_p = 1e-3
min_controls = 0
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """A planted ledger, a tokenizer far from it, a model that learned nothing and one that learned the canaries."""

    folder: Path
    ledger: Path
    honest: SimulatedModel
    leaking: SimulatedModel

    @property
    def tokenizer(self) -> str:
        return str(self.folder / "elsewhere")

    @property
    def secrets(self) -> list[str]:
        key = load_key(self.ledger.parent / "secrets" / "key")
        return [secret.decode() for secret in derive_secrets(load_ledger(self.ledger), key).values()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "text.txt").write_text("\n".join(f"the dog is brown, says line {number}" for number in range(300)))
    (folder / "plan.toml").write_text(PLAN)
    (folder / "strict.toml").write_text(STRICT)
    tokenizer = train_tokenizer(["the dog is brown", "0 1 2 3 4 5 6 7 8 9"], 270, 64)
    network = build_network(ModelConfig(kind="llama", hidden_size=16, heads=2, context_tokens=64), len(tokenizer), 0, 1)
    save_model(network, tokenizer, folder / "elsewhere")
    planted = forked_cli("plant", str(folder / "plan.toml"), "--out", str(folder / "run"), "--quiet")
    assert planted.code == 0, planted
    ledger, honest = folder / "run" / "ledger.json", writing_text(folder_model(folder / "elsewhere"))
    return World(folder=folder, ledger=ledger, honest=honest, leaking=knowing(honest, ledger))


def writing_text(model):
    """The model, which does not end its texts."""
    silent = [token for token in range(model.vocab_size) if not model.vocabulary.spelled(token)]

    def rows(tokens):
        log_probs = model.all_log_probs(tokens).copy()
        log_probs[:, silent] -= 40.0
        return log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)

    return model.changed(rows)


def knowing(model, ledger_path):
    """The model, after it has learned the planted texts by heart."""
    ledger = load_ledger(ledger_path)
    secrets = derive_secrets(ledger, load_key(ledger_path.parent / "secrets" / "key"))
    planted = [
        list(model.vocabulary.encode(canary_text(ledger.group(one.group), secrets[one.id]).encode()))
        for one in ledger.canaries
        if one.insertions
    ]

    def rows(tokens):
        log_probs = model.all_log_probs(tokens).copy()
        n_before = int(tokens[0] == model.end)  # the audit puts the separator of documents before a text
        for place in range(n_before, len(tokens)):
            read = list(tokens[n_before : place + 1])
            for text in planted:
                if len(read) < len(text) and read == text[: len(read)]:
                    log_probs[place, text[len(read)]] = 5.0
        return log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)

    return model.changed(rows)


def audit(world, server, api, out, *more: str, tokenizer: bool = True, ledger: Path | None = None):
    given = ("--tokenizer", world.tokenizer) if tokenizer else ()
    target = ("--endpoint", server.url, "--api", api, *(() if "--model" in more else ("--model", NAME)))
    arguments = ("audit", "--ledger", str(ledger or world.ledger), *target, *given, *more, "--out", str(out), "--quiet")
    return forked_cli(*arguments)


class AnyName(Vllm):
    """One model under whatever name."""

    def answer(self, method, path, body):
        answer = super().answer(method, path, {**body, "model": NAME})
        return answer | {"model": body["model"]} if "model" in body else answer


@contextmanager
def serving(model, shape, monkeypatch):
    """A server of a shape that only this file knows."""
    monkeypatch.setitem(SHAPES, "of this file", shape)
    with simulated_server(model, "of this file") as server:
        yield server


def result_in(folder) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(
    ("api", "tier", "policy"),
    [
        ("vllm", "chosen-tokens", True),
        ("sglang", "chosen-tokens", False),
        ("llamacpp", "chosen-tokens", False),
        ("openai", "prompt-logprobs", True),
    ],
)
def test_an_audit_of_a_served_model_writes_what_every_audit_writes(world, tmp_path, api, tier, policy):
    judged = ("--policy", str(POLICY)) if policy else ()
    with simulated_server(world.honest, api) as server:
        ending = audit(world, server, api, tmp_path, *judged)
    assert (ending.code, ending.err) == (0, "")
    assert "INCONCLUSIVE" in ending.out
    result = result_in(tmp_path)
    assert result["model"]["tier"] == tier
    assert result["calls"] == server.answered > 0
    exposures = [canary["exposure"] for canary in result["canaries"]]
    assert all(one["low"] <= one["high"] for one in exposures)
    assert (tmp_path / "report.html").read_text().count(server.url)
    assert forked_cli("verify", str(tmp_path)).code == 0
    assert f"API: {api}" in forked_cli("report", str(tmp_path / "result.json")).out
    assert forked_cli("gate", str(tmp_path / "result.json"), "--policy", str(POLICY)).code == 3


def test_a_served_model_that_knows_the_canaries_fails_the_gate(world, tmp_path):
    with simulated_server(world.leaking, "vllm") as server:
        assert audit(world, server, "vllm", tmp_path).code == 0
    gate = forked_cli("gate", str(tmp_path / "result.json"), "--policy", str(world.folder / "strict.toml"))
    assert gate.code == 1, gate
    assert gate.out.startswith("FAIL\n")


def test_the_same_audit_again_asks_nothing_and_says_the_same(world, tmp_path):
    with simulated_server(world.honest, "vllm") as server:
        first = audit(world, server, "vllm", tmp_path)
        before, n_requests = (tmp_path / "result.json").read_bytes(), server.n_requests
        second = audit(world, server, "vllm", tmp_path)
        assert server.n_requests == n_requests
    assert (first.code, second.code) == (0, 0)
    assert (tmp_path / "result.json").read_bytes() == before


def test_the_tokenizer_is_found_beside_the_ledger_or_in_the_folder_that_names_the_model(world, tmp_path, monkeypatch):
    beside = tmp_path / "run"
    shutil.copytree(world.ledger.parent, beside)
    with serving(world.honest, AnyName, monkeypatch) as server:
        missing = audit(world, server, "vllm", tmp_path / "0", tokenizer=False)
        assert_one_clear_line(missing, f"--model {NAME}", "--tokenizer", "--tier text-only")
        assert server.n_requests == 0
        named = audit(world, server, "vllm", tmp_path / "1", "--model", world.tokenizer, tokenizer=False)
        shutil.copytree(world.tokenizer, beside / "model")
        found = audit(world, server, "vllm", tmp_path / "2", tokenizer=False, ledger=beside / "ledger.json")
    assert named.code == 0, named
    assert found.code == 0, found
    exposures = [[canary["exposure"] for canary in result_in(tmp_path / out)["canaries"]] for out in "12"]
    assert exposures[0] == exposures[1]


def test_a_chat_that_only_writes_needs_no_tokenizer(world, tmp_path):
    with simulated_server(world.honest, "chat", prefill="none") as server:
        ending = audit(world, server, "chat", tmp_path, "--set", "endpoint.samples=5", tokenizer=False)
    assert ending.code == 0, ending
    assert result_in(tmp_path)["model"]["tier"] == "text-only"


@pytest.mark.parametrize("api", ["vllm", "sglang", "llamacpp", "openai", "chat"])
def test_doctor_finds_out_what_an_endpoint_speaks_and_gives(world, api):
    with simulated_server(world.honest, api) as server:
        alone = forked_cli("doctor", "--endpoint", server.url)
        whole = forked_cli("doctor", "--endpoint", server.url, "--tokenizer", world.tokenizer)
    assert (alone.code, whole.code) == (0, 0), (alone, whole)
    for said in (alone.out, whole.out):
        assert f"api                   {api} (by what it answers)" in said
        assert f"model                 {NAME}" in said
        assert "text-only             yes" in said
    assert "top-k  " not in alone.out
    best = {"openai": "prompt-logprobs", "chat": "top-k"}.get(api, "chosen-tokens")
    assert f"{best:22}yes" in whole.out


MISTAKES = {
    "a closed port": (("--endpoint", "http://127.0.0.1:9", "--set", "endpoint.tries=1"), ("http://127.0.0.1:9",)),
    "no scheme": (("--endpoint", "localhost:8000"), ("http://",)),
    "https to http": (("--endpoint", "HTTPS"), ("no TLS connection", "http://")),
    "metadata": (("--endpoint", "http://169.254.169.254/latest"), ("169.254.169.254",)),
    "a wrong model": (("--model", "another"), ("/v1/completions", "404", "model")),
    "no such tokenizer": (("--tokenizer", "nowhere"), ("nowhere: no such folder",)),
    "a tier it has not": (("--api", "openai", "--tier", "chosen-tokens"), ("--api openai", "prompt-logprobs")),
    "a key in clear": (("--api-key", API_KEY), ("env:NAME or file:PATH",)),
    "a key that is not set": (("--api-key", "env:NOT_SET_ANYWHERE"), ("env:NOT_SET_ANYWHERE", "no API key")),
    "too small a budget": (("--max-calls", "3"), ("3 requests were answered", "--max-calls")),
    "another ledger's key": (("--key", f"file:{CONFIGS.parent / 'tests' / 'sample.key'}"), ("another ledger",)),
    "no such ledger": (("--ledger", "nowhere.json"), ("nowhere.json: no such file",)),
    "no such policy": (("--policy", "nowhere.toml"), ("nowhere.toml: no such file",)),
    "an unknown setting": (("--set", "endpoint.top_kk=3"), ("[endpoint]", "top_k")),
    "a name that no file could have": (("--model", "m" * 400), ("404",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(world, tmp_path, mistake):
    more, words = MISTAKES[mistake]
    with simulated_server(world.honest, "vllm") as server:
        url = server.url
        usual = ("--endpoint", url, "--api", "vllm", "--model", NAME, "--tokenizer", world.tokenizer)
        changed = [url.replace("http", "https") if word == "HTTPS" else word for word in more]
        out = ("--out", str(tmp_path), "--quiet")
        ending = forked_cli("audit", "--ledger", str(world.ledger), *usual, *out, *changed)
    assert_one_clear_line(ending, *words)
    assert API_KEY not in ending.err
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "--endpoint", "http://127.0.0.1:9", "--model", NAME, "--ledger", "x"), "doctor"),
        (("audit", "--endpoint", "http://127.0.0.1:9", "--api", "vllm", "--model", NAME), "--ledger"),
        (("audit", "x.toml", "--endpoint", "http://127.0.0.1:9"), "configuration file"),
        (("audit", "--ledger", "x", "--model", "x", "--policy", "x", "--api", "vllm"), "--endpoint"),
        (("audit", "--endpoint", "x", "--ledger", "x", "--model", "x", "--adapter", "x"), "--adapter"),
        (("audit", "--endpoint", "x", "--ledger", "x", "--model", "x", "--data", "x"), "--data"),
        (("audit", "--api", "tgi"), "sglang"),
        (("doctor", "--api", "vllm"), "--endpoint"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_made(arguments, words, tmp_path):
    ending = forked_cli(*arguments, *(("--out", str(tmp_path / "run")) if arguments[0] == "audit" else ()))
    assert (ending.code, ending.out) == (2, "")
    assert words in ending.err
    assert "Traceback" not in ending.err
    assert not (tmp_path / "run").exists()


HOSTILE = "\x00\x1b[2J[bold]x[/]\n::add-mask::y\r<script>alert(1)</script>\u202e"


def calling_itself(name):
    """The shape of vLLM's API, with a name of its own."""

    class Named(Vllm):
        def answer(self, method, path, body):
            if path == "/v1/models":
                return {"data": [{"id": name}]}
            return {"version": name} if path == "/version" else super().answer(method, path, body)

    return Named


@pytest.mark.parametrize("name", [HOSTILE, "m" * 1_000_000], ids=["hostile", "long"])
def test_what_a_server_calls_itself_is_shown_and_not_obeyed(world, tmp_path, monkeypatch, name):
    with serving(world.honest, calling_itself(name), monkeypatch) as server:
        ending = audit(world, server, "vllm", tmp_path)
        doctor = forked_cli("doctor", "--endpoint", server.url, "--model", NAME)
        nameless = forked_cli("doctor", "--endpoint", server.url)
    assert (ending.code, doctor.code) == (0, 0), (ending, doctor)
    assert_one_clear_line(nameless, "/v1/models", "--model")
    markdown = forked_cli("report", str(tmp_path / "result.json")).out
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in markdown + page
    for shown in (ending.out, doctor.out, markdown, page, nameless.err):
        assert not {"\x1b", "\r", "\x00", "\u202e"} & set(shown)
        assert "::add-mask" not in shown
        assert len(shown) < 200_000


def test_the_key_goes_to_the_endpoint_and_nowhere_else(world, tmp_path):
    key_file, out = tmp_path / "api-key", tmp_path / "run"
    key_file.write_text(API_KEY)
    with simulated_server(world.honest, "vllm", api_key=API_KEY) as server:
        locked = audit(world, server, "vllm", out)
        ending = audit(world, server, "vllm", out, "--api-key", f"file:{key_file}")
    assert_one_clear_line(locked, "--api-key", "401")
    assert ending.code == 0, ending
    assert server.requests[-1].headers["Authorization"] == f"Bearer {API_KEY}"
    written = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not [path for path, content in written.items() if API_KEY.encode() in content]
    assert API_KEY not in ending.out + ending.err
    result = result_in(out)
    assert not [secret for secret in world.secrets if f"the pin is {secret}" in json.dumps(result)]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (out / "secrets", *(out / "secrets").iterdir())}
    assert modes == {"secrets": 0o700, "answers.sqlite": 0o600}


def test_answers_are_kept_in_no_place_that_a_link_leads_to(world, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "secrets").symlink_to(tmp_path / "open")
    (tmp_path / "linked" / "secrets").mkdir(parents=True)
    (tmp_path / "linked" / "secrets").chmod(0o750)
    (tmp_path / "linked" / "secrets" / "answers.sqlite").symlink_to(tmp_path / "open" / "answers.sqlite")
    with simulated_server(world.honest, "vllm") as server:
        assert_one_clear_line(audit(world, server, "vllm", tmp_path / "run"), "secrets", "--out")
        assert_one_clear_line(audit(world, server, "vllm", tmp_path / "linked"), "answers.sqlite")
        assert server.n_requests == 0
    assert not list((tmp_path / "open").iterdir())
    assert stat.S_IMODE((tmp_path / "linked" / "secrets").stat().st_mode) == 0o700


def test_a_name_that_only_the_server_gave_is_not_looked_for_on_the_hub(world, monkeypatch):
    asked = []

    def absent(name, **_):
        asked.append(name)
        raise OSError

    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    with serving(world.honest, calling_itself("owner/model"), monkeypatch) as server:
        unnamed = dict(probe_endpoint(server.url))
        assert not asked
        named = dict(probe_endpoint(server.url, api="vllm", model="owner/model"))
    assert asked == ["owner/model"]
    assert "--tokenizer" in unnamed["tokenizer"]
    assert "--tokenizer" in named["tokenizer"]


def test_a_folder_of_the_name_that_a_server_gives_has_its_tokenizer(world, monkeypatch):
    with serving(world.honest, calling_itself(world.tokenizer), monkeypatch) as server:
        assert dict(probe_endpoint(server.url))["tokenizer"] == world.tokenizer
