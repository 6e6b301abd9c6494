"""HOST[:PORT] as a person writes it: a name, an address, [IPv6]:port, or a URL whose host and port are meant."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import UsageError

FORMS = "Write a name or an address, with a port where one is meant: db.corp.internal:5432, [fd00::1]:443, or a URL."
PORTS = {
    "http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21, "ssh": 22, "sftp": 22, "postgres": 5432,
    "postgresql": 5432, "mysql": 3306, "mongodb": 27017, "redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671,
    "ldap": 389, "ldaps": 636, "git": 9418, "imap": 143, "imaps": 993, "smtp": 25,
}  # fmt: skip
"""What a URL without a port means (IANA's service names)."""
_NAME = re.compile(r"(?=.{1,253}\Z)[^\s/:@\[\]%.]{1,63}(?:\.[^\s/:@\[\]%.]{1,63})*\.?\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """What is asked about."""

    host: str
    """A name in lower case (perhaps a short one), or an address."""
    port: int
    """0: none was named."""

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, when it is an address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host} port {self.port}" if self.port else self.host


def parse_place(text: str) -> Place:
    """Understand HOST[:PORT], also within a URL. Raises UsageError."""
    text = text.strip()
    if not text.isprintable():
        raise _refused(text, "It holds control or invisible characters.")
    if "://" in text:
        return _from_url(text)
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _refused(text, "Brackets enclose an IPv6 address, and a colon and the port may follow.")
        port = rest[1:]
        if rest and not port:
            raise _refused(text, "Nothing stands behind the colon.")
        return Place(_host(text, host, version=6), _port(text, port))
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise _refused(text, "Nothing stands behind the colon.")
    return Place(_host(text, host), _port(text, port))


def _from_url(text: str) -> Place:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused(text, f"As a URL it is broken: {error}.") from None
    if port is None:
        port = PORTS.get(parts.scheme.lower(), 0)
    return Place(_host(text, host), port)


def _host(text: str, host: str, version: int = 0) -> str:
    if "%" in host:
        raise _refused(text, "An address with a zone (%) means a neighbour of one machine only.")
    try:
        address = ipaddress.ip_address(host)
        if not version or address.version == version:
            return str(address)
    except ValueError:
        if not version and _NAME.match(host):
            return host.lower()
    raise _refused(text, "The host is neither a name nor an address." if host else "It names no host.")


def _port(text: str, port: str) -> int:
    if not port:
        return 0
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _refused(text, f"{port!r} is no port; a port is a number from 1 to 65535.")
    return int(port)


def _refused(text: str, why: str) -> UsageError:
    return UsageError(f"{text[:300]!r} is no destination.", why, FORMS)
