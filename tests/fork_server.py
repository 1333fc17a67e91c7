"""A program that starts many command lines for the price of one import: it loads everything once, and forks for each.

Reads one JSON request a line, answers with one JSON line. A request holds the arguments of a command line and what is
to befall it; see `forked_cli.Fault`.
"""

import fcntl
import json
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

# All that a verb would import, so that a child begins with its work.
import matplotlib.backends.backend_svg
import matplotlib.figure
import scipy.stats
import torch
import transformers

import canary_audit.existing_model
import canary_audit.pipeline
import canary_audit.report.terminal
import canary_audit.served_model
import canary_audit.served_probe
import canary_audit.studies.page
import canary_audit.studies.papers
from canary_audit import cli

PRELOADED = (
    matplotlib.figure,
    scipy.stats,
    torch,
    transformers,
    canary_audit.existing_model,
    canary_audit.report.terminal,
    canary_audit.served_model,
    canary_audit.served_probe,
    canary_audit.studies.page,
    canary_audit.studies.papers,
)
PIPE_BYTES = 1 << 20
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.truncate"}
ERRORS = {"RuntimeError": RuntimeError, "MemoryError": MemoryError, "KeyError": KeyError, "ValueError": ValueError}


class Countdown:
    """Acts at tick number `at`."""

    def __init__(self, at, act):
        self.n_ticks, self._at, self._act = 0, at, act

    def tick(self):
        self.n_ticks += 1
        if self.n_ticks == self._at:
            self._act()


def watch_disk(countdown, folder):
    """Tick before every call of this process that changes what is on disk."""
    fsync, write = os.fsync, os.write

    def counted_fsync(descriptor):
        countdown.tick()
        fsync(descriptor)

    def torn_write(descriptor, content):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return write(descriptor, content)
        done = write(descriptor, content[: len(content) // 2])
        countdown.tick()
        return done + write(descriptor, content[done:])

    def hook(event, arguments):
        if event in CHANGES or (event == "open" and _begins_writing(*arguments[::2], folder)):
            countdown.tick()

    os.fsync, os.write = counted_fsync, torn_write
    sys.addaudithook(hook)


def _begins_writing(place, flags, folder):
    """Whether this opens a file below the folder for writing; a place may also be the number of an open file."""
    return not isinstance(place, int) and flags & (os.O_WRONLY | os.O_RDWR) and folder in os.fsdecode(place)


def watch_calls(countdown):
    """Tick at the first call of every function of the package."""
    package, seen = str(Path(cli.__file__).parent), set()

    def profile(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code not in seen and code.co_filename.startswith(package):
            seen.add(code)
            countdown.tick()

    sys.setprofile(profile)


def fail(name):
    raise ERRORS[name]("injected")


def become(request, counter, streams):
    """Turn this forked process into the command line of the request; never returns."""
    fault = request["fault"]
    for descriptor, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream, descriptor)
    if fault["file_limit_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["file_limit_bytes"], resource.RLIM_INFINITY))
    if fault["user"] is not None:
        os.setresgid(fault["user"], fault["user"], fault["user"])
        os.setresuid(fault["user"], fault["user"], fault["user"])
    countdown = Countdown(fault["at"], lambda: os.kill(os.getpid(), signal.Signals[fault["signal"]]))
    if fault["error"]:
        countdown = Countdown(fault["at"], lambda: fail(fault["error"]))
    if fault["watch"] == "disk":
        watch_disk(countdown, request["folder"])
    elif fault["watch"] == "calls":
        watch_calls(countdown)
    sys.argv = ["canary-audit", *request["arguments"]]
    code = 70
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    finally:
        sys.setprofile(None)
        sys.stdout.flush()
        sys.stderr.flush()
        os.pwrite(counter, str(countdown.n_ticks).encode(), 0)
        os._exit(code)


def attend(pid, fault):
    """Wait for the child; strike it after a delay if asked to. Returns its code, lifetime and peak memory."""
    begun, struck = time.monotonic(), None
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        now = time.monotonic()
        if ended:
            return os.waitstatus_to_exitcode(status), now - (struck or begun), usage.ru_maxrss / 1024
        if fault["after_s"] is not None and struck is None and now - begun >= fault["after_s"]:
            struck = now
            os.kill(pid, signal.Signals[fault["signal"]])
        time.sleep(0.001)


def roomy_pipe():
    """A pipe that holds all a command line prints, so that nobody has to read while it runs."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def drain(reader):
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode()


def answer(request):
    """Run one request in a child and say how it ended."""
    counter, pipes = os.memfd_create("ticks"), [roomy_pipe(), roomy_pipe()]
    pid = os.fork()
    if pid == 0:
        become(request, counter, [writer for _, writer in pipes])
    for _, writer in pipes:
        os.close(writer)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    code, seconds, peak = attend(pid, request["fault"])
    out, err = (drain(reader) for reader, _ in pipes)
    n_ticks = int(os.pread(counter, 20, 0) or b"0")
    os.close(counter)
    return {"code": code, "seconds": seconds, "n_ticks": n_ticks, "grown_mib": peak - before, "out": out, "err": err}


def main():
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
