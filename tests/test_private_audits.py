"""What the project promises to show of differentially private training, on trained models."""

import json
import os
import subprocess
import sys

import pytest
from conftest import CONFIGS, SAMPLE_KEY, finished_run

from canary_audit.gate import judge
from canary_audit.report import render
from canary_audit.statistics.pvalues import uniform_ks_p_value


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """configs/private.toml: epsilon 1 for a row."""
    return finished_run("private", tmp_path_factory.mktemp("private") / "run", "training.track_exposure=false")


@pytest.mark.slow
def test_at_epsilon_one_every_level_is_at_chance(private):
    ranks = [2.0**-canary.exposure.bits for canary in private.result.canaries if canary.role == "level"]
    assert len(ranks) == 18
    assert uniform_ks_p_value(ranks) > 1e-3
    assert all(level.p_value > 1e-3 for level in private.result.levels)


@pytest.mark.slow
def test_an_audit_at_epsilon_one_passes_the_gate(private):
    epsilon = private.result.epsilon
    assert 0.97 < epsilon.accounted <= 1.0
    assert epsilon.lower_bound <= epsilon.accounted
    assert epsilon.ceiling > private.policy.table.max_epsilon, "the audit could have failed"
    verdict = judge(private.result, private.policy.table)
    assert verdict.name == "PASS"
    assert {reason.code for reason in verdict.reasons} == {"no-leak", "epsilon-within"}
    assert private.result.positive_control.status == "detected"
    assert private.result.language.learned


@pytest.mark.slow
def test_a_canary_planted_32_times_is_explained_by_group_privacy(tmp_path):
    run = finished_run(
        "epsilon",
        tmp_path / "run",
        "privacy.target_epsilon=5",
        "training.batch_size=32",
        "training.track_exposure=false",
        "training.epochs=4",
        "data.max_bytes=100_000",
        "canaries.1.coin_flips=100",
    )
    epsilon = run.result.epsilon
    assert epsilon.accounted <= 5.0
    assert epsilon.lower_bound <= epsilon.accounted
    assert "claim-refuted" not in {reason.code for reason in run.result.reasons}
    page = render(run.result, "html")
    assert "group privacy" in page
    assert "no promise" in page, "32 occurrences of epsilon 5 exclude nothing"


def user_corpus(path):
    """Sixty users who write ten lines each; a few lines name nobody."""
    lines = [
        {"text": f"user {user} wrote line {line} about the weather and the sea", "author": f"u{user}"}
        for line in range(10)
        for user in range(60)
    ]
    lines += [{"text": f"nobody in particular wrote this, number {line}"} for line in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_user_can_be_what_is_protected(tmp_path):
    user_corpus(tmp_path / "corpus.jsonl")
    run = finished_run(
        "smoke",
        tmp_path / "run",
        f'data.source="{tmp_path / "corpus.jsonl"}"',
        "data.user_field=author",
        "data.validation_fraction=0.1",
        "privacy.noise_multiplier=1.0",
        "privacy.unit=user",
        "training.batch_size=8",
        "training.epochs=1",
        "training.track_exposure=false",
    )
    accounting = run.result.epsilon.accounting
    n_canary_rows = run.result.training.presence.seen
    assert accounting.unit == "a user, of whom up to 64 tokens are kept"
    assert 60 + n_canary_rows <= accounting.n_units <= 60 + 20 + n_canary_rows
    assert accounting.sampling_rate == pytest.approx(8 / accounting.n_units)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    """Started by torchrun, as docs/privacy.md says; the same draws and noise, so the same losses but for rounding."""
    for n_processes in (1, 2):
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_processes)),
            *("--standalone", "-m", "canary_audit", "train", str(CONFIGS / "smoke.toml")),
            *("--out", str(tmp_path / str(n_processes)), "--key", f"file:{SAMPLE_KEY}", "--quiet"),
            *("--set", "privacy.noise_multiplier=0.8", "--set", "training.track_exposure=false"),
            *("--set", "training.epochs=1", "--set", "data.max_bytes=20_000"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("1", "2"))
    assert one["accounting"] == two["accounting"]
    assert one["training"]["steps"] == two["training"]["steps"]
    losses = [[epoch["training_bits_per_token"] for epoch in run["training"]["epochs"]] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
