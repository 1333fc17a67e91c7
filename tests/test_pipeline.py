"""The stages of a run: what they leave, what they do not do twice, and what makes them start again."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import CONFIGS, SAMPLE_KEY, finished_run

from canary_audit.canaries import load_key
from canary_audit.config import load_config
from canary_audit.errors import ConfigError, LedgerError
from canary_audit.gate import load_policy
from canary_audit.pipeline import run_audit
from canary_audit.results import NotAvailable, load_result
from canary_audit.rundir import verify_chain


@pytest.fixture
def run_copy(smoke, tmp_path):
    """The finished smoke run, to be changed."""
    return shutil.copytree(smoke.folder, tmp_path / "run")


def modified(folder, *names):
    return [(folder / name).stat().st_mtime_ns for name in names]


def test_a_run_leaves_what_the_product_promises(smoke):
    names = {path.relative_to(smoke.folder).as_posix() for path in smoke.folder.rglob("*") if path.is_file()}
    assert {
        "ledger.json",
        "secrets/key",
        "data/train.txt",
        "data/validation.txt",
        "model/model.safetensors",
        "scores.json",
        "training.json",
        "result.json",
        "report.html",
    } <= names
    assert not any("checkpoint" in name for name in names)
    assert verify_chain(smoke.folder) == []


def test_the_result_holds_what_checks_rely_on(smoke):
    result = json.loads((smoke.folder / "result.json").read_text())
    assert result["schema_version"] == 1
    assert result["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}
    assert result["reasons"]
    assert len(result["policy_sha256"]) == len(result["model"]["fingerprint"]) == len(result["data"]["sha256"]) == 64
    epoch = result["training"]["epochs"][-1]
    assert epoch["epoch"] == 2
    assert epoch["validation_bits_per_char"] > 0
    assert set(epoch["exposure_by_level"]) == {"1", "16"}
    assert len(result["canaries"]) == 4 + 10
    for canary in result["canaries"]:
        assert canary["role"] in {"level", "control"}
        assert {"bits", "low", "high", "method", "exact"} <= set(canary["exposure"])
        assert {"found", "rank", "certified", "nodes", "calls"} <= set(canary["extraction"])
        assert canary["exposure"]["low"] <= canary["exposure"]["bits"] <= canary["exposure"]["high"]
        assert canary["certificate_bits"] <= canary["exposure"]["high"] + 1e-6
        assert 0 < canary["p_value"] <= 1


def test_a_finished_run_is_not_done_again(smoke, run_copy):
    files = ("data/train.txt", "model/model.safetensors", "scores.json", "result.json")
    before = modified(run_copy, *files)
    assert run_audit(smoke.config, smoke.policy, run_copy) == smoke.result
    assert modified(run_copy, *files) == before


def test_another_policy_judges_anew_and_measures_nothing_again(smoke, run_copy, tmp_path):
    lenient = tmp_path / "lenient.toml"
    lenient.write_text(Path(smoke.config.policy.path).read_text().replace("10.0", "14.0"))
    before = modified(run_copy, "model/model.safetensors", "scores.json")
    result = run_audit(smoke.config, load_policy(lenient), run_copy)
    assert result.policy.max_exposure_bits == 14.0
    assert result.policy_sha256 != smoke.result.policy_sha256
    assert result.canaries == smoke.result.canaries
    assert modified(run_copy, "model/model.safetensors", "scores.json") == before


def test_a_damaged_stage_is_done_again_with_the_same_result(smoke, run_copy):
    (run_copy / "scores.json").write_text("{}")
    (run_copy / "model" / "config.json").write_text("{}")
    assert run_audit(smoke.config, smoke.policy, run_copy) == smoke.result
    assert (run_copy / "result.json").read_bytes() == (smoke.folder / "result.json").read_bytes()


def test_another_key_in_the_same_directory_is_refused(smoke, run_copy):
    with pytest.raises(LedgerError, match="another key"):
        run_audit(smoke.config, smoke.policy, run_copy, key=bytes(32))


def test_an_audit_that_cannot_fail_is_refused_before_anything_is_written(smoke, tmp_path):
    config = smoke.config.model_copy(
        update={"canaries": (smoke.config.canaries[0].model_copy(update={"format": "{digit:2}"}),)}
    )
    with pytest.raises(ConfigError, match="cannot fail"):
        run_audit(config, smoke.policy, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_coins_and_paper_estimates_when_asked_for(tmp_path):
    run = finished_run(
        "smoke",
        tmp_path / "run",
        "canaries.0.coin_flips=30",
        "audit.references=300",
        "training.epochs=1",
        "training.track_exposure=false",
    )
    epsilon = run.result.epsilon
    assert not isinstance(epsilon, NotAvailable)
    assert len(epsilon.canaries) == 30
    assert 0 < sum(coin.inserted for coin in epsilon.canaries) < 30
    assert 0 <= epsilon.auc <= 1
    assert [coin.id for coin in epsilon.canaries] == [f"pin-coin-{place:02d}" for place in range(1, 31)]
    assert [bound.method for bound in epsilon.bounds] == ["one-run-grid", "one-run-fixed", "clopper-pearson"]
    assert 0 <= epsilon.lower_bound == epsilon.bounds[0].epsilon < epsilon.ceiling
    assert (epsilon.delta, epsilon.assumption, epsilon.score) == (0.0, "none", "loss")
    methods = [estimate.method for estimate in run.result.canaries[0].paper_estimates]
    assert methods == ["uniform-sampling", "skew-normal"]
    assert all(epoch.exposure_by_level == {} for epoch in run.result.training.epochs)
    assert load_result(run.folder / "result.json") == run.result


def test_jsonl_data_is_audited_too(tmp_path):
    texts = [f"The quick fox {i % 7} jumps over the lazy dog number {i}." for i in range(400)]
    lines = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    source = tmp_path / "corpus.jsonl"
    source.write_text("\n".join(lines) + "\n")
    run = finished_run("smoke", tmp_path / "run", f'data.source="{source}"', "training.epochs=1")
    assert run.result.data.source == "corpus.jsonl"
    assert run.result.training.presence.seen == run.result.training.presence.planned == 2 + 2 * 16
    assert (run.folder / "data" / "train.jsonl").is_file()


def test_a_secret_in_two_formats_is_audited_side_by_side(tmp_path, smoke):
    second = smoke.config.canaries[0].model_copy(
        update={"name": "code", "format": "{hex:6}", "prefix": "the code: ", "suffix": "."}
    )
    config = smoke.config.model_copy(update={"canaries": (*smoke.config.canaries, second)})
    result = run_audit(config, smoke.policy, tmp_path / "run", key=load_key(SAMPLE_KEY))
    assert [group.name for group in result.groups] == ["pin", "code"]
    assert {canary.group for canary in result.canaries} == {"pin", "code"}
    assert result.groups[1].space_size == str(16**6)


def test_rows_of_a_pass_are_chosen_once_and_measuring_tells_how_far_it_is(tmp_path):
    told = []
    config = load_config(CONFIGS / "smoke.toml")
    run_audit(config, load_policy(Path(config.policy.path)), tmp_path / "run", progress=lambda *step: told.append(step))
    summary = json.loads((tmp_path / "run" / "training.json").read_text())
    result = load_result(tmp_path / "run" / "result.json")
    assert result.model.batch_rows == summary["batch_rows"] == 512
    measuring = [(done, total) for what, done, total in told if what == "measuring"]
    assert len(measuring) > 5
    assert all(done <= total for done, total in measuring)
