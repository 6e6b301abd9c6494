"""The server's side of SOCKS5 (RFC 1928), as far as a place is asked for: bytes in, bytes out, no I/O.

CONNECT by name, IPv4 and IPv6, without a password; BIND and UDP ASSOCIATE are answered as not supported. Names are
passed on unresolved, which is what `socks5h` in curl means.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct

VERSION = 5
NO_PASSWORD, NO_METHOD = 0x00, 0xFF
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4
_PORT = Struct("!H")

SUCCEEDED, FAILURE, UNREACHABLE_NETWORK, UNREACHABLE_HOST, REFUSED, EXPIRED, NO_COMMAND, NO_ADDRESS = (
    0, 1, 3, 4, 5, 6, 7, 8,
)  # fmt: skip
"""Replies (section 6)."""
_CODES = {
    "ECONNREFUSED": REFUSED, "ENETUNREACH": UNREACHABLE_NETWORK, "EHOSTUNREACH": UNREACHABLE_HOST,
    "EAI_NONAME": UNREACHABLE_HOST, "EAI_AGAIN": UNREACHABLE_HOST, "EAI_NODATA": UNREACHABLE_HOST,
    "ETIMEDOUT": EXPIRED,
}  # fmt: skip


def reply(code: int) -> bytes:
    """The answer to a request. The address is none: ours in the codespace would mean nothing to the client."""
    return bytes((VERSION, code, 0, IPV4)) + bytes(6)


def failure(code: str) -> bytes:
    """The answer for an error's name, e.g. ECONNREFUSED."""
    return reply(_CODES.get(code, FAILURE))


class Handshake:
    """One client's greeting and request. Feed `received` until `place` is there or `over` is set."""

    def __init__(self) -> None:
        self.received = bytearray()
        """What came; what follows the request is left in it."""
        self.place: tuple[str, int] | None = None
        """What is asked for."""
        self.over = False
        """It is no use: send what `advance` gave and hang up."""
        self._greeted = False

    def advance(self) -> bytes:
        """Take what is whole of `received`; what must be sent now. Untrusted bytes: every length is checked."""
        sent = b""
        if not self._greeted:
            if self.received and self.received[0] != VERSION:  # SOCKS4, or HTTP
                self.over = True
                return b""
            if len(self.received) < 2 or len(self.received) < 2 + self.received[1]:
                return b""
            end = 2 + self.received[1]
            offered = self.received[2:end]
            del self.received[:end]
            if NO_PASSWORD not in offered:
                self.over = True
                return bytes((VERSION, NO_METHOD))
            self._greeted = True
            sent = bytes((VERSION, NO_PASSWORD))
        return sent + self._request()

    def _request(self) -> bytes:
        received = self.received
        if len(received) < 5:
            return b""
        version, command, _, kind = received[:4]
        if version != VERSION:
            self.over = True
            return reply(FAILURE)
        start, size = {IPV4: (4, 4), IPV6: (4, 16), NAME: (5, received[4])}.get(kind, (4, 0))
        if not size:
            self.over = True
            return reply(NO_ADDRESS if kind not in {IPV4, IPV6, NAME} else FAILURE)
        end = start + size + 2
        if len(received) < end:
            return b""
        address, (port,) = bytes(received[start : start + size]), _PORT.unpack_from(received, start + size)
        del received[:end]
        if command != CONNECT:
            self.over = True
            return reply(NO_COMMAND)
        try:
            host = address.decode("ascii") if kind == NAME else str(ip_address(address))
        except UnicodeDecodeError:
            self.over = True
            return reply(FAILURE)
        if not port:
            self.over = True
            return reply(FAILURE)
        self.place = host, port
        return b""
