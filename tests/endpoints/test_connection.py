"""One request to a server that is slow, broken or hostile: it ends in time, in little memory, and in plain words."""

import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc

import anyio
import pytest
from raw_server import RawServer, always, in_turn, reply

from canary_audit.config import EndpointConfig
from canary_audit.endpoints import connection as wire
from canary_audit.endpoints.address import ApiKey, parse_address
from canary_audit.endpoints.connection import Connection
from canary_audit.endpoints.failures import RefusedError, UnreachableError
from canary_audit.endpoints.strict_json import decode_json
from canary_audit.errors import ConfigError, EndpointError

KEY = "sk-3vErYsEcReT"
SECRET = "281265017"  # noqa: S105
OK = reply({"id": 1})
SHORT = {"deadline_seconds": 0.6, "tries": 3}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(wire, "_FIRST_PAUSE_S", 0.01)


def send(url: str, *, content: bytes | None = b'{"prompt": "281265017"}', key: str | None = KEY, **settings):
    """What one request gets."""

    async def once():
        connection = Connection(parse_address(url), ApiKey(key) if key else None, EndpointConfig(**settings))
        try:
            return await connection.send("/v1/completions", content, decode_json)
        finally:
            await connection.aclose()

    return anyio.run(once)


def refusal(url: str, kind: type[Exception] = EndpointError, **settings) -> str:
    """The message of the error that one request gets; no message holds a secret."""
    with pytest.raises(kind) as caught:
        send(url, **settings)
    message = str(caught.value)
    assert not any(text in message for text in (KEY, SECRET, "Bearer"))
    return message


def test_a_request_says_who_asks_and_what():
    with RawServer(answer=always(OK)) as server:
        assert send(f"{server.url}/v1") == {"id": 1}
        assert send(server.url, content=None, key=None) == {"id": 1}
    posted, got = server.seen
    assert posted.line == "POST /v1/completions HTTP/1.1"
    assert posted.json == {"prompt": SECRET}
    assert posted.headers["authorization"] == f"Bearer {KEY}"
    assert posted.headers["accept-encoding"] == "identity"
    assert got.line == "GET /v1/completions HTTP/1.1"
    assert "authorization" not in got.headers


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_refusal_for_load_is_tried_again(status):
    with RawServer(answer=in_turn(reply(b"busy", status=status), reply(b"busy", status=status), OK)) as server:
        assert send(server.url) == {"id": 1}
    assert len(server.seen) == 3


def test_a_server_that_always_fails_is_given_up():
    with RawServer(answer=always(reply(SECRET.encode(), status=500))) as server:
        message = refusal(server.url, tries=4)
    assert len(server.seen) == 4
    assert "status 500" in message
    assert f"127.0.0.1:{server.port}/v1/completions" in message


def test_a_server_that_is_always_busy_says_nothing_about_the_request():
    with RawServer(answer=always(reply(b"", status=429))) as server, pytest.raises(UnreachableError) as caught:
        send(server.url, tries=2)
    assert caught.value.unreachable


def test_the_server_is_given_the_time_it_asks_for():
    with RawServer(answer=in_turn(reply(b"", status=429, headers="Retry-After: 1\r\n"), OK)) as server:
        start = time.monotonic()
        send(server.url)
        assert time.monotonic() - start >= 1
    with RawServer(answer=always(reply(b"", status=429, headers="Retry-After: 3600\r\n"))) as server:
        start = time.monotonic()
        assert "429" in refusal(server.url)
        assert time.monotonic() - start < 1, "an hour is beyond the deadline, so there is nothing to wait for"


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "400"), (401, "--api-key"), (403, "--api-key"), (404, "--api"), (501, "501")]
)
def test_a_refusal_that_will_not_change_is_not_tried_again(status, hint):
    with RawServer(answer=always(reply(SECRET.encode(), status=status))) as server:
        assert hint in refusal(server.url, RefusedError)
        with pytest.raises(RefusedError) as caught:
            send(server.url)
    assert caught.value.status == status
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status):
    with RawServer(answer=always(OK)) as target:
        location = f"Location: {target.url}/\r\n"
        with RawServer(answer=always(reply(b"", status=status, headers=location))) as server:
            assert "redirects are not followed" in refusal(server.url)
    assert target.connections == 0
    assert len(server.seen) == 1


def drip(content: bytes, pause_s: float = 0.02):
    def answer(one: socket.socket, _seen) -> None:
        for byte in content:
            one.sendall(bytes([byte]))
            time.sleep(pause_s)

    return answer


@pytest.mark.parametrize("content", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400, reply(b'{"a": "' + b"x" * 400)])
def test_an_answer_that_drips_in_is_cut_off_at_the_deadline(content):
    with RawServer(answer=drip(content)) as server:
        start = time.monotonic()
        assert "deadline" in refusal(server.url, UnreachableError, **SHORT)
        assert 0.5 < time.monotonic() - start < 2


def test_a_silent_server_is_left_at_the_deadline():
    with RawServer(answer=lambda _one, _seen: time.sleep(3)) as server:
        start = time.monotonic()
        refusal(server.url, UnreachableError, **SHORT)
        assert time.monotonic() - start < 2


