"""Whatever is changed in a finished run shows: in `verify`, at the gate, or when the ledger is opened."""

import json
import random
import shutil

import pytest
from conftest import CONFIGS
from forked_cli import KEY, assert_one_clear_line, forked_cli

from canary_audit.gate import EXIT_CODES
from canary_audit.rundir import verify_chain

N_FLIPS_A_FILE = 6
NOT_CHAINED = {".lock", "secrets/key"}
"""The lock is empty, and the key proves itself: a changed one opens no ledger."""


@pytest.fixture
def run_copy(smoke, tmp_path):
    return shutil.copytree(smoke.folder, tmp_path / "run")


def flip(path, place: int):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 7)
    path.write_bytes(content)


def artifacts(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if path.relative_to(folder).as_posix() not in NOT_CHAINED]


def test_every_flipped_bit_is_found(run_copy):
    """In every artifact: its first and last byte, and some between."""
    draw, n_flips = random.Random(5), 0
    for path in artifacts(run_copy):
        size = path.stat().st_size
        for place in {0, size - 1, *(draw.randrange(size) for _ in range(N_FLIPS_A_FILE))}:
            flip(path, place)
            assert verify_chain(run_copy), f"{path} at {place}"
            flip(path, place)
            n_flips += 1
    assert n_flips > 100
    assert verify_chain(run_copy) == []


def test_verify_names_what_was_changed(run_copy):
    flip(run_copy / "scores.json", 100)
    ending = forked_cli("verify", str(run_copy))
    assert ending.code == 2
    assert "scores.json" in ending.err
    assert "Traceback" not in ending.err


@pytest.mark.parametrize("name", ["result.json", "ledger.json", "stages/model.json", "model/tokenizer.json"])
def test_what_was_removed_is_missed(name, run_copy):
    (run_copy / name).unlink()
    assert forked_cli("verify", str(run_copy)).code == 2


def test_an_exchange_of_two_files_is_found(run_copy):
    train, validation = run_copy / "data" / "train.txt", run_copy / "data" / "validation.txt"
    train.rename(run_copy / "aside")
    validation.rename(train)
    (run_copy / "aside").rename(validation)
    assert forked_cli("verify", str(run_copy)).code == 2


def audit(folder, out):
    model, policy = str(folder / "model"), str(CONFIGS / "policy.toml")
    return forked_cli(
        *("audit", "--ledger", str(folder / "ledger.json"), "--model", model, "--policy", policy),
        *("--key", KEY, "--out", str(out), "--quiet"),
    )


def swap_commitments(ledger):
    first, last = ledger["canaries"][0], ledger["canaries"][-1]
    first["commitment"], last["commitment"] = last["commitment"], first["commitment"]


def swap_ids(ledger):
    first, last = ledger["canaries"][0], ledger["canaries"][1]
    first["id"], last["id"] = last["id"], first["id"]


def drop_the_loudest(ledger):
    ledger["canaries"] = [canary for canary in ledger["canaries"] if canary["insertions"] != 16]


def call_it_a_control(ledger):
    loud = next(canary for canary in ledger["canaries"] if canary["insertions"] == 16)
    loud.update(role="control", insertions=0)


def count_fewer_insertions(ledger):
    next(canary for canary in ledger["canaries"] if canary["insertions"] == 16)["insertions"] = 1


def change_the_prefix(ledger):
    ledger["groups"][0]["prefix"] = "your pin is "


SWAPS = [swap_commitments, swap_ids, drop_the_loudest, call_it_a_control, count_fewer_insertions, change_the_prefix]


@pytest.mark.parametrize("change", SWAPS, ids=lambda change: change.__name__)
def test_a_ledger_written_anew_is_refused(change, run_copy, tmp_path):
    path = run_copy / "ledger.json"
    ledger = json.loads(path.read_text())
    change(ledger)
    path.write_text(json.dumps(ledger, sort_keys=True, indent=2) + "\n")
    assert forked_cli("verify", str(run_copy)).code == 2
    assert_one_clear_line(audit(run_copy, tmp_path / "out"), "edited")
    assert not (tmp_path / "out" / "result.json").exists()


def test_another_model_does_not_pass_the_gate(smoke, run_copy):
    words = ("gate", str(smoke.folder / "result.json"), "--policy", str(CONFIGS / "policy.toml"), "--model")
    assert forked_cli(*words, str(smoke.folder / "model")).code == EXIT_CODES[smoke.result.verdict]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        flip(run_copy / "model" / name, 200)
        ending = forked_cli(*words, str(run_copy / "model"))
        assert_one_clear_line(ending, "model differs", name)
        assert ending.out == ""
        flip(run_copy / "model" / name, 200)
    (run_copy / "model" / "chat_template.jinja").write_text("{{ messages }}")
    assert_one_clear_line(forked_cli(*words, str(run_copy / "model")), "model differs", "chat_template.jinja")


@pytest.mark.parametrize("written", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_a_verdict_written_into_a_result_counts_for_nothing(written, smoke, tmp_path):
    result = json.loads((smoke.folder / "result.json").read_text())
    result.update(verdict=written, reasons=[])
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    ending = forked_cli("gate", str(path), "--policy", str(CONFIGS / "policy.toml"))
    assert ending.code == EXIT_CODES[smoke.result.verdict]
