"""Many flows that stay open, each with a small message now and then; every echo is compared with what was sent."""

from __future__ import annotations

import socket
from collections import Counter, deque
from time import monotonic

from bench.load_peer import BROKEN, ECHO, HANGUP, Poll, cpu_seconds, dial, message, say, spread

TICK = 0.005
OPENING_SECONDS = 60.0
DRAIN_SECONDS = 20.0


class HeldFlow:
    """One of them."""

    __slots__ = ("asked", "buffer", "hold", "index", "opened", "out", "received", "sent", "size", "sock")

    def __init__(self, hold: Hold, index: int, sock: socket.socket) -> None:
        self.hold = hold
        self.index = index
        self.sock = sock
        self.size = 100 + index % 5 * 100
        self.opened = False
        self.sent = self.received = 0
        self.buffer = self.out = b""
        self.asked: deque[float] = deque()

    def event(self, events: int) -> None:
        try:
            if events & BROKEN:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "")
            if not self.opened:
                self.opened = True
                self.hold.opening -= 1
                self.hold.opened += 1
            if self.out:
                self.push(b"")
            self.pull(events)
        except BlockingIOError:
            pass
        except OSError as error:
            self.hold.lost(self, error)

    def ask(self, now: float) -> None:
        """Send the next message."""
        self.asked.append(now)
        data = message(self.index, self.sent, self.size)
        self.sent += 1
        try:
            self.push(data)
        except OSError as error:
            self.hold.lost(self, error)

    def push(self, data: bytes) -> None:
        data = self.out + data
        try:
            self.out = data[self.sock.send(data) :]
        except BlockingIOError:
            self.out = data

    def pull(self, events: int) -> None:
        hold, size = self.hold, self.size
        while True:
            data = self.sock.recv(8192)
            if not data:
                hold.ended(self)
                return
            buffer = self.buffer + data if self.buffer else data
            at = 0
            while len(buffer) - at >= size:
                if buffer[at : at + size] != message(self.index, self.received, size):
                    hold.wrong += 1
                self.received += 1
                hold.received += 1
                hold.waits.append(monotonic() - self.asked.popleft())
                at += size
            self.buffer = buffer[at:]
            if len(data) < 8192 and not events & HANGUP:
                return


class Hold:
    """`flows` flows in turn to `addresses`, at most `pending` connects at a time; `rate` messages a second each."""

    def __init__(self, addresses: list[str], flows: int, rate: float, seconds: float, pending: int = 100) -> None:
        self.poll = Poll()
        self.addresses = addresses
        self.wanted = flows
        self.rate = rate
        self.seconds = seconds
        self.pending = pending
        self.flows: list[HeldFlow] = []
        self.opening = self.opened = self.received = self.wrong = self.finished = 0
        self.errors: Counter[str] = Counter()
        self.closing = False
        self.waits: list[float] = []

    def lost(self, flow: HeldFlow, error: OSError) -> None:
        """A flow broke: that must not happen."""
        self.errors[("connect: " if not flow.opened else "") + (error.strerror or type(error).__name__)] += 1
        if not flow.opened:
            self.opening -= 1
        self.poll.close(flow.sock)

    def ended(self, flow: HeldFlow) -> None:
        """End of file: right only when we closed first and everything had come back."""
        if self.closing and flow.received == flow.sent:
            self.finished += 1
        else:
            self.errors["end of file too early"] += 1
        self.poll.close(flow.sock)

    def open_all(self) -> float:
        begun = monotonic()
        number = 0
        while self.opened + self.errors.total() < self.wanted and monotonic() - begun < OPENING_SECONDS:
            while number < self.wanted and self.opening < self.pending:
                address = self.addresses[number % len(self.addresses)]
                try:
                    flow = HeldFlow(self, number, dial(address, ECHO + number % 2))
                except OSError as error:
                    self.errors[f"connect: {error.strerror}"] += 1
                else:
                    self.opening += 1
                    self.flows.append(flow)
                    self.poll.add(flow.sock, flow.event)
                number += 1
            self.poll.turn(0.1)
        return monotonic() - begun

    def talk(self) -> None:
        """Each flow in turn, evenly over time; late is late, none is left out."""
        flows = [flow for flow in self.flows if flow.opened and flow.sock.fileno() >= 0]
        begun, number = monotonic(), 0
        while flows and (passed := monotonic() - begun) < self.seconds:
            due = int(passed * self.rate * len(flows))
            while number < due:
                flow = flows[number % len(flows)]
                if flow.sock.fileno() >= 0:
                    flow.ask(monotonic())
                number += 1
            self.poll.turn(TICK)

    def run(self) -> None:
        opening = self.open_all()
        say("opened", opened=self.opened, seconds=opening, errors=self.errors, cpu=cpu_seconds())
        begun = monotonic()
        self.talk()
        sent = sum(flow.sent for flow in self.flows)
        passed = monotonic() - begun
        in_time = self.received
        deadline = monotonic() + DRAIN_SECONDS
        while self.received < sent and monotonic() < deadline:
            self.poll.turn(0.1)
        say(
            "talked", sent=sent, received=self.received, late=sent - in_time, rate=sent / passed, wrong=self.wrong,
            bytes=sum(flow.received * flow.size for flow in self.flows), latency=spread(self.waits),
            errors=self.errors, cpu=cpu_seconds(),
        )
        while not self.poll.told("close"):
            self.poll.turn(0.1)
        self.closing = True
        begun = monotonic()
        for flow in self.flows:
            if flow.sock.fileno() >= 0:
                flow.sock.shutdown(socket.SHUT_WR)
        while self.poll.handlers.keys() - {0} and monotonic() < begun + DRAIN_SECONDS:
            self.poll.turn(0.1)
        say(
            "closed", finished=self.finished, seconds=monotonic() - begun, errors=self.errors,
            left=len(self.poll.handlers) - 1, cpu=cpu_seconds(),
        )
