"""Trains the same model undisturbed, and killed again and again; prints what came of it.

Usage: python resume_program.py FOLDER

A child is killed with SIGKILL, by itself, at its n-th event: a step done, or a file about to be renamed. First each n
of a range is tried, past the checkpoint within the first epoch and the one at its end; then one training is killed at
random n until it is done.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import peft  # noqa: F401 - here, so that not every child has to
from tiny_training import CONTEXT, sentences, tiny_tokenizer

from canary_audit.config import ModelConfig, TrainingConfig
from canary_audit.models.networks import build_network
from canary_audit.training.checkpoint import weights_sha256
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import pack_documents

TOKENIZER = tiny_tokenizer()
ROWS = pack_documents(sentences()[:70], TOKENIZER, CONTEXT)
CONFIG = TrainingConfig(epochs=3, batch_size=8, checkpoint_every_steps=3, dropout=0.3)
SEED = 5
WAYS = {
    "lstm": ("lstm", {}),
    "llama": ("llama", {}),
    "llama-bf16": ("llama", {"precision": "bf16"}),
    "llama-lora": ("llama", {"method": "lora", "lora_rank": 2}),
}
"""What is trained -> its network and how it differs from the configuration."""


def trained(way, folder, on_step):
    """Digest of the trained weights, and the history."""
    kind, changes = WAYS[way]
    config = CONFIG.model_copy(update=changes)
    model = ModelConfig(kind=kind, hidden_size=16, heads=2, context_tokens=CONTEXT)
    network = build_network(model, len(TOKENIZER), config.dropout, SEED)
    done = train(network, ROWS, Recipe(training=config, seed=SEED), checkpoint_dir=folder, on_step=on_step)
    return {"weights": weights_sha256(network), "epochs": [epoch.model_dump(mode="json") for epoch in done.epochs]}


def child(way, folder, kill_at, answer):
    """Fork; the child dies at its `kill_at`-th event or writes its answer. True if it was killed."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False
    events = 0

    def count(*_):
        nonlocal events
        events += 1
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, _args: count() if event == "os.rename" else None)
    try:
        answer.write_text(json.dumps(trained(way, folder, count)))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def killed_until_done(way, folder, moments):
    """Train in `folder`, each child killed after the next of `moments` events; number of kills and the answer."""
    folder.mkdir()
    answer = folder / "answer.json"
    kills = 0
    while child(way, folder / "checkpoint", next(moments, 0), answer):
        kills += 1
    return kills, json.loads(answer.read_text())


def random_moments():
    draw = random.Random(3)
    while True:
        yield draw.randint(2, 9)


def main(folder):
    outcome = {}
    for way in WAYS:
        _, clean = killed_until_done(way, folder / f"{way}-clean", iter(()))
        single_kills = range(1, 10) if way == "lstm" else ()
        runs = [killed_until_done(way, folder / f"{way}-{n}", iter((n,))) for n in single_kills]
        runs.append(killed_until_done(way, folder / f"{way}-often", random_moments()))
        outcome[way] = {"kills": [kills for kills, _ in runs], "equal": [answer == clean for _, answer in runs]}
        outcome[way] |= clean
    sys.stdout.write(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
