"""Answers on the wire: whole and well formed, and every way in which they are not."""

import json
import threading
import zlib
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

_MEBIBYTE = 1 << 20
_DRIP_SECONDS = 0.02


class Wire:
    """The connection of one request, on which an answer is sent."""

    def __init__(self, handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        self._handler = handler
        self._closing = closing

    @property
    def credentials(self) -> str:
        """What the request brought as its key."""
        return str(self._handler.headers.get("Authorization", "")).removeprefix("Bearer ")

    def respond(
        self, status: int, content: bytes, *, headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> None:
        """One answer; `length` is what its header claims, if that is not the truth."""
        self._handler.send_response(status)
        claimed = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content) if length is None else length),
        }
        for name, value in (claimed | dict(headers or {})).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self.write(content)

    def write(self, content: bytes) -> None:
        """Bytes as they are, at once."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def drop(self) -> None:
        """Close the connection when the fault has done its work."""
        self._handler.close_connection = True

    def repeat(self, content: bytes, times: int, *, pause: float = 0.0) -> None:
        """The same bytes over and over, until the client leaves or the server closes."""
        for _ in range(times):
            if self._closing.wait(pause) if pause else self._closing.is_set():
                break
            self.write(content)
        self.drop()

    def wait(self) -> None:
        """Say nothing until the server closes."""
        self._closing.wait()
        self.drop()


def status(code: int, **headers: str):
    """A bare error status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda wire, _content: wire.respond(code, b'{"error": {"message": "simulated"}}', headers=named)


def page(content: bytes, kind: str = "application/json"):
    """Status 200, and this instead of the answer."""
    return lambda wire, _content: wire.respond(200, content, headers={"Content-Type": kind})


def redirect(location: str):
    return lambda wire, _content: wire.respond(307, b"", headers={"Location": location})


def never(wire: Wire, _content: bytes) -> None:
    wire.wait()


def hang_up(wire: Wire, _content: bytes) -> None:
    wire.drop()


def cut_off(wire: Wire, content: bytes) -> None:
    """The connection ends in the middle of the body."""
    wire.respond(200, content[: len(content) // 2], length=len(content))
    wire.drop()


def too_short_a_length(wire: Wire, content: bytes) -> None:
    """The header claims half of the body; the rest follows it on the connection."""
    wire.respond(200, content, length=len(content) // 2)


def dripping_body(wire: Wire, content: bytes) -> None:
    wire.respond(200, b"", length=_MEBIBYTE)
    wire.repeat(b" ", _MEBIBYTE, pause=_DRIP_SECONDS)


def dripping_headers(wire: Wire, _content: bytes) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    wire.repeat(b"z", _MEBIBYTE, pause=_DRIP_SECONDS)


def endless_headers(wire: Wire, _content: bytes) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\n")
    wire.repeat(b"X-More: more\r\n" * 1_000, _MEBIBYTE)


def endless_promises(wire: Wire, _content: bytes) -> None:
    """Interim answers without end, and never a final one."""
    wire.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, _MEBIBYTE)


def endless_body(wire: Wire, _content: bytes) -> None:
    """Ten gigabytes of blanks before the answer."""
    wire.respond(200, b"", length=10_000 * _MEBIBYTE)
    wire.repeat(b" " * _MEBIBYTE, 10_000)


def bad_chunks(wire: Wire, content: bytes) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + content + b"\r\n")
    wire.drop()


def bad_length(wire: Wire, content: bytes) -> None:
    wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: plenty\r\n\r\n" + content)
    wire.drop()


def no_http(wire: Wire, _content: bytes) -> None:
    wire.write(b"220 mail.example.invalid ESMTP\r\n")
    wire.drop()


def second_answer(wire: Wire, content: bytes) -> None:
    """A second answer on the heels of the first, which a careless client takes for that of its next request."""
    smuggled = content.replace(b'"logprob": -', b'"logprob": -1').replace(b": -", b": -1")
    wire.respond(200, content)
    wire.respond(200, smuggled)


def gzip_bomb(wire: Wire, _content: bytes) -> None:
    """A gigabyte of blanks in about a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    start = packer.compress(b"[") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * _MEBIBYTE) + packer.flush(zlib.Z_FULL_FLUSH)
    wire.respond(200, start + block * 1_000, headers={"Content-Encoding": "gzip"})


def key_in_refusal(wire: Wire, _content: bytes) -> None:
    """A refusal that repeats the key it was given."""
    message = {"error": {"message": f"Incorrect API key provided: {wire.credentials}"}}
    wire.respond(401, json.dumps(message).encode())
