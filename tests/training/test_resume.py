import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import resume_program
from safetensors import safe_open
from tiny_training import CONTEXT, TinyNetwork, sentences, tiny_tokenizer

from canary_audit.config import TrainingConfig
from canary_audit.errors import RunError
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import pack_documents

TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences()[:64], TOKENIZER, CONTEXT)
CONFIG = TrainingConfig(epochs=2, batch_size=8, checkpoint_every_steps=2, dropout=0.2)
SOME_STEPS = 5


class InterruptedTrainingError(Exception):
    """Stands for whatever ends a process."""


def interrupted(step, _n_steps):
    if step == SOME_STEPS:
        raise InterruptedTrainingError


def run(folder, *, config=CONFIG, rows=ROWS, network_seed=1, seed=1, on_step=None):
    network = TinyNetwork(len(TOKENIZER), dropout=0.2, seed=network_seed)
    done = train(network, rows, Recipe(training=config, seed=seed), checkpoint_dir=folder, on_step=on_step)
    return weights_sha256(network), done


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    with pytest.raises(InterruptedTrainingError):
        run(folder, on_step=interrupted)
    return folder


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What `resume_program` prints, run under a hash seed of its own."""
    program = Path(__file__).with_name("resume_program.py")
    package = Path(__file__).parents[2]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, program, tmp_path_factory.mktemp("resume")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("way", resume_program.WAYS)
def test_kill_9_at_many_moments_changes_no_bit(outcome, way):
    assert all(outcome[way]["equal"])
    assert all(outcome[way]["kills"])
    assert outcome[way]["kills"][-1] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("way", resume_program.WAYS)
def test_another_process_and_hash_seed_give_the_same_weights(outcome, way):
    here = resume_program.trained(way, None, None)
    assert here == {"weights": outcome[way]["weights"], "epochs": outcome[way]["epochs"]}


def test_a_checkpoint_of_adapters_holds_them_alone(tmp_path):
    resume_program.trained("llama-lora", tmp_path, None)
    [file] = tmp_path.glob("*.safetensors")
    with safe_open(file, framework="pt") as tensors:
        weights = [name for name in tensors.keys() if name.startswith("network/")]  # noqa: SIM118 - not a mapping
    assert sum("lora_" in name for name in weights) == 2 * 7
    assert not any(name.endswith("base_layer.weight") or "lm_head" in name for name in weights)


def test_a_resumed_training_repeats_no_saved_step(checkpoint):
    steps = []
    resumed, done = run(checkpoint, on_step=lambda step, n_steps: steps.append((step, n_steps)))
    last_saved = SOME_STEPS // CONFIG.checkpoint_every_steps * CONFIG.checkpoint_every_steps
    assert steps == [(step, done.steps) for step in range(last_saved + 1, done.steps + 1)]
    assert resumed == run(None)[0]


def test_a_finished_training_is_not_taught_again(tmp_path):
    first = run(tmp_path / "checkpoint")
    steps = []
    assert run(tmp_path / "checkpoint", on_step=lambda *step: steps.append(step)) == first
    assert steps == []


def test_only_the_latest_checkpoint_is_kept_without_pickle(checkpoint):
    names = sorted(path.name for path in checkpoint.iterdir())
    assert names[0] == "checkpoint.json"
    assert re.fullmatch(r"step-00000004-[0-9a-f]{8}\.safetensors", *names[1:])
    run(checkpoint)
    assert len(list(checkpoint.iterdir())) == 2


def test_any_flipped_byte_is_noticed(checkpoint):
    for path in list(checkpoint.iterdir()):
        intact = path.read_bytes()
        for place in range(0, len(intact), max(1, len(intact) // 25)):
            damaged = bytearray(intact)
            damaged[place] ^= 1
            path.write_bytes(damaged)
            if path.suffix == ".json" and json_value(bytes(damaged)) == json_value(intact):
                continue
            with pytest.raises(RunError, match="damaged"):
                run(checkpoint)
        path.write_bytes(intact)
    assert run(checkpoint)[0] == run(None)[0]


def json_value(content):
    try:
        return json.loads(content)
    except ValueError:
        return content


def test_a_missing_tensor_file_is_noticed(checkpoint):
    next(checkpoint.glob("*.safetensors")).unlink()
    with pytest.raises(RunError, match="damaged"):
        run(checkpoint)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"network_seed": 2},
        {"config": CONFIG.model_copy(update={"learning_rate": 1e-3})},
        {"rows": ROWS.select(ROWS.lengths.argsort()[::-1])},
    ],
    ids=["seed", "weights", "config", "data"],
)
def test_a_checkpoint_of_another_training_is_refused(checkpoint, other):
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with pytest.raises(RunError, match="belongs to another training"):
        run(checkpoint, **other)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
