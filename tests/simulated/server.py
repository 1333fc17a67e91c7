"""An HTTP server in this process that serves a local model in the shape of a real server, with or without a fault."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any

from simulated.chat import Chat
from simulated.fault import Fault
from simulated.llamacpp import LlamaCpp
from simulated.model import SimulatedModel
from simulated.openai import OpenAi
from simulated.sglang import Sglang
from simulated.shape import Refused, Shape
from simulated.vllm import Vllm
from simulated.wire import Wire

SHAPES = {"vllm": Vllm, "sglang": Sglang, "llamacpp": LlamaCpp, "openai": OpenAi, "chat": Chat}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One request as it arrived."""

    method: str
    path: str
    body: Any
    """Decoded JSON; None of a GET."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class SimulatedServer:
    """A running server. `url` is its base address, without a slash at the end."""

    shape: Shape
    faulty: Shape
    """The same shape over the fault's model; `shape` itself if the fault leaves the model alone."""
    fault: Fault | None
    good_requests: int
    api_key: str | None
    url: str = ""
    requests: list[Recorded] = field(default_factory=list)
    answered: int = 0
    """Requests whose answer was what this server says when it is well, sent to the end."""
    errors: list[BaseException] = field(default_factory=list)
    """What went wrong inside the simulation itself; empty unless it has a bug."""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n_requests(self) -> int:
        return len(self.requests)

    def record(self, request: Recorded) -> Fault | None:
        """Count a request; the fault it meets, if any."""
        with self.lock:
            number = len(self.requests) - self.good_requests
            self.requests.append(request)
        if self.fault is None or number < 0 or (self.fault.lasts is not None and number >= self.fault.lasts):
            return None
        return self.fault

    def reply(self, request: Recorded, fault: Fault | None = None) -> tuple[int, bytes]:
        """Status and encoded answer, whatever the wire then does to it."""
        status, answer = self._answer(request, fault)
        content = json.dumps(answer, allow_nan=fault is not None).encode()
        return status, content if fault is None else fault.rewrite(content)

    def _answer(self, request: Recorded, fault: Fault | None) -> tuple[int, Any]:
        try:
            body = self._admitted(request)
            if fault is None:
                return 200, self.shape.answer(request.method, request.path, body)
            answer = self.faulty.answer(request.method, request.path, fault.ask(body))
            return 200, fault.change(answer) if request.method == "POST" else answer
        except Refused as refusal:
            return refusal.status, {"error": {"message": refusal.message, "code": refusal.status}}

    def _admitted(self, request: Recorded) -> dict[str, Any]:
        """The body of a request that brings the key, if one is needed."""
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            raise Refused(401, "Incorrect API key provided.")
        body = request.body or {}
        if not isinstance(body, dict):
            raise Refused(400, "the body must be a JSON object")
        return body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one piece
    simulation: SimulatedServer
    server: "_HttpServer"

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._serve(json.loads(content))
        except ValueError:
            self._send(400, b'{"error": {"message": "not JSON"}}')

    def _serve(self, body: Any) -> None:
        request = Recorded(method=self.command, path=self.path, body=body, headers=dict(self.headers))
        fault = self.simulation.record(request)
        status, content = self.simulation.reply(request, fault)
        if fault is None or fault.send is None:
            self._send(status, content)
            with self.simulation.lock:
                self.simulation.answered += fault is None and status == 200
        else:
            fault.send(Wire(self, self.simulation.closing), content)

    def _send(self, status: int, content: bytes) -> None:
        Wire(self, self.simulation.closing).respond(status, content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, simulation: SimulatedServer) -> None:
        handler = type("Handler", (_Handler,), {"simulation": simulation})
        super().__init__(("127.0.0.1", 0), handler)
        self.simulation = simulation
        self.connections: set[socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.simulation.lock:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.simulation.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.simulation.errors.append(error)

    def hang_up(self) -> None:
        """Close what is still open: idle connections would keep their threads waiting."""
        self.simulation.closing.set()
        with self.simulation.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(SHUT_RDWR)
                except OSError:
                    continue  # the client was faster


def simulation(
    model: SimulatedModel,
    shape: str,
    *,
    fault: Fault | None = None,
    good_requests: int = 0,
    api_key: str | None = None,
    **switches: Any,
) -> SimulatedServer:
    """What a server says, without one: see `simulated_server`, which puts it on the network."""
    well = SHAPES[shape](model=model, **switches)
    ill = well if fault is None else SHAPES[shape](model=fault.model(model), likeliest=fault.likeliest, **switches)
    return SimulatedServer(shape=well, faulty=ill, fault=fault, good_requests=good_requests, api_key=api_key)


@contextmanager
def simulated_server(model: SimulatedModel, shape: str, **settings: Any) -> Iterator[SimulatedServer]:
    """Serve `model` as `shape` (a key of `SHAPES`) on a free port of this machine.

    Args:
        settings: `fault`, what is wrong with it (see `faults`), from request number `good_requests` on (the first is
            0); `api_key`, what requests must bring as a bearer token; and fields of the shape, such as
            `supports_token_ids=False`.
    """
    running = simulation(model, shape, **settings)
    with _HttpServer(running) as server:
        running.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            server.hang_up()
            thread.join()
    if running.errors:
        raise running.errors[0]
