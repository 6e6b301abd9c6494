"""`[LOCAL:]HOST:PORT` as `netbridge forward` is told it, and the addresses it listens on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError

LOOPBACK = ("127.0.0.1", "::1")
"""Where nothing else is said: nobody but this machine."""
MOST = 4
"""Parts that any form has."""
_PART = re.compile(r"\[([^\[\]]*)\]|([^:\[\]]*)")


@dataclass(frozen=True, slots=True)
class Forward:
    """One local listener and the place that it leads to."""

    listen: tuple[str, ...]
    """Addresses of this machine."""
    port: int
    """Port there; 0: any."""
    host: str
    """Name or address over there."""
    host_port: int


def parse_forward(text: str) -> Forward:
    """HOST:PORT, LOCALPORT:HOST:PORT or ADDRESS:LOCALPORT:HOST:PORT; IPv6 addresses in brackets. Raises UsageError."""
    parts = _split(text)
    if not 2 <= len(parts) <= 4:
        raise _wrong(text, "It has none of the forms HOST:PORT, LOCALPORT:HOST:PORT, ADDRESS:LOCALPORT:HOST:PORT")
    host, port = parts[-2], _port(text, parts[-1])
    if not host:
        raise _wrong(text, "It names no host")
    local = _port(text, parts[-3], least=0) if len(parts) > 2 else port
    listen = (parts[0] or "0.0.0.0",) if len(parts) == 4 else LOOPBACK  # noqa: S104  (asked for by a colon)
    return Forward(("0.0.0.0", "::") if listen == ("*",) else listen, local, host, port)  # noqa: S104  (asked for)


def parse_listen(text: str) -> tuple[tuple[str, ...], int]:
    """[ADDRESS:]PORT: (addresses, port). Raises UsageError."""
    parts = _split(text)
    if not 1 <= len(parts) <= 2:
        raise _wrong(text, "It is no [ADDRESS:]PORT")
    return (parts[0],) if len(parts) == 2 else LOOPBACK, _port(text, parts[-1], least=0)


def _split(text: str) -> list[str]:
    parts, position = [], 0
    while True:
        match = _PART.match(text, position)
        assert match
        parts.append(match[1] if match[1] is not None else match[2])
        position = match.end()
        if position == len(text) or len(parts) > MOST:
            return parts
        if text[position] != ":":
            raise _wrong(text, "IPv6 addresses stand in brackets, as in 8080:[::1]:80")
        position += 1


def _port(text: str, part: str, least: int = 1) -> int:
    if not (part.isascii() and part.isdigit() and len(part) <= 5 and least <= int(part) < 65536):
        raise _wrong(text, f"{part!r} is no port")
    return int(part)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} is not understood.", f"{why}.", "Write it as 5432:localhost:5432, or localhost:5432.")
