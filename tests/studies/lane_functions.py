"""What the processes under test do; a module of its own, because they import it."""

import os
import signal
import time
from pathlib import Path


def square_or_die(number):
    """The square, with who computed it; a negative number kills its process."""
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number, os.getpid()


def settings(_item):
    return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def wait_long(folder):
    """Say that one is there, then wait for a minute."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
