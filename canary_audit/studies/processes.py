"""Independent runs, several at a time: each in a process that lives as long as there is work.

A process that dies (of memory, say) loses the run it had and no other. When this process ends, however it ends, the
others end too; what they had finished is in their run directories.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A process ended without an answer."""

    exit_code: int | None
    """Minus the number of the signal that ended it."""


@dataclass(frozen=True, kw_only=True)
class _Lane(Generic[Item]):
    process: BaseProcess
    connection: Connection
    place: int


def work(
    function: Callable[[Item], Answer], items: Sequence[Item], n_processes: int
) -> Generator[tuple[int, Answer | Lost], None, None]:
    """Apply `function` to every item; yields (place of the item, answer) as the answers come.

    With one process, everything runs in this one. Otherwise function, items and answers must be picklable, and the
    function must be importable by name.
    """
    if n_processes == 1:
        yield from ((place, function(item)) for place, item in enumerate(items))
        return
    waiting = deque(enumerate(items))
    lanes: list[_Lane[Item]] = []
    try:
        while waiting or lanes:
            while waiting and len(lanes) < n_processes:
                lanes.append(_open_lane(function, *waiting.popleft()))
            ready = wait([lane.connection for lane in lanes])
            for lane in [lane for lane in lanes if lane.connection in ready]:
                lanes.remove(lane)
                try:
                    answer = lane.connection.recv()
                except EOFError:
                    lane.process.join()
                    yield lane.place, Lost(exit_code=lane.process.exitcode)
                    continue
                if waiting:
                    place, item = waiting.popleft()
                    lane.connection.send(item)
                    lanes.append(replace(lane, place=place))
                else:
                    lane.connection.close()
                yield lane.place, answer
    finally:
        for lane in lanes:
            lane.process.terminate()


def _open_lane(function: Callable[[Item], Answer], place: int, item: Item) -> _Lane[Item]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(function, theirs), daemon=True)
    with _environment():
        process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    ours.send(item)
    return _Lane(process=process, connection=ours, place=place)


def _serve(function: Callable[[Item], Answer], connection: Connection) -> None:
    """Answer until there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextmanager
def _environment() -> Iterator[None]:
    """What a new process finds: one thread each, since there are several of them."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
