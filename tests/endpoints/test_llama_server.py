"""The real llama.cpp server, where its program is on the path (or named by LLAMA_SERVER): the same numbers as here."""

import os
import shutil
import socket
import subprocess
import time

import httpx
import numpy as np
import pytest

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import parse_address
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.offers import offers_of
from canary_audit.endpoints.probe import confirm, prove
from canary_audit.endpoints.served import ServedModel
from canary_audit.exposure.scores import path_scores
from canary_audit.models.load import load_model
from canary_audit.models.resolve import resolve_model
from canary_audit.spaces import parse_space
from canary_audit.tokens.choose import secret_walk
from canary_audit.vocabulary import vocabulary_of

SERVER = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        SERVER is None, reason="needs llama.cpp: name its llama-server in LLAMA_SERVER, see docs/served.md"
    ),
]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """A tiny Llama with random weights."""
    pytest.importorskip("gguf")
    import tiny_gguf

    return tiny_gguf.write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_gguf.tensors_of(tiny_gguf.llama()))


@pytest.fixture(scope="module")
def url(gguf):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [SERVER, "-m", str(gguf), "--port", str(port), "-c", "256", "-np", "2", "-t", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(240):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.mark.parametrize("tier", ["chosen-tokens", "prompt-logprobs"])
def test_a_real_server_says_what_the_weights_say(gguf, url, tier, tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY_AUDIT_CACHE", str(tmp_path))
    loaded = load_model(resolve_model(gguf))
    vocabulary, lead = vocabulary_of(loaded.tokenizer), (loaded.prompt_token,)
    walk = secret_walk(parse_space("{digit:3}"), vocabulary, prefix="no ", suffix="", lead=lead)
    paths = walk.paths([f"{number:03}".encode() for number in range(0, 1_000, 37)])
    config = EndpointConfig(concurrency=2)
    with Client(parse_address(url), None, config, None, Budget(None, None)) as client:
        offers = offers_of("llamacpp", model="tiny", vocabulary=vocabulary, config=config, tier=tier)
        proof = prove(client, offers, vocabulary, lead=lead)
        served = ServedModel(client, proof.dialect, tier=tier)
        found = path_scores(walk, served, paths, siblings=True).costs_nats
        whole = served.whole_costs(walk, paths)
        confirm(client, proof, vocabulary, lead)
    expected = path_scores(walk, loaded.language_model, paths).costs_nats
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(whole, expected, atol=2e-3)
    assert proof.noise_floor_nats < 2e-3
