"""The agent's part of `netbridge trace`: how a name and its addresses look from here.

A `trace` message (number, host, port, service: the bridge's nameservers, tun: its interface) is answered by one
`traced` message, whatever goes wrong, within some ten seconds. The name is asked of getaddrinfo as any program here
would ask it, and beside that of each nameserver by itself, so that the session can tell who knows it. Each address's
route is looked up; where it does not lead to the bridge, only a connect from here tells whether it works, so that is
tried as well. Nothing here blocks the loop: names are asked in threads.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import socket
import time
from typing import Any, Callable, Dict, List, Optional

from . import resolvconf
from .back import code_of
from .dialling import Address, Dial, Names, look_up
from .dnsask import AAAA, A, Ask
from .loop import Loop, Timer
from .netlink import Netlink
from .routelookup import lookup

MOST = 4
"""Traces at a time: a person asks for one."""
NAMES = 8
"""Full names that a short one may stand for; each is asked of each nameserver."""
ADDRESSES = 8
"""Addresses whose route is told."""
RESOLVE_SECONDS = 8.0
"""A dead nameserver keeps getaddrinfo for up to half a minute; programs give up earlier."""
ASK_SECONDS = 4.0
"""A nameserver that is asked by itself has so long; glibc gives it five."""
CONNECT_SECONDS = 5.0
HOSTS = "/etc/hosts"
STUBS = ipaddress.ip_network("127.83.0.0/24")
"""Where the bridge's own stub listens."""

Send = Callable[[Dict[str, Any]], None]


def candidates(host: str, search: List[str], ndots: int = 1) -> List[str]:
    """The full names that `host` may stand for, in the order in which the C library tries them (resolv.conf(5))."""
    if host.endswith("."):
        return [host.rstrip(".")]
    longer = ["%s.%s" % (host, suffix.strip(".")) for suffix in search if suffix.strip(".")]
    return ([host, *longer] if host.count(".") >= ndots else [*longer, host])[:NAMES]


def in_hosts(host: str, path: str = HOSTS) -> List[str]:
    """What the hosts file says of a name."""
    found: List[str] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split("#", 1)[0].lower().split()
                if host.lower().rstrip(".") in words[1:]:
                    found.append(words[0])
    except OSError:
        pass
    return found


def ndots(text: bytes) -> int:
    """`options ndots:N` of a resolv.conf; 1 without."""
    for word in text.decode("utf-8", "replace").split():
        if word.startswith("ndots:") and word[6:].isascii() and word[6:].isdigit():
            return min(int(word[6:15]), 15)
    return 1


class Tracing:
    """Answers `trace` messages."""

    def __init__(self, loop: Loop, netlink: Netlink, send: Send) -> None:
        self._loop = loop
        self._netlink = netlink
        self._send = send
        self._names: Optional[Names] = None
        self._running: List[_Trace] = []

    def ask(self, message: Dict[str, Any]) -> None:
        """Begin one. KeyError, TypeError, ValueError for nonsense."""
        number, host, port = int(message["number"]), str(message["host"]), int(message.get("port") or 0)
        service = [str(address) for address in message.get("service") or ()][:1]
        if len(self._running) >= MOST:
            self._send({"type": "traced", "number": number, "error": "too many are traced at a time"})
            return
        if self._names is None:
            self._names = Names(self._loop)
        trace = _Trace(self._loop, self._netlink, host, port, service, str(message.get("tun") or ""))
        self._running.append(trace)

        def done(found: Dict[str, Any]) -> None:
            self._running.remove(trace)
            self._send({"type": "traced", "number": number, **found})

        trace.start(self._names, done)

    def close(self) -> None:
        """Answer nobody any more."""
        for trace in self._running:
            trace.close()
        self._running = []
        if self._names is not None:
            self._names.close()
            self._names = None


