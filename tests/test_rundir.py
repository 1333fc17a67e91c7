"""Run directories under faults: kills, full disks, second processes, edited files and hostile names."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_audit import rundir
from canary_audit.errors import RunError
from canary_audit.rundir import (
    RunDirectory,
    canonical_json,
    derive_seed,
    digest,
    sha256_file,
    verify_chain,
    write_atomic,
)


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# Atomic writes


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for content in (b"", b"first, and longer", b"second"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["result.json"]


def test_the_mode_holds_even_for_a_moment(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        write_atomic(tmp_path / "private", b"x", mode=0o600)
        write_atomic(tmp_path / "public", b"x")
    finally:
        os.umask(mask)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole_write(descriptor, data[:7]))
    write_atomic(tmp_path / "file", bytes(range(256)))
    assert (tmp_path / "file").read_bytes() == bytes(range(256))


KILLED_AT = """
import os, pathlib, signal, sys
from canary_audit.rundir import RunDirectory, write_atomic
root, boundary = pathlib.Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def counted(call):
    def counting(*arguments, **options):
        global calls
        calls += 1
        if calls == boundary:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counting
with RunDirectory(root) as run:
    for name in ("open", "write", "fsync", "close", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    pathlib.Path.replace = counted(pathlib.Path.replace)
    write_atomic(run.path("file"), b"new" * 1000)
    calls = -1_000_000
"""


def test_a_kill_at_any_step_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = []
    for boundary in range(1, 30):
        path.write_bytes(b"old")
        result = run_python(KILLED_AT, tmp_path, str(boundary))
        seen.append(path.read_bytes())
        assert seen[-1] in (b"old", b"new" * 1000)
        with RunDirectory(tmp_path):
            assert names(tmp_path) == [".lock", "file", "stages"]
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
    else:
        pytest.fail("the write never finished")
    assert seen[0] == b"old"
    assert seen[-1] == b"new" * 1000
    assert seen == sorted(seen, reverse=True)  # "old" before the rename, "new" after it
    assert len(seen) > 5


FULL_DISK = """
import pathlib, resource, signal, sys
from canary_audit.errors import RunError
from canary_audit.rundir import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(pathlib.Path(sys.argv[1]), b"n" * 5000)
except RunError as error:
    print(error)
"""


def test_a_file_that_does_not_fit_harms_nothing(tmp_path: Path) -> None:
    """The kernel refuses the bytes beyond the limit, after a short write, as it does on a full disk."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    result = run_python(FULL_DISK, path)
    assert result.stdout == (
        f"{path}: cannot be written: {os.strerror(errno.EFBIG)} (5000 bytes needed); an earlier file is unharmed\n"
    )
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE])
def test_faults_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: int) -> None:
    def failing(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(RunError, match=os.strerror(fault)):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no/file: cannot be written: No such file or directory"):
        write_atomic(tmp_path / "no" / "file", b"x")


# The directory and its lock


def test_entering_creates_and_tidies(tmp_path: Path) -> None:
    root = tmp_path / "reports" / "quickstart"
    with RunDirectory(root) as run:
        assert run.root == root
        assert root.stat().st_mode & 0o777 == 0o755 & ~current_mask()
        (root / "data").mkdir()
        (root / "data" / ".train.jsonl.0123456789abcdef.part").write_bytes(b"torn")
        (root / ".keep.part").write_bytes(b"not ours")
    with RunDirectory(root):
        assert names(root) == [".keep.part", ".lock", "data", "stages"]
        assert names(root / "data") == []


def current_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


LOCK = """
import pathlib, sys
from canary_audit.errors import RunError
from canary_audit.rundir import RunDirectory
try:
    with RunDirectory(pathlib.Path(sys.argv[1])):
        print("entered")
except RunError as error:
    print(error)
"""


def test_a_second_process_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with RunDirectory(root):
        (root / ".file.0123456789abcdef.part").write_bytes(b"being written")
        before = names(root)
        assert run_python(LOCK, root).stdout == (
            f"{root}: another process is using this run directory; wait until it ends, or use another --out\n"
        )
        assert names(root) == before
    assert run_python(LOCK, root).stdout == "entered\n"


def test_the_lock_ends_with_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunDirectory(tmp_path):
        raise ZeroDivisionError
    with RunDirectory(tmp_path), pytest.raises(RunError, match="another process"), RunDirectory(tmp_path):
        pytest.fail("entered twice")


def test_a_file_or_a_link_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be used as a run directory"), RunDirectory(tmp_path / "file"):
        pytest.fail("entered a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with pytest.raises(RunError, match="is a symbolic link"), RunDirectory(tmp_path / "link"):
        pytest.fail("entered a link")
    assert names(tmp_path / "folder") == []


@pytest.mark.parametrize("names", [("../x",), ("a/../../x",), ("/etc/passwd",), ("a\0b",), ("data", ".."), ("out/x",)])
def test_paths_stay_inside(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tmp_path / "run"
    with RunDirectory(root) as run:
        (root / "out").symlink_to(tmp_path)
        with pytest.raises(RunError, match="run directory"):
            run.path(*names)
        assert run.path("data", "train.jsonl") == run.path("data/train.jsonl") == root / "data" / "train.jsonl"


@given(st.lists(st.text(st.sampled_from("./a~\0"), max_size=6), max_size=3))
def test_no_name_leads_out(parts: list[str]) -> None:
    run = RunDirectory(Path("/nonexistent/run"))
    try:
        path = run.path(*parts)
    except RunError:
        return
    assert os.path.normpath(path).startswith("/nonexistent/run")


# Stages and the chain


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of three stages, each of which reads what the one before wrote."""
    root = tmp_path / "run"
    with RunDirectory(root) as run:
        write_atomic(run.path("ledger.json"), b'{"canaries": []}\n')
        run.record("plan", {"config": digest("config")}, [run.path("ledger.json")])
        run.path("data").mkdir()
        write_atomic(run.path("data", "planted.txt"), b"my number is 123\n")
        write_atomic(run.path("data", "held-out.txt"), b"nothing\n")
        run.record("plant", run.hashes("ledger.json"), [run.path("data")])
        inputs = {"seed": digest("1"), **run.hashes("data/planted.txt", "ledger.json")}
        write_atomic(run.path("result.json"), b"{}\n")
        run.record("audit", inputs, [run.path("result.json")])
    return root


def test_a_stage_is_done_while_inputs_and_outputs_are_the_same(finished: Path) -> None:
    with RunDirectory(finished) as run:
        record = run.stage_record("plant")
        assert record.inputs == {"ledger.json": sha256_file(finished / "ledger.json")}
        assert list(record.outputs) == ["data/held-out.txt", "data/planted.txt"]
        assert run.is_done("plant", record.inputs)
        assert not run.is_done("plant", {**record.inputs, "config": "other"})
        assert not run.is_done("plant", {})
        assert not run.is_done("train", {})
        run.path("data/held-out.txt").write_bytes(b"changed\n")
        assert not run.is_done("plant", record.inputs)
        run.path("data/held-out.txt").unlink()
        assert not run.is_done("plant", record.inputs)


def test_a_damaged_record_means_not_done(finished: Path) -> None:
    with RunDirectory(finished) as run:
        inputs = run.stage_record("plan").inputs
        record = run.path("stages", "plan.json")
        record.write_bytes(record.read_bytes()[:-20])
        assert not run.is_done("plan", inputs)
        with pytest.raises(RunError, match="the stage record is damaged"):
            run.stage_record("plan")
        run.record("plan", inputs, [run.path("ledger.json")])
        assert run.is_done("plan", inputs)


def test_records_do_not_depend_on_the_order_of_what_they_hold(finished: Path) -> None:
    with RunDirectory(finished) as run:
        record = run.stage_record("audit")
        text = run.path("stages/audit.json").read_bytes()
        run.record("audit", dict(sorted(record.inputs.items(), reverse=True)), [run.path("result.json")])
        assert run.path("stages/audit.json").read_bytes() == text


def test_what_cannot_be_recorded(finished: Path) -> None:
    with RunDirectory(finished) as run:
        with pytest.raises(RunError, match="changed while stage 'train' was reading it"):
            run.record("train", {"ledger.json": "0" * 64}, [])
        with pytest.raises(RunError, match="must lie in the run directory"):
            run.record("train", {}, [finished.parent / "elsewhere"])
        with pytest.raises(RunError, match=r"model\.bin: cannot be read"):
            run.record("train", {}, [run.path("model.bin")])
        with pytest.raises(RunError, match="a stage is named by"):
            run.record("../train", {}, [])
        with pytest.raises(RunError, match="cannot be read"):
            run.stage_record("train")


def test_an_intact_run_has_no_findings(finished: Path) -> None:
    assert verify_chain(finished) == []


def test_a_flipped_bit_anywhere_is_found(finished: Path) -> None:
    rng = random.Random(18)
    files = [path for path in finished.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 7
    for path in files:
        content = path.read_bytes()
        for place in rng.sample(range(len(content)), min(len(content), 60)):
            flipped = content[place] ^ 1 << rng.randrange(8)
            path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
            assert verify_chain(finished), (path, place)
        path.write_bytes(content)
    assert verify_chain(finished) == []


@pytest.mark.parametrize(
    "name", ["ledger.json", "data/planted.txt", "result.json", "stages/plan.json", "stages/plant.json"]
)
def test_a_removed_file_is_found(finished: Path, name: str) -> None:
    (finished / name).unlink()
    assert verify_chain(finished)


def test_findings_say_what_and_where(finished: Path) -> None:
    old = sha256_file(finished / "ledger.json")
    (finished / "ledger.json").write_bytes(b"{}\n")
    new = sha256_file(finished / "ledger.json")
    changed = f"ledger.json with SHA-256 {old}, but the file now has {new}"
    assert verify_chain(finished) == [
        f"stage audit read {changed}",
        f"stage plan wrote {changed}",
        f"stage plant read {changed}",
    ]


def test_an_edit_that_redoes_one_record_is_found_in_the_next(finished: Path) -> None:
    with RunDirectory(finished) as run:
        write_atomic(run.path("ledger.json"), b'{"canaries": ["another"]}\n')
        run.record("plan", {"config": digest("config")}, [run.path("ledger.json")])
    assert [finding.split(" with ")[0] for finding in verify_chain(finished)] == [
        "stage audit read ledger.json",
        "stage plant read ledger.json",
    ]


def test_swapped_and_forged_records_are_found(finished: Path) -> None:
    stages = finished / "stages"
    plan, plant = (stages / "plan.json").read_bytes(), (stages / "plant.json").read_bytes()
    (stages / "plan.json").write_bytes(plant)
    (stages / "plant.json").write_bytes(plan)
    assert len([finding for finding in verify_chain(finished) if "damaged" in finding]) == 2
    (stages / "plan.json").write_bytes(json.dumps(json.loads(plan)).encode())
    assert any("damaged" in finding for finding in verify_chain(finished))


def test_a_record_cannot_reach_out_of_the_run(finished: Path) -> None:
    record = rundir.StageRecord(stage="plan", inputs={}, outputs={"../secret": "0" * 64})
    (finished / "stages" / "plan.json").write_text(rundir._record_text(record), encoding="utf-8")
    (finished.parent / "secret").write_text("x", encoding="utf-8")
    assert any("not a path inside the run directory" in finding for finding in verify_chain(finished))


def test_a_folder_without_records_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        verify_chain(tmp_path)


@given(st.binary(max_size=100) | st.sampled_from([b"[]", b"{}", b'{"inputs": 1}', b"[" * 100_000, b"null"]))
def test_garbage_is_a_damaged_record(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "garbage"
    (root / "stages").mkdir(parents=True, exist_ok=True)
    (root / "stages" / "plan.json").write_bytes(content)
    (finding,) = verify_chain(root)
    assert "damaged" in finding


# Digests and seeds


def test_sha256_of_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_file(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(RunError, match="not a regular file"):
            sha256_file(tmp_path / name)


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_digests_tell_sequences_apart(left: list[str], right: list[str]) -> None:
    assert (digest(*left) == digest(*right)) == (left == right)


def test_canonical_json() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5]})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_seeds_differ_and_stay_the_same() -> None:
    seeds = {
        derive_seed(seed, stage, index) for seed in range(5) for stage in ("train", "plant") for index in range(50)
    }
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "train") == derive_seed(1, "train", 0) == 9128942730984980204
    ones = sum(derive_seed(1, "bits", index).bit_count() for index in range(500))
    assert abs(ones / (63 * 500) - 0.5) < 0.01
