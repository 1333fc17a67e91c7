"""The same bytes whatever the surroundings: hash seed, locale, time zone, folder, umask, the run folder's own name."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import CONFIGS
from forked_cli import KEY, TINY, digests, run_smoke

PLAIN = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
OTHER = {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Kiritimati"}


def run_elsewhere(folder, surroundings, *, cwd, umask) -> dict[str, str]:
    """A tiny run in a fresh interpreter with these surroundings; digests of what it left."""
    sets = [word for override in TINY for word in ("--set", override)]
    arguments = ["run", str(CONFIGS / "smoke.toml"), "--out", str(folder), "--key", KEY, "--quiet", *sets]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **surroundings}
    command = [sys.executable, "-m", "canary_audit", *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, umask=umask, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return digests(folder)


@pytest.mark.slow
def test_surroundings_change_no_byte(tmp_path):
    """All of them at once, so that one fresh interpreter is enough; `-m slow` takes them one by one."""
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "rün 目录 🐤"
    other = run_elsewhere(folder, OTHER, cwd=tmp_path / "elsewhere", umask=0o077)
    assert run_smoke(tmp_path / "plain", *TINY).code == 0
    assert other == digests(tmp_path / "plain")


@pytest.mark.nightly
def test_each_of_the_surroundings(tmp_path):
    surroundings = [
        *({**PLAIN, "PYTHONHASHSEED": str(seed)} for seed in range(3)),
        *({**PLAIN, "LC_ALL": locale} for locale in ("C", "tr_TR.UTF-8", "POSIX")),
        *({**PLAIN, "TZ": zone} for zone in ("Pacific/Kiritimati", "America/St_Johns")),
        {**PLAIN, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    ]

    def found(number):
        return run_elsewhere(
            tmp_path / f"run-{number}", surroundings[number], cwd=tmp_path, umask=(0, 0o077)[number % 2]
        )

    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(found, range(len(surroundings)))
    assert all(other == first for other in others)