class _Trace:
    """One on its way: names, then routes and connects."""

    def __init__(
        self, loop: Loop, netlink: Netlink, host: str, port: int, service: List[str], tun: str,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._netlink = netlink
        self._host = host
        self._port = port
        self._service = service
        self._tun = tun
        self._done: Callable[[Dict[str, Any]], None] = lambda found: None
        self._begun = time.monotonic()
        self._asks: List[Ask] = []
        self._dials: List[Dial] = []
        self._timer: Optional[Timer] = None
        self._waiting = 0
        """Nameservers that have not answered yet; below zero when they are no longer waited for."""
        self._left = 0
        """Connects under way."""
        self._closed = False
        self._found: Dict[str, Any] = {
            "host": host, "port": port, "system": None, "hosts": in_hosts(host), "answers": [], "addresses": [],
            "search": [], "nameservers": [], "error": "",
        }  # fmt: skip

    def start(self, names: Names, done: Callable[[Dict[str, Any]], None]) -> None:
        """Begin; `done` may be called from inside, for an address in text."""
        self._done = done
        self._timer = self._loop.call_later(RESOLVE_SECONDS, self._too_long)
        try:
            literal = look_up(self._host, self._port, socket.AI_NUMERICHOST)
        except OSError:
            self._ask_each()
            names.resolve(self._host, self._port, self._resolved)
        else:
            self._resolved(literal, None)

    def close(self) -> None:
        """Stop; nobody is told."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for ask in self._asks:
            ask.close()
        for dial in self._dials:
            dial.close()

    # Names.

    def _ask_each(self) -> None:
        edited = b""
        try:
            edited = resolvconf.read()
        except OSError:
            pass
        search = resolvconf.parse(edited).search
        own = [server for server in resolvconf.parse(resolvconf.undo(edited)).nameservers if not _is_stub(server)]
        self._found["search"], self._found["nameservers"] = search, own
        whom = [("own", server) for server in own[:3]] + [("bridge", server) for server in self._service]
        for name in candidates(self._host, search, ndots(edited)):
            for who, server in whom:
                ask = Ask(self._loop, server, name, [A, AAAA], functools.partial(self._answered, who), ASK_SECONDS)
                self._asks.append(ask)
        self._waiting = len(self._asks)
        for ask in list(self._asks):
            try:
                ask.start()
            except ValueError:  # no name; getaddrinfo says so as well
                self._waiting -= 1

    def _answered(self, who: str, answer: Dict[str, Any]) -> None:
        self._found["answers"].append({"who": who, **answer})
        self._waiting -= 1
        self._look()

    def _resolved(self, addresses: List[Address], error: Optional[OSError]) -> None:
        if self._found["system"] is None:
            found = list(dict.fromkeys(str(address[0]) for _, address in addresses))
            self._found["system"] = {
                "addresses": found, "error": error.strerror or str(error) if error else "",
                "code": code_of(error) if error else "", "seconds": round(time.monotonic() - self._begun, 4),
            }  # fmt: skip
            self._look()

    def _too_long(self) -> None:
        """Go on with what there is."""
        self._waiting = 0
        for ask in self._asks:
            ask.close()
        self._resolved([], socket.gaierror(socket.EAI_AGAIN, "no answer within %g s" % RESOLVE_SECONDS))
        self._look()

    def _look(self) -> None:
        if self._waiting or self._found["system"] is None or self._closed:
            return
        self._waiting = -1  # once
        if self._timer is not None:
            self._timer.cancel()
        self._follow()

    # Routes and connects.

    def _follow(self) -> None:
        pending = []
        for text in self._found["system"]["addresses"][:ADDRESSES]:
            address = ipaddress.ip_address(text.split("%", 1)[0])
            way = {"address": text, "connect": None, **lookup(self._netlink, address)}
            self._found["addresses"].append(way)
            if self._port and not (self._tun and way["interface"] == self._tun):
                pending.append(way)
        self._left = len(pending)
        if not pending:
            self._finish()
        for way in pending:
            self._connect(way)

    def _connect(self, way: Dict[str, Any]) -> None:
        begun = time.monotonic()

        def reached(place: Optional[socket.socket], error: Optional[OSError]) -> None:
            timer.cancel()
            if place is not None:
                place.close()
            code = code_of(error) if error is not None else ""
            way["connect"] = {
                "code": code, "error": error.strerror or "" if error else "",
                "seconds": round(time.monotonic() - begun, 4),
            }  # fmt: skip
            self._left -= 1
            if not self._left:
                self._finish()

        def late() -> None:
            dial.close()
            reached(None, OSError(errno.ETIMEDOUT, "no answer within %g s" % CONNECT_SECONDS))

        dial = Dial(self._loop, look_up(way["address"], self._port, socket.AI_NUMERICHOST), reached)
        self._dials.append(dial)
        timer = self._loop.call_later(CONNECT_SECONDS, late)
        dial.start()

    def _finish(self) -> None:
        if not self._closed:
            self._closed = True
            self._done(self._found)


def _is_stub(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.split("%", 1)[0]) in STUBS
    except ValueError:
        return True
