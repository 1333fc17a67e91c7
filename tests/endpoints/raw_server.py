"""A server made of bare sockets: it can break every rule of HTTP, and remembers what it was asked."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request that came in whole."""

    number: int
    """Place in the order of arrival, from 0."""
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[socket.socket, Seen], None]
"""Writes to the socket what it likes; may close it."""


def reply(body: Any = None, *, status: int = 200, headers: str = "") -> bytes:
    """A well-formed answer; `body` is bytes, or made JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


@dataclass(kw_only=True)
class RawServer:
    """Serves on a free local port for as long as its context lasts; one thread a connection."""

    answer: Answer
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> "RawServer":
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self._open.append(one)
                self.connections += 1
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client went away, or the answer closed the connection
            if self.tls:
                one = self.tls.wrap_socket(one, server_side=True)
            with one, one.makefile("rb") as stream:
                while line := stream.readline():
                    seen = self._read(line, stream)
                    self.answer(one, seen)

    def _read(self, line: bytes, stream: Any) -> Seen:
        headers = {}
        while (header := stream.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(length := int(headers.get("content-length", 0)))
        if len(body) < length:
            raise ValueError("the client went away")
        with self._lock:
            seen = Seen(number=len(self.seen), line=line.decode().strip(), headers=headers, body=body)
            self.seen.append(seen)
        return seen


def always(content: bytes) -> Answer:
    """The same bytes to whatever is asked."""
    return lambda one, _seen: one.sendall(content)


def in_turn(*contents: bytes) -> Answer:
    """These answers one after the other; the last one again and again."""
    return lambda one, seen: one.sendall(contents[min(seen.number, len(contents) - 1)])
