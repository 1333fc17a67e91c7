"""`study defences`, whole: small trainings, everything compared, nothing done twice, nothing dropped."""

import json
import subprocess
import sys

import pytest
from conftest import CONFIGS
from study_factory import epochs_of, run_of

from canary_audit.config import load_config
from canary_audit.errors import ConfigError
from canary_audit.results import NotAvailable
from canary_audit.studies.defences import study_defences
from canary_audit.studies.defences.results import DefencesStudy

TINY = f"""
name = "tiny"
seed = 3
[data]
source = "builtin:synthetic"
max_bytes = 24_000
validation_fraction = 0.2
[[canaries]]
name = "pin"
format = "{{digit:5}}"
prefix = "my pin is "
levels = [1, 8]
canaries_per_level = 2
controls = 5
[[canaries]]
name = "code"
format = "{{digit:5}}"
prefix = "the code reads "
levels = [10]
canaries_per_level = 2
controls = 5
[model]
vocab_size = 320
hidden_size = 32
[training]
epochs = 2
[audit]
nodes_per_canary = 60
tracking_nodes_per_canary = 60
exact_nodes = 200
replicates = 2
[policy]
path = "{CONFIGS / "policy.toml"}"
[study]
seeds = 1
"""
DEFENCES = r"""
[[study.defences]]
name = "dropout"
training.dropout = 0.2
[[study.defences]]
name = "deduplication"
data.deduplicate = true
[[study.defences]]
name = "blacklist"
data.blacklist = ['pin is \d']
[[study.defences]]
name = "earlier"
stop_at = 0.5
[[study.defences]]
name = "8-bit"
quantize_bits = 8
"""


@pytest.fixture
def write(tmp_path):
    def call(text):
        path = tmp_path / "tiny.toml"
        path.write_text(TINY + text)
        return path

    return call


def silent(what, done, total):
    """Nobody watches."""


