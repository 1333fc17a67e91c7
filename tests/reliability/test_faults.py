"""Full and read-only disks, a second process, signals, a reader that leaves: a clear end, and nothing lost."""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import CONFIGS
from forked_cli import TINY, Fault, assert_one_clear_line, digests, forked_cli, run_smoke

from canary_audit.rundir import RunDirectory, verify_chain

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_smoke(folder, *TINY).code == 0
    return digests(folder)


@contextmanager
def small_disk(folder: Path, size: str):
    """A file system of its own of that size; skips where it cannot be had."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, option: str):
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def assert_full_disk(ending, folder: Path, reason: str):
    """It names the file that could not be written, and what was finished is whole."""
    assert_one_clear_line(ending, reason, str(folder))
    assert list(folder.rglob("*.part")) == []
    assert not (folder / "stages").exists() or not list((folder / "stages").iterdir()) or verify_chain(folder) == []


@pytest.mark.parametrize("limit_bytes", [10, 2_500, 13_000, 60_000])
def test_files_that_may_not_grow(limit_bytes, expected, tmp_path):
    folder = tmp_path / "run"
    assert_full_disk(run_smoke(folder, *TINY, fault=Fault(file_limit_bytes=limit_bytes)), folder, "File too large")
    assert run_smoke(folder, *TINY).code == 0
    assert digests(folder) == expected


@pytest.mark.parametrize("limit_bytes", [10, 9_000, 20_000])
def test_stages_that_may_not_be_done_again(limit_bytes, expected, tmp_path):
    """With the data and the model there, later writes fail: what was there stays as it was."""
    folder = tmp_path / "run"
    assert run_smoke(folder, *TINY).code == 0
    for name in ("scores.json", "result.json", "report.html", "stages/scores.json", "stages/result.json"):
        (folder / name).unlink()
    before = digests(folder)
    ending = run_smoke(folder, *TINY, fault=Fault(file_limit_bytes=limit_bytes))
    assert_full_disk(ending, folder, "File too large")
    assert before.items() <= digests(folder).items()
    assert run_smoke(folder, *TINY).code == 0
    assert digests(folder) == expected


def fill_disk(folder: Path, size_kib: int, expected: dict[str, str]) -> str:
    """Run on a disk of that size; returns the file for which there was no room, or nothing if there was."""
    with small_disk(folder, f"{size_kib}k"):
        run = folder / "run"
        ending = run_smoke(run, *TINY)
        if ending.code == 0:
            return ""
        assert_full_disk(ending, run, "No space left on device")
        remount(folder, "size=10m")
        assert run_smoke(run, *TINY).code == 0
        assert digests(run) == expected
        return re.sub(r"[0-9a-f]{8,}", "N", ending.err.partition(f"{run}/")[2].partition(":")[0])


@needs_root
@pytest.mark.parametrize("size_kib", [8, 24, 100, 180])
def test_a_full_disk(size_kib, expected, tmp_path):
    assert fill_disk(tmp_path / "disk", size_kib, expected)


@needs_root
@pytest.mark.slow
def test_a_disk_of_every_size(expected, tmp_path):
    stuck = {fill_disk(tmp_path / f"disk-{size}", size, expected) for size in range(8, 520, 8)}
    assert "" in stuck, "the largest disk is large enough"
    assert stuck >= {"data/train.txt", "checkpoints/N/checkpoint.json", "model"}


@needs_root
def test_a_read_only_disk(expected, tmp_path):
    folder = tmp_path / "disk"
    with small_disk(folder, "2m"):
        assert run_smoke(folder / "run", *TINY).code == 0
        remount(folder, "ro")
        assert_one_clear_line(run_smoke(folder / "run", *TINY), str(folder / "run"), "Read-only file system")
        assert_one_clear_line(run_smoke(folder / "other", *TINY), str(folder / "other"), "Read-only file system")
        assert digests(folder / "run") == expected


def test_a_folder_of_someone_else():
    """Root is bound by no permissions, so it becomes nobody first."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o555)
        try:
            folder = Path(parent, "run")
            arguments = ("run", str(CONFIGS / "smoke.toml"), "--out", str(folder), "--quiet")
            user = NOBODY if os.geteuid() == 0 else None
            assert_one_clear_line(forked_cli(*arguments, fault=Fault(user=user)), str(folder), "Permission denied")
            assert list(Path(parent).iterdir()) == []
        finally:
            Path(parent).chmod(0o700)


def test_a_second_process_is_turned_away(expected, tmp_path):
    folder = tmp_path / "run"
    with RunDirectory(folder):
        refused = run_smoke(folder, *TINY)
        assert_one_clear_line(refused, str(folder), "another process", "--out")
        assert set(digests(folder)) == {".lock"}
    assert run_smoke(folder, *TINY).code == 0
    with RunDirectory(folder):
        assert run_smoke(folder, *TINY).code == 2
    assert digests(folder) == expected


@pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("tick", [9, 60])
def test_a_signal_during_a_call_to_the_disk(signal, code, tick, expected, tmp_path):
    folder = tmp_path / "run"
    ending = run_smoke(folder, *TINY, fault=Fault(watch="disk", at=tick, signal=signal))
    assert ending.code == code
    assert "Traceback" not in ending.err
    assert run_smoke(folder, *TINY).code == 0
    assert digests(folder) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_at_any_moment(signal, code, smoke, tmp_path):
    draw, folder = random.Random(3), tmp_path / "run"
    for _ in range(20):
        ending = run_smoke(folder, fault=Fault(after_s=draw.uniform(0.05, 1.5), signal=signal))
        if ending.code == 0:
            shutil.rmtree(folder)
            continue
        assert ending.code == code, ending
        assert ending.seconds < 5
        assert "Traceback" not in ending.err
        assert "Exception ignored" not in ending.err
    assert run_smoke(folder).code == 0
    assert digests(folder) == digests(smoke.folder)


def program(*words: str) -> str:
    return " ".join([sys.executable, "-m", "canary_audit", *words])


def piped(command: str, reader: str) -> tuple[int, str]:
    """Exit code of a command whose output goes to a reader that leaves early, and what it says on standard error."""
    script = f"{command} | {reader} > /dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=CONFIGS.parent)
    return done.returncode, done.stderr


def test_a_reader_that_leaves_early(smoke):
    """It ends as `cat` would, with neither a traceback nor the 1 that a gate answers for FAIL."""
    result = str(smoke.folder / "result.json")
    for words in (
        ("report", result),
        ("gate", result, "--policy", "configs/policy.toml"),
        ("verify", str(smoke.folder)),
    ):
        assert piped(program(*words), "true") == (141, "")
    code, error = piped(program("report", result, "--format", "html"), "head -c 5")
    assert (code in {0, 141}, error) == (True, "")


def test_output_that_cannot_be_written(smoke):
    command = program("report", str(smoke.folder / "result.json"), "> /dev/full")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=CONFIGS.parent)
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"
