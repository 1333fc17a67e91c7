"""One request to a served model: where it may go, how long it may take, how large its answer may be, how often it is
tried. There are no redirects, proxies, cookies or compressed answers."""

import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
import httpx

from canary_audit import __version__
from canary_audit.config import EndpointConfig
from canary_audit.endpoints.address import Address, ApiKey, literal_ip
from canary_audit.endpoints.failures import TransientError, UnreachableError, check_status, explained
from canary_audit.endpoints.strict_json import BrokenJsonError
from canary_audit.errors import ConfigError, EndpointError

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0
_CONNECT_S: Final = 10.0
"""A server may think about an answer for as long as the deadline allows, but not about a connection."""


class Connection:
    """Requests to one served model, on at most `config.concurrency` connections that are kept open."""

    def __init__(self, address: Address, key: ApiKey | None, config: EndpointConfig) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigError: the key would travel in the clear, or `config.ca_file` cannot be used.
        """
        self._address = address
        self._key = key
        self._config = config
        self._name_is_checked = False
        if (ip := literal_ip(address.host)) is not None:
            address.check_peer(ip, has_key=key is not None)
        limits = httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
        # A bare transport, not a client: it knows neither redirects nor proxies, cookies, netrc or log lines.
        self._transport = httpx.AsyncHTTPTransport(
            verify=_trust(address, config), trust_env=False, http1=True, http2=False, limits=limits, retries=0
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def send(self, path: str, content: bytes | None, decode: Callable[[bytes], T]) -> T:
        """POST JSON text, or GET if there is none; returns what `decode` makes of the answer's body.

        Requests refused for load (429), failed (5xx) or broken off are tried again after growing pauses, as is an
        answer for which `decode` raises `BrokenJsonError`; all tries share one deadline.

        Raises:
            RefusedError: the server refused it with a status that will not change.
            UnreachableError: no connection, no trust in it, or no answer in time; which says nothing about the request.
            EndpointError: a redirect, a server that fails at this request, or an answer that is too large or no JSON.
            ConfigError: the host's name leads to a machine that is refused.
        """
        where = f"{self._address}{path}"
        failure, n_tries = TransientError("no whole answer came"), 0
        with anyio.move_on_after(self._config.deadline_seconds) as scope:
            while n_tries < self._config.tries:
                n_tries += 1
                try:
                    return await self._try(where, content, decode)
                except TransientError as error:
                    failure = error
                pause_s = max(failure.pause_s, _pause_s(n_tries))
                if n_tries == self._config.tries or anyio.current_time() + pause_s >= scope.deadline:
                    break
                await anyio.sleep(pause_s)
        kind = EndpointError if failure.blames_request and not scope.cancelled_caught else UnreachableError
        raise kind(
            f"{where}: {failure} (tries: {n_tries}, deadline: {self._config.deadline_seconds:g} s); see to the server, "
            "or raise [endpoint] tries and deadline_seconds, or lower concurrency; what was answered is kept"
        )

    async def _try(self, where: str, content: bytes | None, decode: Callable[[bytes], T]) -> T:
        try:
            await self._check_name()
            async with self._response(where, content) as response:
                check_status(response, where)
                body = await self._body(response, where)
            return decode(body)
        except BrokenJsonError:
            reason = "the answer is no JSON text, or only a part of one"
            raise TransientError(reason, blames_request=True) from None
        except httpx.TransportError as error:
            raise explained(error, where) from None
        except (httpx.InvalidURL, httpx.HTTPError):
            raise EndpointError(f"{where}: the request could not be sent") from None

    @asynccontextmanager
    async def _response(self, where: str, content: bytes | None) -> AsyncIterator[httpx.Response]:
        wait_s = self._config.deadline_seconds
        request = httpx.Request(
            "GET" if content is None else "POST",
            where,
            headers=self._headers(content),
            content=content,
            extensions={
                "timeout": {"connect": min(_CONNECT_S, wait_s), "read": wait_s, "write": wait_s, "pool": wait_s},
                "trace": self._check_peer,
            },
        )
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    def _headers(self, content: bytes | None) -> dict[str, str]:
        return {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"canary-audit/{__version__}",
            **({} if content is None else {"Content-Type": "application/json"}),
            **({} if self._key is None else self._key.header()),
        }

    async def _check_name(self) -> None:
        """Look the host's name up before the first request, for a plain message; `_check_peer` decides."""
        if self._name_is_checked:
            return
        try:
            found = await anyio.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise UnreachableError(
                f"{self._address}: the host's name cannot be resolved; is it spelled right?"
            ) from None
        for *_, peer in found:
            self._check_ip(peer[0])
        self._name_is_checked = True

    async def _check_peer(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the transport as it works: once connected, and before a byte is sent, see who is there."""
        if event != "connection.connect_tcp.complete":
            return
        stream = info["return_value"]
        try:
            self._check_ip(stream.get_extra_info("server_addr")[0])
        except BaseException:
            await stream.aclose()
            raise

    def _check_ip(self, text: Any) -> None:
        ip = literal_ip(str(text))
        if ip is None:
            raise EndpointError(f"{self._address}: the server has no IP address")
        self._address.check_peer(ip, has_key=self._key is not None)

    async def _body(self, response: httpx.Response, where: str) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise EndpointError(f"{where}: the answer is compressed, which was not asked for; switch it off there")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._config.max_body_bytes:
                raise EndpointError(
                    f"{where}: the answer is larger than {self._config.max_body_bytes} bytes and was not read on; "
                    "raise [endpoint] max_body_bytes if that is right"
                )
        return bytes(body)


def _trust(address: Address, config: EndpointConfig) -> ssl.SSLContext | bool:
    """Which certificates are believed: the public authorities' unless a file names others."""
    if address.scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # believes none, and is ready at once
    if not config.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:  # includes ssl.SSLError
        reason = "no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"[endpoint] ca_file: {config.ca_file}: {reason}") from None


def _pause_s(n_tries: int) -> float:
    """Doubled each time, and spread out, so that requests refused together do not come back together."""
    longest_s = min(_FIRST_PAUSE_S * 2 ** (n_tries - 1), _LONGEST_PAUSE_S)
    return random.SystemRandom().uniform(longest_s / 2, longest_s)
