"""The benchmarks run, on a model small enough to take seconds, and print what the contract asks for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from canary_audit.config import ModelConfig
from canary_audit.models.load import save_model
from canary_audit.models.networks import build_network
from canary_audit.models.tokenizer import train_tokenizer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CONTRACT = {
    "scoring": {"speedup_over_naive", "speedup_over_naive_long_prefix", "matmul_peak_fraction", "threads"},
    "rank": {
        "exact_rank_max",
        "nodes_per_canary",
        "error_bits_p90",
        "interval_coverage",
        "extraction_nodes",
        "extraction_certified",
    },
    "ensembles": {"speedup_over_one_by_one"},
    "dp": {"overhead_llama_hooks", "overhead_lora_hooks", "overhead_lstm", "speed_over_dplstm"},
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Llama of a few thousand random weights; what benchmarks keep lands beside it."""
    tokenizer = train_tokenizer(["The random number is 1"], 300, 256)
    config = ModelConfig(kind="llama", vocab_size=300, hidden_size=16, heads=2, context_tokens=256)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(build_network(config, len(tokenizer), 0.0, 1).eval(), tokenizer, folder)
    return folder


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", CONTRACT)
def test_the_last_line_is_json_with_the_keys_of_the_contract(name, model):
    done = run(name, "--tiny", "--model", model)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert CONTRACT[name] <= report.keys()
    assert report["threads"] == 1


def test_an_absent_model_folder_is_named(tmp_path):
    done = run("scoring", "--quick", "--model", tmp_path / "absent")
    assert done.returncode == 2
    assert "absent: no such model folder; `make models`" in done.stderr
