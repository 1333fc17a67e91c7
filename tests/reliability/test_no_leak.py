"""No secret leaves `secrets/` and `data/`: not in any other file, not on a stream, not in a traceback."""

import base64
import json
import stat
from urllib.parse import quote

import pytest
from conftest import SAMPLE_KEY
from forked_cli import TINY, Fault, forked_cli, run_smoke

from canary_audit.canaries import derive_secrets, load_key, load_ledger

LONG = (*TINY, "canaries.0.format='{digit:12}'")
"""Twelve digits do not occur by chance in a hash or a number."""
N_FAILURES = 32
ERRORS = ("RuntimeError", "ValueError", "KeyError", "MemoryError")
MAY_HOLD_SECRETS = ("secrets/", "data/train", "data/.train")


def forms(secret: bytes) -> dict[str, bytes]:
    """Ways in which a secret might be written."""
    text, digits = secret.decode(), secret.hex()
    shifted = {f"base64, {n} before": base64.b64encode(bytes(n) + secret)[4 * n // 3 + (n > 0) : -4] for n in range(3)}
    return {
        "plain": secret,
        "reversed": secret[::-1],
        "hex": digits.encode(),
        "upper hex": digits.upper().encode(),
        "URL": "".join(f"%{byte:02X}" for byte in secret).encode(),
        "URL-quoted": quote(text).encode(),
        "JSON": "".join(f"\\u{ord(letter):04x}" for letter in text).encode(),
        "HTML": "".join(f"&#{ord(letter)};" for letter in text).encode(),
        "spaced": " ".join(text).encode(),
        "grouped": f"{int(text):,}".encode(),
        "list": str(list(secret)).encode()[1:-1],
        "letters": str(list(text)).encode()[1:-1],
        **shifted,
    }


def test_the_forms_are_found_where_they_are():
    secret = b"271828182845"
    assert all(forms(secret)[f"base64, {n} before"] in base64.b64encode(b"xyz"[:n] + secret + b"!") for n in range(3))
    assert forms(secret)["grouped"] == b"271,828,182,845"


def leaks(content: bytes, secrets: dict[str, bytes]) -> list[str]:
    written = [(name, form, text) for name, secret in secrets.items() for form, text in forms(secret).items()]
    return [f"{name}: {form}" for name, form, text in written if text in content]


def leaks_of_run(folder, secrets) -> dict[str, list[str]]:
    """Secrets in file names and in every file of the run but those made for them."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        content = b"" if name.startswith(MAY_HOLD_SECRETS) else path.read_bytes()
        found[name] = leaks(name.encode() + content, secrets)
    return {name: what for name, what in found.items() if what}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    ending = run_smoke(folder, *LONG, fault=Fault(watch="calls"))
    assert ending.code == 0, ending.err
    return folder, ending


@pytest.fixture(scope="module")
def secrets(run):
    """Every secret of the run: those that were planted and those that were not."""
    return derive_secrets(load_ledger(run[0] / "ledger.json"), load_key(SAMPLE_KEY))


def test_the_search_would_find_one(run, secrets):
    planted = [name for name in secrets if "control" not in name]
    content = (run[0] / "data" / "train.txt").read_bytes()
    assert [leak.partition(":")[0] for leak in leaks(content, secrets) if leak.endswith("plain")] == planted


def test_a_whole_run(run, secrets):
    folder, ending = run
    assert leaks_of_run(folder, secrets) == {}
    assert leaks((ending.out + ending.err).encode(), secrets) == []


def test_a_run_with_its_progress_shown(secrets, tmp_path):
    sets = [word for override in LONG for word in ("--set", override)]
    arguments = ("run", "configs/smoke.toml", "--out", str(tmp_path / "run"), "--key", f"file:{SAMPLE_KEY}", *sets)
    ending = forked_cli(*arguments)
    assert ending.code == 0, ending.err
    assert ending.err
    assert leaks((ending.out + ending.err).encode(), secrets) == []


def modes(folder) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_only_the_owner_reads_secrets(run):
    found = modes(run[0])
    assert found["secrets"] == 0o700
    assert found["secrets/key"] == 0o600
    assert found["data/train.txt"] == 0o600
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o022} == {}


@pytest.mark.parametrize("style", ["markdown", "html", "json"])
def test_every_report(style, run, secrets):
    result = str(run[0] / "result.json")
    ending = forked_cli("report", result, "--format", style)
    assert ending.code == 0, ending.err
    assert leaks((ending.out + ending.err).encode(), secrets) == []


def test_a_report_with_secrets_is_the_owner_s(run, tmp_path):
    page = tmp_path / "page.html"
    assert forked_cli("report", str(run[0] / "result.json"), "--reveal", "--out", str(page)).code == 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def fail_at(tick: int, error: str, folder, secrets):
    """Let the first call of some function of the package fail: a crash shows no secret."""
    ending = run_smoke(folder, *LONG, fault=Fault(watch="calls", at=tick, error=error))
    assert leaks_of_run(folder, secrets) == {}
    assert leaks((ending.out + ending.err).encode(), secrets) == []
    return ending


def ticks(clean, n: int) -> list[int]:
    """Evenly over the functions of the package in the order of their first calls; the first of all is `main`."""
    return [2 + number * (clean.n_ticks - 2) // n for number in range(n)]


def test_a_few_failures(run, secrets, tmp_path):
    endings = [
        fail_at(tick, ERRORS[number % 4], tmp_path / f"run-{number}", secrets)
        for number, tick in enumerate(ticks(run[1], 4))
    ]
    assert {ending.code for ending in endings} <= {0, 2}


@pytest.mark.slow
def test_many_failures(run, secrets, tmp_path):
    endings = [
        fail_at(tick, ERRORS[number % 4], tmp_path / f"run-{number}", secrets)
        for number, tick in enumerate(ticks(run[1], N_FAILURES))
    ]
    assert sum("injected" in ending.err for ending in endings) >= N_FAILURES * 3 // 4


def test_bad_input_does_not_echo_a_key(tmp_path):
    key = SAMPLE_KEY.read_text().strip()
    ending = forked_cli("run", "configs/smoke.toml", "--out", str(tmp_path / "run"), "--key", key)
    assert ending.code == 2
    assert key not in ending.out + ending.err
    damaged = tmp_path / "key"
    damaged.write_text(key[:-1])
    ending = forked_cli("run", "configs/smoke.toml", "--out", str(tmp_path / "run"), "--key", f"file:{damaged}")
    assert ending.code == 2
    assert key[:-1] not in ending.out + ending.err


def test_the_result_names_no_key(run):
    key = load_key(SAMPLE_KEY)
    for name in ("result.json", "ledger.json", "report.html", "scores.json"):
        content = (run[0] / name).read_bytes()
        assert key.hex().encode() not in content
        assert base64.b64encode(key) not in content
    assert json.loads((run[0] / "result.json").read_text())["ledger_sha256"]
