"""`canary-audit study NAME` as a user runs it."""

import json
import subprocess
import sys

import pytest
import study_setting
from forked_cli import assert_one_clear_line, forked_cli

CONFIG = str(study_setting.CONFIGS / "noise.toml")
KEYS = {"id", "paper", "ours", "criterion", "holds"}


def run(*arguments, cwd):
    command = [sys.executable, "-m", "canary_audit", "study", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_two_experiments_in_two_processes_as_json(tmp_path):
    config = str(study_setting.CONFIGS / "learning-order.toml")
    own = tmp_path / "own.csv"
    own.write_text("".join(f"{row % 7},{row % 5},{row % 3},{(row % 7 + row % 5) // 4}\n" for row in range(300)))
    chosen = ("--only", "boosting", "--only", "architectures", "--set", "study.seeds=2", "--jobs", "2")
    done = run("learning-order", config, *chosen, "--data", str(own), "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = json.loads(done.stdout)
    assert [trend["id"] for trend in study["trends"]] == ["H1", "H5"]
    assert all(set(trend) >= KEYS for trend in study["trends"])
    assert study["dataset"] == "own.csv"
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"study.json", "study.html", "study.md"}
    again = run("learning-order", config, *chosen, "--data", str(own), "--out", "out", "--json", cwd=tmp_path)
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((CONFIG, "--only", "easy"), "study noise has the experiments"),
        ((CONFIG, "--data", "cifar"), "none of digits, mnist, mnist1d"),
        ((CONFIG, "--data", "gone.csv"), "gone.csv: no such file"),
        (("gone.toml",), "gone.toml: no such file"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_is_run(tmp_path, arguments, said):
    done = forked_cli("study", "noise", *arguments, "--out", str(tmp_path / "out"), "--quiet")
    assert_one_clear_line(done, said)
    assert not (tmp_path / "out").exists()
