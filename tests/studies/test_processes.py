"""Several runs at a time: all answers come, a death costs one of them, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from lane_functions import settings, square_or_die, wait_long

from canary_audit.studies.processes import Lost, work

PARENT = """
import sys
sys.path[:0] = [{folder!r}]
from lane_functions import wait_long
from canary_audit.studies.processes import work
if __name__ == "__main__":
    list(work(wait_long, sys.argv[1:] * 2, 2))
"""


def test_with_one_process_everything_runs_here_in_order():
    assert list(work(square_or_die, [1, 2, 3], 1)) == [
        (0, (1, os.getpid())),
        (1, (4, os.getpid())),
        (2, (9, os.getpid())),
    ]


def test_several_processes_share_the_work_and_a_death_costs_one_item():
    answers = dict(work(square_or_die, [1, 2, -1, 3, 4], 2))
    assert sorted(answers) == [0, 1, 2, 3, 4]
    assert answers.pop(2) == Lost(exit_code=-signal.SIGKILL)
    assert [answers[place][0] for place in sorted(answers)] == [1, 4, 9, 16]
    workers = {pid for _, pid in answers.values()}
    assert os.getpid() not in workers
    assert len(workers) <= 3  # two, and one in place of the dead


def test_processes_have_one_thread_and_leave_ctrl_c_to_the_first():
    before = os.environ.get("OMP_NUM_THREADS")
    assert dict(work(settings, [0, 0], 2)) == {0: ("1", True), 1: ("1", True)}
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_nothing_to_do_starts_nothing():
    assert list(work(square_or_die, [], 2)) == []


def test_leaving_early_ends_the_others(tmp_path):
    (tmp_path / "quick").mkdir()
    answers = work(square_or_die_or_wait, [3, str(tmp_path)], 2)
    with closing(answers):
        next(answers)
        _until(lambda: any(path.name.isdecimal() for path in tmp_path.iterdir()))
    _until_all_ended(tmp_path)


def square_or_die_or_wait(item):
    return wait_long(item) if isinstance(item, str) else square_or_die(item)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_when_the_first_process_dies_so_do_the_others(tmp_path, how):
    program, there = tmp_path / "program.py", tmp_path / "there"
    program.write_text(PARENT.format(folder=str(Path(__file__).parent)))
    there.mkdir()
    parent = subprocess.Popen([sys.executable, program, there])
    _until(lambda: len(list(there.iterdir())) == 2)
    parent.send_signal(how)
    parent.wait(20)
    _until_all_ended(there)


def _until_all_ended(folder):
    _until(lambda: not any(_is_alive(int(path.name)) for path in folder.iterdir() if path.name.isdecimal()))


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within half a minute"
        time.sleep(0.05)
