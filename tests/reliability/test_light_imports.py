"""Verbs that need no model load none: they answer at once, and run where torch is not even installed."""

import json
import subprocess
import sys
import time

import pytest
from conftest import CONFIGS

HEAVY = {"torch", "transformers", "datasets", "matplotlib", "accelerate", "opacus", "scipy.stats", "tokenizers"}
PROGRAM = """
import json, sys
sys.argv = ["canary-audit", *sys.argv[1:]]
from canary_audit.cli import main
try:
    main()
except SystemExit as end:
    print("\\n" + json.dumps([end.code or 0, sorted(sys.modules)]), file=sys.stderr)
"""


def modules_of(*arguments: str) -> tuple[int, set[str]]:
    """Exit code of a command line, and all that it imported, in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (("--help",), {0}),
        (("--version",), {0}),
        (("run", "--help"), {0}),
        (("gate", "{run}/result.json", "--policy", "{configs}/policy.toml"), {0, 1, 3}),
        (("gate", "{run}/result.json", "--policy", "{configs}/policy.toml", "--model", "{run}/model"), {0, 1, 3}),
        (("report", "{run}/result.json", "--format", "markdown"), {0}),
        (("report", "{run}/result.json", "--format", "json"), {0}),
        (("plan", "{configs}/smoke.toml"), {0}),
        (("verify", "{run}"), {0}),
        (("run", "gone.toml"), {2}),
        (("train", "gone.toml"), {2}),
        (("study", "noise", "gone.toml"), {2}),
        (("study", "defences", "gone.toml"), {2}),
        (("audit", "--ledger", "gone.json", "--model", "m", "--endpoint", "http://h", "--api", "vllm"), {2}),
    ],
    ids=lambda value: "-".join(word for word in value if isinstance(word, str) and "/" not in word),
)
def test_no_heavy_import(arguments, codes, smoke):
    code, modules = modules_of(*(word.format(run=smoke.folder, configs=CONFIGS) for word in arguments))
    assert code in codes
    assert modules & HEAVY == set()


def test_only_the_page_draws(smoke):
    code, modules = modules_of("report", str(smoke.folder / "result.json"), "--format", "html")
    assert code == 0
    assert modules & HEAVY <= {"matplotlib"}


def test_help_is_quick():
    """The best of three, because other programs use the machine too."""
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "canary_audit", "--help"], capture_output=True, check=True)
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 1.5
