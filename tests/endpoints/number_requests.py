"""Requests that are checked by their own number, and a program that sends many of them; `test_client` kills it.

The program imports once, and forks for each line that it reads: a JSON list of arguments of `ask_numbers` begins one
and is answered with the process's id; an id waits for its end and is answered with its exit code.
"""

import json
import os
import signal
import sys
from pathlib import Path

from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import parse_address
from canary_audit.endpoints.budget import Budget
from canary_audit.endpoints.client import Client
from canary_audit.endpoints.dialect import Request
from canary_audit.endpoints.journal import Journal

KEY = bytes(32)


def requests(n: int) -> list[Request[int]]:
    """Requests whose right answer is their own number, at ten tokens each."""
    return [
        Request(path="/v1/number", body={"n": number}, n_tokens=10, read=lambda found: int(found["n"]), order=(number,))
        for number in range(n)
    ]


def ask_numbers(url: str, journal: str, n: int, concurrency: int) -> None:
    """Send them all."""
    config = EndpointConfig(concurrency=concurrency)
    with (
        Journal(Path(journal), KEY) as kept,
        Client(parse_address(url), None, config, kept, Budget(None, None)) as client,
    ):
        client.ask(requests(n))


def become(arguments: list) -> None:
    """Turn this forked process into one that asks; never returns."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    code = 70
    try:
        ask_numbers(*arguments)
        code = 0
    except KeyboardInterrupt:
        code = 2
    finally:
        os._exit(code)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        elif (answer := os.fork()) == 0:
            become(order)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
