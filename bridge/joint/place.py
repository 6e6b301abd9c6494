"""Where two machines meet, as a URL: `tcp+tls://host:port`, `wss://host:port/path`, `quic://host:port`,
`libp2p:///ip4/…/tcp/…`, `ssh://user@host`, `unix:/path`, `stdio:`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from ..errors import UsageError

HOSTED = ("tcp+tls", "wss", "quic")
SCHEMES = (*HOSTED, "libp2p", "ssh", "unix", "stdio")
LISTEN = (*HOSTED, "libp2p", "unix", "stdio")
CONNECT = (*HOSTED, "libp2p", "ssh", "unix")
SHAPES = "tcp+tls://HOST:PORT, wss://HOST:PORT/PATH, quic://HOST:PORT, libp2p:///MULTIADDR, ssh://USER@HOST, unix:/PATH"


@dataclass(frozen=True, slots=True)
class Place:
    """One URL, read."""

    scheme: str
    host: str = ""
    """Name or address; empty where a listener takes every address."""
    port: int = 0
    path: str = ""
    """Of a URL, a socket, or a multiaddr."""
    user: str = ""

    def __str__(self) -> str:
        if self.scheme in HOSTED:
            host = f"[{self.host}]" if ":" in self.host else self.host or "*"
            return f"{self.scheme}://{host}:{self.port}{self.path}"
        if self.scheme == "ssh":
            port = f":{self.port}" if self.port else ""
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"ssh://{self.user + '@' if self.user else ''}{host}{port}"
        return f"{self.scheme}:{'//' if self.scheme == 'libp2p' else ''}{self.path}"


def parse(text: str, purpose: Literal["listen", "connect"]) -> Place:
    """Read a URL. Raises UsageError."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise _wrong(text, f"{error}") from error
    scheme = url.scheme
    if scheme not in SCHEMES:
        raise _wrong(text, f"There is no way called {scheme!r}" if scheme else "It names no way")
    if scheme not in (LISTEN if purpose == "listen" else CONNECT):
        raise UsageError(
            f"{scheme}: is nothing to {purpose} at.",
            "sshd listens already." if scheme == "ssh" else "Standard input and output are somebody's already.",
            "See `netbridge link --help`.",
        )
    if url.query or url.fragment:
        raise _wrong(text, "Nothing may follow ? or #")
    if url.password is not None:
        raise _wrong(text, "A password stands in it, which everybody on this machine can see")
    if scheme in HOSTED:
        return _hosted(text, url, port, purpose)
    if scheme == "ssh":
        if not url.hostname or url.hostname.startswith("-") or (url.username or "").startswith("-"):
            raise _wrong(text, "It names no host")
        return Place(scheme, url.hostname, port or 0, user=url.username or "")
    if url.netloc or (scheme != "stdio" and not url.path.startswith("/")):
        raise _wrong(text, f"It is {'libp2p:///ip4/…' if scheme == 'libp2p' else f'{scheme}:/PATH'}")
    return Place(scheme, path=url.path)


def _hosted(text: str, url: SplitResult, port: int | None, purpose: str) -> Place:
    if url.username is not None:
        raise _wrong(text, "It names a user, and there are none")
    if port is None or (not port and purpose == "connect"):
        raise _wrong(text, "It names no port")
    if url.path not in {"", "/"} and url.scheme != "wss":
        raise _wrong(text, "Nothing may follow the port")
    host = url.hostname or ""
    if purpose == "connect" and host in {"", "*"}:
        raise _wrong(text, "It names no host")
    path = (url.path or "/") if url.scheme == "wss" else ""
    return Place(url.scheme, "" if host == "*" else host, port, path)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} is no place to meet at.", f"{why}.", f"Write it as {SHAPES}.")
