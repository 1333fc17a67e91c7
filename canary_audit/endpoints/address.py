"""Where a served model is, which places are refused, and the key that opens it."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn
from urllib.parse import urlsplit

from canary_audit.errors import ConfigError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORM: Final = "write it as https://host/v1 or http://host:port"
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,251}[a-z0-9])?\.?")
_ENDS_IN_A_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")
"""What resolvers take for an IPv4 address: 2852039166, 0xa9.0xfe.1, 127.1 and the usual form."""
_BASE_PATH: Final = re.compile(r"(/[A-Za-z0-9_~:@.-]+)*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_LIMIT: Final = 8_192

_REFUSED_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "fe80::/10", "ff00::/8"),
        # What cloud machines ask for their own credentials outside the link-local networks.
        *("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::254/128"),
    )
)
_CARRIES_IPV4: Final = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""IPv6 networks whose last 32 bits are an IPv4 address: "IPv4-compatible" (RFC 4291) and NAT64 (RFC 6052)."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """The base URL of a served model, in parts; `str()` puts them together. It can hold no credentials."""

    scheme: Literal["http", "https"]
    host: str
    """A name or an IP address, in lower case; IPv6 without brackets."""
    port: int
    path: str
    """Base path without a slash at the end, often empty; `/v1` is left to the requests."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}{'' if self.port == usual else f':{self.port}'}{self.path}"

    def check_peer(self, ip: IPAddress, *, has_key: bool) -> None:
        """Refuse a machine that `host` names, before anything is said to it.

        Raises:
            ConfigError: it is link-local, a cloud's metadata service, multicast or unspecified; or a key would travel
                to it over a public network in the clear.
        """
        plain = _without_disguise(ip)
        if any(plain in network for network in _REFUSED_NETWORKS):
            raise ConfigError(
                f"{self}: leads to {plain}, a link-local, metadata, multicast or unspecified address, where no model "
                "is served; give the address of the server itself"
            )
        if has_key and self.scheme == "http" and not plain.is_private:
            raise ConfigError(
                f"{self}: the API key would cross a public network unencrypted; use https://, or a tunnel to a "
                "local port"
            )


class ApiKey:
    """A key that cannot be printed by mistake."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def header(self) -> dict[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self._value}"}

    def __repr__(self) -> str:
        return "ApiKey(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not written anywhere")


def parse_address(url: str) -> Address:
    """Check the URL of a served model and take it apart; a `/v1` at its end is dropped.

    Raises:
        ConfigError: it is not such a URL, holds credentials (they are not repeated), or names a refused machine.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"the address of the model holds characters other than printable ASCII; {_FORM}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text would repeat parts of the URL
        raise ConfigError(f"the address of the model cannot be read; {_FORM}") from None
    _refuse_extras(url)
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(f"the address of the model must begin with http:// or https://; {_FORM}")
    if port == 0:
        raise ConfigError("the address of the model: port 0 is none; give the one that the server listens on")
    path = parts.path.rstrip("/").removesuffix("/v1")
    if not _BASE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"the address of the model has an unusual path; {_FORM}")
    address = Address(
        scheme="https" if parts.scheme == "https" else "http",
        host=_checked_host(parts.hostname or ""),
        port=port or (443 if parts.scheme == "https" else 80),
        path=path,
    )
    if (ip := literal_ip(address.host)) is not None:
        address.check_peer(ip, has_key=False)
    return address


def literal_ip(host: str) -> IPAddress | None:
    """The IP address that `host` spells, or None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def read_api_key(reference: str | None) -> ApiKey | None:
    """The key behind `env:NAME` or `file:PATH`; None for None.

    Raises:
        ConfigError: anything else was given (it is not repeated: it may be the key itself), or the key is missing,
            empty, or no printable ASCII.
    """
    if reference is None:
        return None
    kind, _, name = reference.partition(":")
    if kind == "env" and _VARIABLE.fullmatch(name):
        # A key given in place of a name must not be repeated; names of variables are in capitals.
        where = f"env:{name}" if name.isupper() else "the environment variable of --api-key"
        value = os.environ.get(name, "")
    elif kind == "file" and name:
        where = f"file:{name}" if "/" in name or Path(name).exists() else "the file of --api-key"
        value = _read_key_file(Path(name), where)
    else:
        raise ConfigError("the API key is given as env:NAME or file:PATH, never itself; what was given is not repeated")
    value = value.strip("\r\n")
    if not value:
        raise ConfigError(f"{where}: holds no API key; set it, or leave --api-key out")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{where}: an API key is one line of printable ASCII without spaces; this is not")
    return ApiKey(value)


def _refuse_extras(url: str) -> None:
    """No credentials, queries, fragments or backslashes, on which two parsers of URLs might disagree."""
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise ConfigError("the address of the model holds credentials; remove them, and give --api-key env:NAME")
    for mark, name in (("?", "a query"), ("#", "a fragment"), ("\\", "a backslash")):
        if mark in url:
            raise ConfigError(f"the address of the model has {name}, which is no part of a base URL; {_FORM}")


def _checked_host(host: str) -> str:
    if literal_ip(host) is not None and "%" not in host:
        return host
    if not _HOST.fullmatch(host):
        raise ConfigError(f"the address of the model names no host; {_FORM}")
    if _ENDS_IN_A_NUMBER.fullmatch(host):
        raise ConfigError("the address of the model spells an IP address in an unusual way; write four decimal numbers")
    return host


def _without_disguise(ip: IPAddress) -> IPAddress:
    """The IPv4 address inside an IPv6 address that stands for one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if inner := ip.ipv4_mapped or ip.sixtofour:
        return inner
    if ip.packed[12:] not in {bytes(4), b"\0\0\0\1"} and any(ip in network for network in _CARRIES_IPV4):
        return ipaddress.IPv4Address(ip.packed[12:])
    return ip


def _read_key_file(path: Path, where: str) -> str:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(_KEY_LIMIT + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a usable path"
        raise ConfigError(f"{where}: the API key cannot be read: {reason}") from None
    if len(content) > _KEY_LIMIT:
        raise ConfigError(f"{where}: too long for an API key; give the file that holds nothing else")
    return content.decode("latin-1")  # what is not ASCII is refused by the caller
