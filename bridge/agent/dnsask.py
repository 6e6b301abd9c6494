"""Asking single nameservers for addresses, each by itself, and timing them: what no resolver's answer tells.

A question is made here and put by :class:`~.upstream.Attempt`, with its checks. Answers are untrusted bytes: what does
not parse has no addresses.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
import time
from typing import Any, Callable, Dict, List, Optional

from . import dnsmsg
from .loop import Loop, Timer
from .rules import MARK
from .upstream import Attempt

A, NS, AAAA = 1, 2, 28
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")


def query(name: str, rtype: int) -> bytes:
    """A question for a name ("" is the root). ValueError for what is no name."""
    section = b""
    for label in name.rstrip(".").split(".") if name.strip(".") else ():
        octets = label.encode("ascii") if label.isascii() else label.encode("idna")
        if not 0 < len(octets) < 64:
            raise ValueError("%r is no name" % name[:80])
        section += bytes([len(octets)]) + octets
    if len(section) > 254:
        raise ValueError("the name is too long")
    return _HEADER.pack(0, 0x0100, 1, 0, 0, 0) + section + b"\0" + struct.pack(">HH", rtype, 1)


def addresses(reply: bytes) -> List[str]:
    """The A and AAAA records among a reply's answers, in their order."""
    found: List[str] = []
    try:
        _, _, questions, answers, _, _ = _HEADER.unpack_from(reply)
        position = _HEADER.size
        for _ in range(questions):
            position = _skip(reply, position) + 4
        for _ in range(answers):
            position = _skip(reply, position)
            rtype, _class, _ttl, length = _RECORD.unpack_from(reply, position)
            position += _RECORD.size
            data = reply[position : position + length]
            position += length
            if (rtype, len(data)) in ((A, 4), (AAAA, 16)):
                found.append(str(ipaddress.ip_address(data)))
    except (struct.error, IndexError):
        pass
    return found


def _skip(reply: bytes, position: int) -> int:
    """The offset behind a name; a pointer ends it (RFC 1035 section 4.1.4)."""
    while reply[position]:
        if reply[position] >= 0xC0:
            return position + 2
        position += reply[position] + 1
    return position + 1


def mark() -> int:
    """SO_MARK of what shall reach the nameserver itself, even where such questions are led to the stub; 0 where it may
    not be set, and then they are not led anywhere.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        except OSError:
            return 0
    return MARK


class Ask:
    """One name at one nameserver, for some types at a time; `done` is called once with what came.

    That is: server, name, rcode ("" when nothing came), addresses, seconds, error.
    """

    def __init__(
        self, loop: Loop, server: str, name: str, types: List[int], done: Callable[[Dict[str, Any]], None],
        patience: float,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._server = server
        self._name = name
        self._types = types
        self._done: Optional[Callable[[Dict[str, Any]], None]] = done
        self._patience = patience
        self._begun = time.monotonic()
        self._last = 0.0
        self._open: List[Attempt] = []
        self._replies: Dict[int, Any] = {}
        self._timer: Optional[Timer] = None

    def start(self) -> None:
        """Ask; `done` may be called from inside."""
        for rtype in self._types:
            message = query(self._name, rtype)
            parsed = dnsmsg.parse(message)
            assert parsed is not None
            assert parsed.question is not None
            attempt = Attempt(
                self._loop, self._server, message, parsed.question, stream=False, mark=mark(),
                done=functools.partial(self._heard, rtype),
            )
            if attempt.start():
                self._open.append(attempt)
        if self._open:
            self._timer = self._loop.call_later(self._patience, self._finish)
        else:
            self._finish()

    def close(self) -> None:
        """Stop; `done` is not called."""
        self._done = None
        self._finish()

    def _heard(self, rtype: int, attempt: Attempt, reply: bytes, message: Optional[dnsmsg.Message]) -> None:
        self._open.remove(attempt)
        self._last = time.monotonic() - self._begun
        if message is not None:
            self._replies[rtype] = (message.rcode, addresses(reply))
        if not self._open:
            self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        error = "" if self._replies else "no answer in %g s" % self._patience if self._open else "nobody answers there"
        for attempt in self._open:
            attempt.close()
        self._open = []
        done, self._done = self._done, None
        if done is not None:
            rcode = min((code for code, _ in self._replies.values()), default=-1)
            done({
                "server": self._server, "name": self._name, "rcode": RCODES.get(rcode, "RCODE%d" % rcode)
                if rcode >= 0 else "", "seconds": round(self._last, 4), "error": error,
                "addresses": [text for rtype in self._types for text in self._replies.get(rtype, (0, []))[1]],
            })  # fmt: skip
