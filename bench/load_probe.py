"""One honest user beside whatever goes on: a stream through the echo server whose every byte is compared, a ping-pong
on a second connection, and a new connection every `every` seconds. Ends after `seconds`, or when told `close`."""

from __future__ import annotations

import socket
from collections import Counter
from time import monotonic

from bench.load_churn import Visit
from bench.load_names import Asking
from bench.load_peer import BROKEN, ECHO, PIECE, Poll, cpu_seconds, dial, message, say, spread, stream

UNDER_WAY = 1 << 20
"""Bytes of the stream that are on their way there and back at most."""
PING = 64
PATIENCE = 15.0


class Probe:
    """`pace`: bytes of the stream a second, 0 for as fast as it goes; `bulk` False leaves the stream out. `resolver`: a
        nameserver that is asked for a name as often as there is a new connection."""

    def __init__(
        self, address: str, seconds: float, pace: float = 0.0, every: float = 0.05, *, bulk: bool = True,
        resolver: str = "",
    ) -> None:  # fmt: skip
        self.poll = Poll()
        self.address = address
        self.seconds = seconds
        self.pace = pace
        self.every = every
        self.errors: Counter[str] = Counter()
        self.bulk = Bulk(self) if bulk else None
        self.pings = Pings(self)
        self.names = Asking(self.poll, resolver) if resolver else None
        # a Churn's face, for Visit
        self.visits: dict[int, Visit] = {}
        self.connects: list[float] = []
        self.visited: list[float] = []

    def over(self, visit: Visit, error: str) -> None:
        if error:
            self.errors[f"new connection: {error}"] += 1
        else:
            self.visited.append(monotonic() - visit.begun)
        del self.visits[visit.number]
        self.poll.close(visit.sock)

    def visit(self, number: int, now: float) -> None:
        try:
            sock = dial(self.address, ECHO)
        except OSError as error:
            self.errors[f"new connection: {error.strerror}"] += 1
            return
        self.visits[number] = visit = Visit(self, number, sock, now)
        self.poll.add(sock, visit.event)

    def run(self) -> None:
        deadline = monotonic() + PATIENCE
        flows: list[Talk] = [flow for flow in (self.bulk, self.pings) if flow is not None]
        while not all(flow.opened for flow in flows) and monotonic() < deadline:
            self.poll.turn(0.1)
        say("probing", opened=all(flow.opened for flow in flows))
        begun = now = monotonic()
        used = cpu_seconds()
        number = 0
        for flow in flows:
            flow.event(0)
        while (passed := now - begun) < self.seconds and not self.poll.told("close"):
            if self.bulk and self.pace:
                self.bulk.allowed = int(passed * self.pace)
                self.bulk.event(0)
            if self.every and passed >= number * self.every:
                self.visit(number, now)
                number += 1
                if self.names is not None:
                    self.names.ask()
            self.pings.tick(now)
            self.poll.turn(0.005)
            now = monotonic()
        moved = self.bulk.received if self.bulk else 0
        for flow in flows:
            flow.finish()
        deadline = monotonic() + PATIENCE
        while (self.visits or not all(flow.done for flow in flows)) and monotonic() < deadline:
            self.poll.turn(0.05)
        while self.names is not None and self.names.waiting and monotonic() < deadline:
            self.poll.turn(0.05)
            self.names.give_up()
        if self.visits:
            self.errors["new connection: no answer"] += len(self.visits)
        for flow in flows:
            if not flow.done:
                self.errors[f"{type(flow).__name__.lower()}: no end of file"] += 1
        say(
            "probed", seconds=passed, megabytes_per_second=moved / passed / 1e6, bytes=moved,
            lost=sum(flow.sent - flow.received for flow in flows), wrong=sum(flow.wrong for flow in flows),
            ping=spread(self.pings.waits), pings=len(self.pings.waits), connect=spread(self.connects),
            visit=spread(self.visited), visits=number, errors=self.errors, cpu=cpu_seconds() - used,
            names=self.names.result() if self.names else {},
        )  # fmt: skip


class Talk:
    """One connection of the probe that stays; every byte that goes out comes back."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.opened = self.done = self.finishing = False
        self.sent = self.received = self.wrong = 0
        self.sock = dial(probe.address, ECHO)
        probe.poll.add(self.sock, self.event)

    def event(self, events: int) -> None:
        if self.done:
            return
        try:
            if events & BROKEN:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "")
            if not self.opened:
                self.opened = bool(events & ~1)
                return
            self.work()
        except BlockingIOError:
            pass
        except OSError as error:
            self.probe.errors[f"{type(self).__name__.lower()}: {error.strerror or type(error).__name__}"] += 1
            self.end()

    def work(self) -> None:
        """Move bytes until it would block."""
        raise NotImplementedError

    def finish(self) -> None:
        """No more is sent; what is under way still comes."""
        self.finishing = True
        if not self.done:
            self.sock.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self.done = True
        if not self.finishing:
            self.probe.errors[f"{type(self).__name__.lower()}: ended too early"] += 1
        self.probe.poll.close(self.sock)


class Bulk(Talk):
    """The stream."""

    allowed = 1 << 62

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        if probe.pace:
            self.allowed = 0

    def work(self) -> None:
        try:
            self.push()
        except BlockingIOError:
            pass
        while True:
            data = self.sock.recv(PIECE)
            if not data:
                self.end()
                return
            if data != stream(self.received, len(data)):
                self.wrong += 1
            self.received += len(data)
            self.push()

    def push(self) -> None:
        while not self.finishing:
            room = min(PIECE, self.received + UNDER_WAY - self.sent, self.allowed - self.sent)
            if room <= 0:
                return
            try:
                self.sent += self.sock.send(stream(self.sent, room))
            except BlockingIOError:
                return


class Pings(Talk):
    """A small message, its echo, the next one 5 ms later."""

    due = asked = 0.0
    number = 0
    got = b""

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe)
        self.waits: list[float] = []

    def tick(self, now: float) -> None:
        if self.opened and not self.done and not self.asked and now >= self.due:
            self.asked = monotonic()
            try:
                self.sent += self.sock.send(message(7, self.number, PING))
            except OSError as error:
                self.probe.errors[f"pings: {error.strerror}"] += 1
                self.end()

    def work(self) -> None:
        while True:
            data = self.sock.recv(4096)
            if not data:
                self.end()
                return
            self.received += len(data)
            self.got += data
            if len(self.got) >= PING:
                now = monotonic()
                if self.got != message(7, self.number, PING):
                    self.wrong += 1
                self.waits.append(now - self.asked)
                self.got, self.asked, self.due = b"", 0.0, now + 0.005
                self.number += 1