def of(study, name):
    return next(defence for defence in study.defences if defence.name == name)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(study, folder, progress reports) of the tiny configuration with one seed, in this process."""
    folder, told = tmp_path_factory.mktemp("study"), []
    path = folder / "tiny.toml"
    path.write_text(TINY + DEFENCES)
    study = study_defences(load_config(path), folder / "out", jobs=1, progress=lambda *report: told.append(report))
    return study, folder / "out", told


def test_every_defence_has_a_run_and_every_level_a_comparison(tiny):
    study, _, told = tiny
    assert [defence.name for defence in study.defences] == [
        *("none", "dropout", "deduplication", "blacklist", "earlier", "8-bit")
    ]
    assert all(len(defence.runs) == 1 and not defence.failures for defence in study.defences)
    assert [[change.insertions for change in defence.matched] for defence in study.defences] == [[1, 8, 10]] * 6
    assert told == [("runs", done, 6) for done in range(1, 7)]


def test_defences_of_a_seed_share_secrets_and_text(tiny):
    _, folder, _ = tiny
    ledgers = {path.read_bytes() for path in folder.glob("runs/*/seed-3/ledger.json")}
    planted = {path.read_bytes() for path in folder.glob("runs/*/seed-3/data/train.txt")}
    assert (len(ledgers), len(planted)) == (1, 1)


def test_what_a_defence_did_shows_in_what_reached_the_loss(tiny):
    _, folder, _ = tiny

    def seen(name):
        summary = json.loads((folder / "runs" / name / "seed-3" / "training.json").read_text())
        return summary["training"]["presence"]["seen"]

    assert seen("none") == seen("dropout") == 2 * (1 + 8 + 10)
    assert seen("deduplication") == 2 * 3
    assert seen("blacklist") == 2 * 10


def test_the_undefended_model_is_not_compared_with_another(tiny):
    study, _, _ = tiny
    for name in ("none", "8-bit"):
        for change in of(study, name).matched:
            assert isinstance(change.change_bits, float)
    assert [change.change_bits for change in of(study, "none").matched] == [0.0, 0.0, 0.0]
    assert isinstance(of(study, "none").matched[0].low_bits, NotAvailable)  # one seed


def test_stopping_halfway_is_half_the_epochs(tiny):
    study, _, _ = tiny
    assert len(of(study, "none").runs[0].epochs) == 2
    assert len(of(study, "earlier").runs[0].epochs) == 1


def test_the_written_study_is_the_returned_one_and_can_be_read(tiny):
    study, folder, _ = tiny
    assert DefencesStudy.model_validate_json((folder / "study.json").read_text()) == study
    assert (folder / "study.json").read_text() == study.to_json()
    assert "At equal validation loss" in (folder / "study.md").read_text()
    assert (folder / "study.html").read_text().startswith("<!doctype html>")


def test_what_is_done_is_not_done_again(tiny, write):
    study, folder, _ = tiny
    models = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    rounded = (folder / "runs/8-bit/seed-3/rounded.json").stat().st_mtime_ns
    again = study_defences(load_config(write(DEFENCES)), folder, jobs=1, progress=silent)
    assert again == study
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == models
    assert (folder / "runs/8-bit/seed-3/rounded.json").stat().st_mtime_ns == rounded


def test_no_secret_is_in_the_reports(tiny):
    _, folder, _ = tiny
    from canary_audit.canaries import derive_secrets, load_key, load_ledger

    run = folder / "runs/none/seed-3"
    secrets = derive_secrets(load_ledger(run / "ledger.json"), load_key(run / "secrets/key"))
    for name in ("study.json", "study.md", "study.html"):
        text = (folder / name).read_text()
        assert not any(f" {secret.decode()} " in text or f'"{secret.decode()}"' in text for secret in secrets.values())


def test_a_run_that_fails_is_told_and_ends_no_other(write, tmp_path, monkeypatch):
    """The undefended run fails, and with it what starts from it; the others are compared with nothing."""

    def trained(task, directory):
        if task.defence == "none":
            raise ValueError("the secret is 12345")
        return run_of(task.config.seed, epochs_of((2.5, 6.0)))

    monkeypatch.setattr("canary_audit.studies.defences.run._trained", trained)
    study = study_defences(load_config(write(DEFENCES)), tmp_path / "out", jobs=1, progress=silent)
    failed = {defence.name: defence.failures[0].reason for defence in study.defences if defence.failures}
    assert set(failed) == {"none", "earlier", "8-bit"}
    assert "ValueError" in failed["none"]
    assert "12345" not in study.to_json()
    assert of(study, "dropout").runs
    assert all(isinstance(change.change_bits, NotAvailable) for change in of(study, "dropout").matched)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing to compare"),
        ('[[study.defences]]\nname = "none"\ntraining.dropout = 0.1', "choose another"),
        ('[[study.defences]]\nname = "both"\nquantize_bits = 8\nstop_at = 0.5', "a defence changes"),
        ('[[study.defences]]\nname = "idle"', "a defence changes"),
        ('[[study.defences]]\nname = "other"\ndata.source = "builtin:prose"', "not source"),
        ('[[study.defences]]\nname = "typo"\ntraining.dropuot = 0.1', "did you mean 'dropout'"),
        (
            '[[study.defences]]\nname = "mixed"\ntraining.mixup_alpha = 1.0\nprivacy.noise_multiplier = 1.0',
            "mixup_alpha out",
        ),
        (
            '[[study.defences]]\nname = "a"\nstop_at = 0.5\n[[study.defences]]\nname = "a"\nstop_at = 1.0',
            "its own name",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(write, tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        study_defences(load_config(write(text)), tmp_path / "out", jobs=1, progress=silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.validation_fraction=0.0", "validation_fraction"),
        ("training.epochs=0", "epochs"),
        ("canaries.1.levels=[8]", "levels of its own"),
    ],
)
def test_a_design_that_cannot_be_compared_is_refused(write, tmp_path, override, says):
    with pytest.raises(ConfigError, match=says):
        study_defences(load_config(write(DEFENCES), (override,)), tmp_path / "out", jobs=1, progress=silent)


@pytest.mark.nightly
def test_the_command_line_studies_two_seeds_in_two_processes(tmp_path):
    """The shipped study on less text and with fewer defences: repetition is undone by deduplication, a blacklist stops
    what is on it and nothing else, eight bits are as good as thirty-two."""
    defences = r"""[{name = "deduplication", data.deduplicate = true}, {name = "8-bit", quantize_bits = 8},
        {name = "blacklist", data.blacklist = ['random number is \d+']}]"""
    overrides = [
        *("study.seeds=2", "data.max_bytes=30_000", "training.epochs=12", "audit.exact_nodes=5_000"),
        *("canaries.0.levels=[4]", "canaries.1.levels=[10]", f"study.defences={' '.join(defences.split())}"),
    ]
    command = [
        *(sys.executable, "-m", "canary_audit", "study", "defences", str(CONFIGS / "defences.toml")),
        *("--json", "--quiet", "--jobs", "2", "--out", str(tmp_path)),
        *(word for override in overrides for word in ("--set", override)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "study.json").read_text()
    study = DefencesStudy.model_validate_json(done.stdout)
    assert study.seeds == (1, 2)
    assert all(len(defence.runs) == 2 and not defence.failures for defence in study.defences)
    assert len({path.read_bytes() for path in tmp_path.glob("runs/*/seed-*/ledger.json")}) == 2  # one of each seed

    def bits(name, insertions):
        return next(level.bits for level in of(study, name).levels if level.insertions == insertions)

    assert bits("none", 10) > 12
    assert bits("deduplication", 10) < bits("none", 10) - 4
    assert bits("blacklist", 4) < 6  # medians of secrets never seen
    assert bits("blacklist", 10) > 12  # not on the list
    assert abs(bits("8-bit", 10) - bits("none", 10)) < 1
