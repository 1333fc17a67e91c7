"""What can go wrong with one request, in words of our own: the library's texts may repeat what a server sent."""

import ssl
from typing import Final

import httpx

from canary_audit.errors import EndpointError

_TRIED_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class RefusedError(EndpointError):
    """The server refused a request, and would again."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, 400 or more."""


class UnreachableError(EndpointError):
    """No answer came, for reasons that say nothing about the request: what the endpoint offers remains unknown."""

    unreachable = True


class ContradictionError(EndpointError):
    """The endpoint answers one question in two ways. It is not believed in any tier."""


class TransientError(Exception):
    """A try that failed, and may succeed next time. It never leaves `endpoints`."""

    def __init__(self, reason: str, *, pause_s: float = 0.0, blames_request: bool = False) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        """What the server asked to wait, at least."""
        self.blames_request = blames_request
        """Whether the server may fail at this request alone."""


def check_status(response: httpx.Response, where: str) -> None:
    """Let only success pass.

    Raises:
        TransientError: a status that may change.
        RefusedError: one that will not.
        EndpointError: a redirect, or no HTTP status of an answer.
    """
    status = response.status_code
    if status in _TRIED_AGAIN:
        reason = f"the server answered with status {status}"
        raise TransientError(reason, pause_s=_retry_after_s(response), blames_request=status == 500)
    if 300 <= status < 400:
        raise EndpointError(f"{where}: status {status}; redirects are not followed, give the address it leads to")
    if status in {401, 403}:
        reason = "the API key was refused, or one is needed; give it with --api-key env:NAME"
        raise RefusedError(f"{where}: {reason} (status {status})", status)
    if status == 404:
        raise RefusedError(
            f"{where}: there is no such path or model (status 404); is it another --model or --api?", status
        )
    if status >= 400:
        reason = "the server refused the request; is it another --tokenizer, or does it lack this --tier?"
        raise RefusedError(f"{where}: {reason} (status {status})", status)
    if not 200 <= status < 300:
        raise EndpointError(f"{where}: status {status} is no answer")


def explained(error: httpx.TransportError, where: str) -> Exception:
    """An error of the connection by its kind: `UnreachableError` if trying again is no use, else `TransientError`."""
    causes = _causes(error)
    if any(issubclass(cause, ssl.SSLCertVerificationError) for cause in causes):
        return UnreachableError(
            f"{where}: the server's certificate could not be verified; name the authority that issued it in [endpoint] "
            "ca_file"
        )
    if any(issubclass(cause, ssl.SSLError) for cause in causes):
        return UnreachableError(f"{where}: no TLS connection came about; is it http:// instead of https://?")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return TransientError("no connection came about")
    if isinstance(error, httpx.TimeoutException):
        return TransientError("the server fell silent")
    return TransientError("the connection broke off, or what came over it is not HTTP")


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; a date is not read, and counts as none."""
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0


def _causes(error: BaseException | None) -> list[type[BaseException]]:
    kinds = []
    while error is not None:
        kinds.append(type(error))
        error = error.__cause__ or error.__context__
    return kinds
