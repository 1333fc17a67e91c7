"""Command lines with a fault in them, and what a run directory holds afterwards."""

import atexit
import functools
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from conftest import CONFIGS, SAMPLE_KEY

PROGRAM = Path(__file__).with_name("fork_server.py")
KEY = f"file:{SAMPLE_KEY}"

TINY = (
    "data.max_bytes=12_000",
    "canaries.0.levels=[1, 4]",
    "model.hidden_size=16",
    "training.epochs=1",
    "training.batch_size=32",
    "training.checkpoint_every_steps=5",
    "audit.nodes_per_canary=60",
    "audit.tracking_nodes_per_canary=40",
    "audit.exact_nodes=200",
    "audit.extraction_width=16",
    "audit.replicates=2",
)
"""Makes configs/smoke.toml so small that all stages together take less than a second."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What befalls a command line."""

    signal: str = "SIGKILL"
    """Which signal it gets: after a delay, or at a tick."""
    after_s: float | None = None
    watch: str = ""
    """What ticks: `disk`, every call that changes the disk, or `calls`, the first call
    of every function of the package."""
    at: int = 0
    """Number of the tick at which it happens; 0 never, ticks are only counted."""
    error: str = ""
    """Instead of a signal: the exception that is raised at the tick."""
    file_limit_bytes: int | None = None
    """No file may grow beyond this: writes fail as on a full disk."""
    user: int | None = None
    """Give up root for this user, whom permissions bind."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command line ended."""

    code: int
    """Exit code; negative the signal that killed it."""
    seconds: float
    """How long it lived, counted from the signal if it got one after a delay."""
    n_ticks: int
    grown_mib: float
    """Peak memory beyond that of the process it was forked from."""
    out: str
    err: str


def forked_cli(*arguments: str, folder: Path | str = "/nonexistent", fault: Fault = Fault()) -> Ending:
    """Run `canary-audit ARGUMENTS` in a process of its own, without the seconds of importing."""
    server = _server()
    server.stdin.write(json.dumps({"arguments": arguments, "folder": str(folder), "fault": asdict(fault)}) + "\n")
    server.stdin.flush()
    return Ending(**json.loads(server.stdout.readline()))


def run_smoke(folder: Path, *overrides: str, fault: Fault = Fault()) -> Ending:
    """Run configs/smoke.toml, or resume it, with the sample's key."""
    sets = [word for override in overrides for word in ("--set", override)]
    arguments = ("run", str(CONFIGS / "smoke.toml"), "--out", str(folder), "--key", KEY, "--quiet", *sets)
    return forked_cli(*arguments, folder=folder, fault=fault)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a run directory, its lock and its key's folder included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_one_clear_line(ending: Ending, *words: str) -> None:
    """Exit code 2, and one line on standard error that holds the words: no traceback."""
    assert ending.code == 2, ending
    assert ending.err.startswith("error: "), ending.err
    assert ending.err.count("\n") == 1, ending.err
    for word in words:
        assert word in ending.err, ending.err


@functools.cache
def _server() -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(_stop, server)
    return server


def _stop(server: subprocess.Popen) -> None:
    server.stdin.close()
    server.wait()
    server.stdout.close()
