"""A run that is killed, however often and whenever, ends with the same bytes as an undisturbed one once resumed."""

import random

import pytest
from forked_cli import TINY, Ending, Fault, digests, run_smoke

KILLED = -9
STAGES = ("ledger", "data", "model", "scores", "result")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, str], Ending]:
    """Digests of a tiny run that nothing befell, and how it ended, with all its calls to the disk counted."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    ending = run_smoke(folder, *TINY, fault=Fault(watch="disk"))
    assert ending.code == 0, ending.err
    assert not any("checkpoint" in name or name.endswith(".part") for name in digests(folder))
    return digests(folder), ending


def kill_at(tick: int, folder, expected: dict[str, str]) -> str:
    """Kill a tiny run at one of its calls to the disk, resume it, compare; returns the stage that was under way."""
    killed = run_smoke(folder, *TINY, fault=Fault(watch="disk", at=tick))
    assert killed.code == KILLED, killed
    done = [stage for stage in STAGES if (folder / "stages" / f"{stage}.json").exists()]
    saved = any(folder.glob("checkpoints/*/checkpoint.json"))
    resumed = run_smoke(folder, *TINY)
    assert resumed.code == 0, resumed.err
    assert digests(folder) == expected
    return f"{STAGES[len(done)] if len(done) < len(STAGES) else 'end'}{' with a checkpoint' if saved else ''}"


def test_killed_at_a_few_calls_to_the_disk(undisturbed, tmp_path):
    expected, clean = undisturbed
    for number, tick in enumerate((8, clean.n_ticks // 2, clean.n_ticks - 14)):
        kill_at(tick, tmp_path / f"run-{number}", expected)


@pytest.mark.slow
def test_killed_at_every_call_to_the_disk(undisturbed, tmp_path):
    expected, clean = undisturbed
    struck = {kill_at(tick, tmp_path / f"run-{tick}", expected) for tick in range(1, clean.n_ticks + 1)}
    assert struck >= {*STAGES, "model with a checkpoint"}


def kill_at_random(folder, delays_s: list[float], *overrides: str) -> int:
    """Kill one run after each of the delays, then let it end; returns how many of the kills found it alive."""
    endings = [run_smoke(folder, *overrides, fault=Fault(after_s=delay)) for delay in delays_s]
    assert {ending.code for ending in endings} <= {KILLED, 0}
    assert run_smoke(folder, *overrides).code == 0
    return sum(ending.code == KILLED for ending in endings)


def test_killed_at_random_moments(undisturbed, tmp_path):
    expected, clean = undisturbed
    delays_s = [random.Random(7).uniform(0.1, clean.seconds / 2) for _ in range(3)]
    kill_at_random(tmp_path / "run", delays_s, *TINY)
    assert digests(tmp_path / "run") == expected


@pytest.mark.nightly
def test_forty_kills_of_the_smoke_run(smoke, tmp_path):
    """The run is the same as the one that pytest's own process made, too."""
    expected, draw, n_kills = digests(smoke.folder), random.Random(1), 0
    whole = run_smoke(tmp_path / "whole")
    assert digests(tmp_path / "whole") == expected
    for number in range(60):
        folder = tmp_path / f"run-{number}"
        n_kills += kill_at_random(folder, [draw.uniform(0, 0.8 * whole.seconds) for _ in range(4)])
        assert digests(folder) == expected
        if n_kills >= 40:
            break
    assert n_kills >= 40