def test_an_endless_answer_is_refused_in_little_memory():
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    sent = []

    def answer(one: socket.socket, _seen) -> None:
        one.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10_000):
            one.sendall(chunk)
            sent.append(len(chunk))

    with RawServer(answer=answer) as server:
        tracemalloc.start()
        assert "max_body_bytes" in refusal(server.url, max_body_bytes=4_000_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert sum(sent) < 40_000_000
    assert peak < 40_000_000
    assert len(server.seen) == 1, "it is not asked for again"


def test_endless_headers_are_refused():
    def answer(one: socket.socket, _seen) -> None:
        one.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            one.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")

    with RawServer(answer=answer) as server:
        assert "not HTTP" in refusal(server.url, tries=2)


def test_compressed_answers_are_refused_before_they_grow():
    bomb = gzip.compress(bytes(20_000_000))
    with RawServer(answer=always(reply(bomb, headers="Content-Encoding: gzip\r\n"))) as server:
        assert "compressed" in refusal(server.url)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",  # shorter than it says
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n" + b'{"id": ',  # ends with the connection
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 99999 OK\r\n\r\n{}",
        reply(b"<html>"),
        reply(b'{"a": 1}}'),
        reply(b""),
        reply(b'"\xff"'),
        reply(b"1" * 5000),
    ],
)
def test_a_broken_answer_is_tried_again(broken):
    def answer(one: socket.socket, seen) -> None:
        one.sendall(OK if seen.number == 2 else broken)
        if seen.number < 2:
            one.shutdown(socket.SHUT_RDWR)

    with RawServer(answer=answer) as server:
        assert send(server.url) == {"id": 1}
        assert len(server.seen) == 3
        server.seen.clear()
        refusal(server.url, tries=2)
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"p": NaN}',
        b'{"p": -Infinity}',
        b'{"p": 1e999}',
        b'{"a": 1, "a": 2}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'"\\ud800"',
    ],
)
def test_json_that_cannot_be_right_is_refused_at_once(body):
    with RawServer(answer=always(reply(body))) as server, pytest.raises(EndpointError, match="the answer"):
        send(server.url)
    assert len(server.seen) == 1


def test_nobody_at_the_address_is_said_plainly(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "no connection" in refusal(f"http://127.0.0.1:{port}", UnreachableError, tries=2)

    async def lookup(*_arguments, **_options):
        raise socket.gaierror(socket.EAI_NONAME, SECRET)

    monkeypatch.setattr(anyio, "getaddrinfo", lookup)
    assert "cannot be resolved" in refusal("http://no-such-host.invalid", UnreachableError)


def test_a_name_that_leads_to_a_metadata_service_is_refused_before_anything_is_sent(monkeypatch):
    """Once by looking it up, and once by who is there when a name leads elsewhere the second time."""
    with RawServer(answer=always(OK)) as server:
        address = parse_address(server.url)
        looked_up = [(0, 0, 0, "", ("169.254.169.254", address.port))]

        async def lookup(*_arguments, **_options):
            return looked_up

        monkeypatch.setattr(anyio, "getaddrinfo", lookup)
        assert "169.254.169.254" in refusal(f"http://localhost:{server.port}", ConfigError)
        assert server.connections == 0
        monkeypatch.undo()
        monkeypatch.setattr(Connection, "_check_name", lookup)
        monkeypatch.setattr("canary_audit.endpoints.address.Address.check_peer", refuse_loopback)
        assert "refused by test" in refusal(f"http://localhost:{server.port}", ConfigError)
    assert server.seen == []


def refuse_loopback(self, ip, *, has_key):
    raise ConfigError(f"refused by test: {ip.is_loopback}")


def test_neither_proxies_nor_cookies_nor_netrc_are_used(monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with RawServer(answer=always(OK)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        cookie = reply(b"", status=503, headers="Set-Cookie: a=b\r\n")
        with RawServer(answer=in_turn(cookie, OK)) as server:
            send(server.url, key=None)
    assert proxy.connections == 0
    assert not any({"cookie", "authorization"} & set(seen.headers) for seen in server.seen)


def test_the_key_is_in_no_log(caplog):
    echo = reply({"id": 1}, headers="X-Id: 1\r\n")
    with caplog.at_level(logging.DEBUG), RawServer(answer=in_turn(reply(b"", status=500), echo)) as server:
        send(server.url)
    assert KEY not in caplog.text
    assert SECRET not in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody vouches for, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_name(f"{path.name}.crt").read_text())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_named(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with RawServer(answer=always(OK), tls=context) as server:
        message = refusal(server.url, UnreachableError)
        assert "certificate" in message
        assert "ca_file" in message
        assert server.connections == 1, "it is not tried again"
        assert server.seen == []
        assert send(server.url, ca_file=str(certificate)) == {"id": 1}


def test_tls_to_a_plain_server_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as one:
                one.recv(10_000)
                one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert "http://" in refusal(f"https://127.0.0.1:{listener.getsockname()[1]}", UnreachableError)


def test_certificate_files_are_checked_before_anything_is_sent(tmp_path):
    (tmp_path / "text").write_text("no certificate\n")
    for name in ("text", "nowhere"):
        assert "ca_file" in refusal("https://127.0.0.1:1", ConfigError, ca_file=str(tmp_path / name))
    assert "unencrypted" in refusal("http://8.8.8.8", ConfigError)
