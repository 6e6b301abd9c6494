"""New connections at a fixed rate (an open loop: nobody waits for those before), and connects that are left hanging."""

from __future__ import annotations

import socket
from collections import Counter
from time import monotonic
from typing import Protocol

from bench.load_peer import BROKEN, ECHO, ECHO_PORTS, OUT, Poll, cpu_seconds, dial, message, say, spread

SIZE = 100
TICK = 0.002
PATIENCE = 10.0
"""Seconds after which a connection counts as lost."""
AT_ONCE = 8000
"""Connections under way at which no more are begun: the client's own descriptors. Counted as `shed`."""


class Visitor(Protocol):
    """Who begins visits."""

    connects: list[float]
    """Seconds that connects took."""

    def over(self, visit: Visit, error: str) -> None:
        """This visit ended, well when `error` is empty."""


class Visit:
    """One connection: connect, 100 bytes there, the same back, close."""

    __slots__ = ("begun", "churn", "got", "number", "sock")

    def __init__(self, churn: Visitor, number: int, sock: socket.socket, begun: float) -> None:
        self.churn = churn
        self.number = number
        self.sock = sock
        self.begun = begun
        self.got: bytes | None = None
        """The answer until now; None before the connect succeeded."""

    def event(self, events: int) -> None:
        churn = self.churn
        try:
            if self.got is None:
                if events & BROKEN:
                    error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    raise OSError(error, "")
                if not events & OUT:
                    return
                churn.connects.append(monotonic() - self.begun)
                self.got = b""
                self.sock.send(message(self.number, 0, SIZE))
                return
            self.got += self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            churn.over(self, error.strerror or type(error).__name__)
            return
        if len(self.got) >= SIZE:
            churn.over(self, "" if self.got == message(self.number, 0, SIZE) else "wrong bytes")
        elif events & ~(OUT | 1):
            churn.over(self, "end of file too early")


class Churn:
    """`rate` new connections a second for `seconds`, in turn to every address and `ports` ports of each."""

    def __init__(self, addresses: list[str], rate: float, seconds: float, ports: int = ECHO_PORTS) -> None:
        self.poll = Poll()
        self.places = [(address, ECHO + number) for number in range(ports) for address in addresses]
        self.rate = rate
        self.seconds = seconds
        self.visits: dict[int, Visit] = {}
        self.errors: Counter[str] = Counter()
        self.connects: list[float] = []
        self.waits: list[float] = []
        self.done = self.shed = self.at_once = 0

    def over(self, visit: Visit, error: str) -> None:
        if error:
            self.errors[error] += 1
        else:
            self.done += 1
            self.waits.append(monotonic() - visit.begun)
        del self.visits[visit.number]
        self.poll.close(visit.sock)

    def begin(self, number: int, now: float) -> None:
        if len(self.visits) >= AT_ONCE:
            self.shed += 1
            return
        try:
            sock = dial(*self.places[number % len(self.places)])
        except OSError as error:
            self.errors[f"connect: {error.strerror}"] += 1
            return
        self.visits[number] = visit = Visit(self, number, sock, now)
        self.poll.add(sock, visit.event)

    def give_up(self, now: float) -> None:
        """Those that took too long; they are in the order of their beginning."""
        while self.visits and (oldest := next(iter(self.visits.values()))).begun < now - PATIENCE:
            self.over(oldest, f"no answer in {PATIENCE:g} s" if oldest.got is not None else "no connection")

    def run(self) -> None:
        begun = now = monotonic()
        used = cpu_seconds()
        number = done = 0
        while (passed := now - begun) < self.seconds:
            due = int(passed * self.rate)
            while number < due:
                self.begin(number, monotonic())
                number += 1
            self.at_once = max(self.at_once, len(self.visits))
            self.poll.turn(TICK)
            now = monotonic()
            self.give_up(now)
        done = self.done
        while self.visits:
            self.poll.turn(0.05)
            self.give_up(monotonic())
        say(
            "churned", begun=number, done=self.done, rate=done / passed, shed=self.shed, errors=self.errors,
            at_once=self.at_once, connect=spread(self.connects), latency=spread(self.waits),
            cpu=cpu_seconds() - used, seconds=passed,
        )  # fmt: skip


class Pending:
    """Connects to each of `destinations`, begun anew when one ends, until `close`."""

    def __init__(self, destinations: list[str], port: int = 80) -> None:
        self.poll = Poll()
        self.port = port
        self.destinations = destinations
        self.ends: Counter[str] = Counter()

    def begin(self, destination: str) -> None:
        try:
            sock = dial(destination, self.port)
        except OSError as error:
            self.ends[error.strerror or type(error).__name__] += 1
            return

        def event(_events: int) -> None:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.ends[OSError(error, "").__class__.__name__ if error else "connected"] += 1
            self.poll.close(sock)

        self.poll.add(sock, event)

    def run(self) -> None:
        for destination in self.destinations:
            self.begin(destination)
        say("pending", pending=len(self.poll.handlers) - 1)
        while not self.poll.told("close"):
            self.poll.turn(0.2)
        say("closed", pending=len(self.poll.handlers) - 1, ends=self.ends)
