"""Standard output and standard error: results on the one, progress and errors on the other."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from canary_audit.errors import RunError

if TYPE_CHECKING:
    from rich.progress import TaskID


class _Terminal(Console):
    """A console that ends the program as SIGPIPE would when nobody reads on: rich's own 1 would say FAIL."""

    def on_broken_pipe(self) -> NoReturn:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(128 + signal.SIGPIPE)


stdout = _Terminal(highlight=False)
stderr = _Terminal(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no markup, no wrapping."""
    write(f"{text}\n")


def write(text: str) -> None:
    """Write a text to standard output byte for byte."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        stdout.on_broken_pipe()
    except OSError as error:
        raise RunError(f"standard output cannot be written: {error.strerror}") from None


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, total) that draws a bar for each thing that is being done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:18}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, disable=quiet) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress
