"""Shared fixtures. This file also puts `tests/` on the path, so `import result_factory` works in its subfolders."""

import os
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: its threads only wait for each other on tiny models

import pytest
import result_factory
from hypothesis import settings

from canary_audit.canaries import load_key
from canary_audit.config import Config, load_config
from canary_audit.gate import Policy, load_policy
from canary_audit.results import AuditResult

CONFIGS = Path(__file__).parents[1] / "configs"
SAMPLE_KEY = Path(__file__).parent / "sample.key"
"""Key of the committed sample: no secret, because its run is public."""

settings.register_profile("no-clock", deadline=None)  # a slow machine is no failure
settings.load_profile("no-clock")


def pytest_addoption(parser):
    parser.addoption("--update-sample", action="store_true", help="rewrite reports/sample from a fresh run")


@pytest.fixture
def make_result():
    """The factory of a whole, realistic `AuditResult`; see `result_factory`."""
    return result_factory.make_result


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run directory and what it was made from."""

    folder: Path
    config: Config
    policy: Policy
    result: AuditResult


def finished_run(name: str, folder: Path, *overrides: str) -> FinishedRun:
    """Run one of the configurations with the sample's key."""
    from canary_audit.pipeline import run_audit

    config = load_config(CONFIGS / f"{name}.toml", overrides)
    policy = load_policy(Path(config.policy.path))
    result = run_audit(config, policy, folder, key=load_key(SAMPLE_KEY))
    return FinishedRun(folder=folder, config=config, policy=policy, result=result)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished run of configs/smoke.toml; read it, do not write into it."""
    return finished_run("smoke", tmp_path_factory.mktemp("smoke") / "run")


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """A finished run of configs/quickstart.toml, the one of the committed sample (a minute)."""
    return finished_run("quickstart", tmp_path_factory.mktemp("quickstart") / "run")
