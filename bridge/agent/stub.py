"""The DNS stub: takes the codespace's questions on a loopback address and relays them, whole and unread but for the
name.

Who is asked. Mode `all`: the service on the stack, nobody else. Mode `auto`: names under a private suffix go to the
service first and to the codespace's own nameservers after that; all others the other way round. The second is asked
what the first cannot resolve: NXDOMAIN, SERVFAIL, REFUSED and the like, no answer in 2 s. An empty NOERROR is an
answer and stays one, because a resolver that asked for AAAA would take NXDOMAIN for the whole name (RFC 2308 section
2). Of two failures NXDOMAIN is told rather than SERVFAIL. When the own nameservers did not answer at all, they are
asked last for a while.

A question by UDP is relayed by UDP and one by TCP by TCP, so truncation (TC) is the client's and the server's
affair.

A loop (the codespace's 127.0.0.53 itself asks what resolv.conf says, which is this stub) is cut by asking only the
service for a question that is already on its way to a nameserver on loopback.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import dnsmsg
from .clients import TcpClients
from .loop import READ, Loop, Timer
from .upstream import Attempt

FIRST_WAIT = 2.0
"""Seconds for all servers of a stage that has another one after it. glibc waits 5 s before it asks elsewhere."""
LAST_WAIT = 8.0
"""Seconds for the last stage; the service has its own time limit and says SERVFAIL."""
REST = 30.0
"""Seconds during which own nameservers that did not answer are asked last."""
IN_FLIGHT = 256
"""Questions at a time, of one to three sockets each. Beyond it the oldest is given up: it is the likeliest to fail."""
ADDRESSES = ["127.83.0.%d" % number for number in range(1, 17)]
PER_WAKE = 64


class StubError(Exception):
    """The stub cannot listen anywhere."""


def _is_loopback(server: str) -> bool:
    return ipaddress.ip_address(server.split("%", 1)[0]).is_loopback


class Exchange:
    """One client's question and the attempts to answer it."""

    def __init__(
        self, stub: Stub, query: bytes, question: dnsmsg.Question, stages: List[List[str]], *, stream: bool,
        answer: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self.question = question
        self.key: Any = None
        self.asks_loopback = False
        self._stub = stub
        self._query = query
        self._stages = stages
        self._stream = stream
        self._answer = answer
        self._stage = -1
        self._servers: List[str] = []
        self._attempts: Dict[Attempt, int] = {}
        self._best = b""
        self._best_rank = 9
        self._timer: Optional[Timer] = None

    def start(self) -> None:
        """Ask the first server of the first stage."""
        self._next_stage()

    def cancel(self) -> None:
        """Forget everything; no answer is given."""
        if self._timer is not None:
            self._timer.cancel()
        for attempt in self._attempts:
            attempt.close()
        self._attempts = {}
        self._stub.forget(self)

    def finish(self) -> None:
        """Answer with the best there is, or SERVFAIL."""
        self.cancel()
        self._answer(self._best or dnsmsg.failure(self._query, dnsmsg.SERVFAIL))

    def _next_stage(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stage += 1
        if self._stage >= len(self._stages):
            self.finish()
            return
        self._servers = list(self._stages[self._stage])
        self._next_server()

    def _next_server(self) -> None:
        """Ask the stage's next server; after its last one has had its time, go to the next stage."""
        if self._timer is not None:
            self._timer.cancel()
        while self._servers:
            server = self._servers.pop(0)
            attempt = Attempt(
                self._stub.loop, server, self._query, self.question, stream=self._stream, done=self._done
            )
            if attempt.start():
                self.asks_loopback = self.asks_loopback or _is_loopback(server)
                self._attempts[attempt] = self._stage
                last = self._stage == len(self._stages) - 1
                wait = (LAST_WAIT if last else FIRST_WAIT) / len(self._stages[self._stage])
                self._timer = self._stub.loop.call_later(wait, self._waited)
                return
        self._next_stage()

    def _waited(self) -> None:
        self._timer = None
        if not self._servers:
            self._stub.silent(self._stages[self._stage])
        self._next_server()

    def _done(self, attempt: Attempt, reply: bytes, message: Optional[dnsmsg.Message]) -> None:
        stage = self._attempts.pop(attempt)
        rank = 9
        if message is not None:
            self._stub.heard(attempt.server)
            rank = 0 if message.rcode == dnsmsg.NOERROR else 1 if message.rcode == dnsmsg.NXDOMAIN else 2
            if rank < self._best_rank:
                self._best, self._best_rank = dnsmsg.with_ident(reply, dnsmsg.ident(self._query)), rank
        if rank == 0:
            self.finish()
        elif stage == self._stage:  # a late word from an earlier stage changes nothing
            if rank == 1:  # the stage's other servers see the same names
                self._next_stage()
            elif self._servers:
                self._next_server()
            elif stage not in self._attempts.values():
                self._next_stage()


class Stub:
    """Listens on the first free loopback address. `service` and `own` are nameserver addresses, port 53."""

    def __init__(
        self, loop: Loop, mode: str, service: Sequence[str], own: Sequence[str], suffixes: Sequence[str]
    ) -> None:
        self.loop = loop
        self._service = [str(ipaddress.ip_address(server)) for server in service]
        self._mode = mode
        self._own: List[str] = []
        self._own_rests_until = 0.0
        self.change_suffixes(suffixes)
        self.change_own(own)
        self._running: Dict[Any, Exchange] = {}
        self.address, self._datagrams, listener = _listen()
        self._tcp = TcpClients(loop, listener, self._ask_stream)
        loop.watch(self._datagrams.fileno(), READ, self._readable)

    def close(self) -> None:
        """Stop; questions on their way get no answer."""
        for exchange in list(self._running.values()):
            exchange.cancel()
        self._tcp.close()
        self.loop.unwatch(self._datagrams.fileno())
        self._datagrams.close()

    def change_own(self, own: Sequence[str]) -> None:
        """The codespace has other nameservers now."""
        if self._mode != "all":
            self._own = _usable(own, self._service)
            self._own_rests_until = 0.0

    def change_suffixes(self, suffixes: Sequence[str]) -> None:
        """Other names are private from now on."""
        self._suffixes = tuple(suffix.strip(".").lower() for suffix in suffixes)

    # What exchanges tell.

    def forget(self, exchange: Exchange) -> None:
        """The exchange is over."""
        if self._running.get(exchange.key) is exchange:
            del self._running[exchange.key]

    def silent(self, servers: Sequence[str]) -> None:
        """A whole stage did not answer in its time."""
        if servers == self._own:
            self._own_rests_until = time.monotonic() + REST

    def heard(self, server: str) -> None:
        """A server answered."""
        if server in self._own:
            self._own_rests_until = 0.0

    # What clients ask.

    def _readable(self, _events: int) -> None:
        for _ in range(PER_WAKE):
            try:
                query, client = self._datagrams.recvfrom(65535)
            except OSError:
                return
            self._ask(query, client, stream=False, answer=functools.partial(self._reply, client))

    def _reply(self, client: Any, reply: bytes) -> None:
        try:
            self._datagrams.sendto(reply, client)
        except OSError:
            pass  # the client went away, or its buffer is full: as if the datagram were lost

    def _ask_stream(self, query: bytes, client: Any, answer: Callable[[bytes], None]) -> Optional[Callable[[], None]]:
        exchange = self._ask(query, client, stream=True, answer=answer)
        return None if exchange is None else exchange.cancel

    def _ask(
        self, query: bytes, client: Any, *, stream: bool, answer: Callable[[bytes], None]
    ) -> Optional[Exchange]:
        message = dnsmsg.parse(query)
        if message is None or message.response or message.question is None:
            return None
        key = (client, message.ident, message.question.section, stream)
        if key in self._running:
            return None  # the client asks again what is already on its way
        if len(self._running) >= IN_FLIGHT:
            next(iter(self._running.values())).finish()
        exchange = Exchange(
            self, query, message.question, self._stages(message.question), stream=stream, answer=answer
        )
        exchange.key = key
        self._running[key] = exchange
        exchange.start()
        return exchange

    def _stages(self, question: dnsmsg.Question) -> List[List[str]]:
        service, own = self._service, self._own
        if not own:
            return [service]
        if any(_is_loopback(server) for server in own):
            for other in self._running.values():
                if other.asks_loopback and other.question.section == question.section:
                    return [service]
        name = question.name
        private = any(name == suffix or name.endswith("." + suffix) for suffix in self._suffixes)
        if private or time.monotonic() < self._own_rests_until:
            return [service, own]
        return [own, service]


def _usable(own: Sequence[str], service: Sequence[str]) -> List[str]:
    """The own nameservers that are addresses and not us; glibc reads three at most."""
    found = []
    for server in own:
        try:
            ipaddress.ip_address(server.split("%", 1)[0])
        except ValueError:
            continue
        if server not in service and server not in ADDRESSES and server not in found:
            found.append(server)
    return found[:3]


def _listen() -> Any:
    """(address, UDP socket, TCP listener) on port 53 of the first address where both are free."""
    reason = ""
    for address in ADDRESSES:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            datagrams.bind((address, 53))
            listener.bind((address, 53))
            listener.listen(64)
        except OSError as error:
            reason = str(error)
            datagrams.close()
            listener.close()
        else:
            return address, datagrams, listener
    raise StubError("port 53 is free on none of %s to %s: %s" % (ADDRESSES[0], ADDRESSES[-1], reason))
