"""Flows whose reader is asleep: downloads this client does not read, or uploads the server does not read.

Both know how every byte must look, so after the sleep nothing may be missing, double or from another flow.
"""

from __future__ import annotations

import socket
from collections import Counter
from time import monotonic

from bench.load_peer import (
    BROKEN,
    OUT,
    PIECE,
    REQUEST,
    SINK,
    SOURCE,
    VERDICT,
    Poll,
    cpu_seconds,
    dial,
    first,
    say,
    stream,
)

BUFFER = 65536
"""Bytes of this side's socket buffers, so that a flow stalls before all of it fits into kernels."""
PENDING = 100


class Stalled:
    """`flows` flows of `size` bytes each; `way` is down or up."""

    def __init__(self, addresses: list[str], flows: int, size: int, way: str) -> None:
        self.poll = Poll()
        self.addresses = addresses
        self.wanted = flows
        self.size = size
        self.kind: type[StalledFlow] = Download if way == "down" else Upload
        self.opening = self.opened = self.right = self.wrong = 0
        self.moved = 0
        self.errors: Counter[str] = Counter()
        self.reading = False

    def run(self) -> None:
        begun = monotonic()
        flows: list[StalledFlow] = []
        while self.opened + self.errors.total() < self.wanted and monotonic() < begun + 60:
            while len(flows) < self.wanted and self.opening < PENDING:
                flows.append(self.kind(self, len(flows)))
            self.poll.turn(0.1)
        say("opened", opened=self.opened, seconds=monotonic() - begun, errors=self.errors)
        before, asleep = -1, monotonic()
        while not self.poll.told("read"):
            self.poll.turn(0.2)
            if before != self.moved:
                before, asleep = self.moved, monotonic()
        moved = self.moved
        stalled = sum(flow.at < self.size for flow in flows)
        self.reading = True
        begun = monotonic()
        for flow in flows:
            flow.event(1)
        while self.poll.handlers.keys() - {0} and monotonic() < begun + 90:
            self.poll.turn(0.2)
        say(
            "read", stalled=stalled, moved_before=moved, asleep=begun - asleep, right=self.right, wrong=self.wrong,
            bytes=self.moved, seconds=monotonic() - begun, errors=self.errors, left=len(self.poll.handlers) - 1,
            cpu=cpu_seconds(),
        )  # fmt: skip


class StalledFlow:
    """One of them. `at` counts the bytes of the stream that this side read or wrote."""

    port = 0

    def __init__(self, all_: Stalled, index: int) -> None:
        self.all = all_
        self.index = index
        self.begin = first(index)
        self.at = 0
        self.opened = False
        self.good = True
        self.sock = dial(all_.addresses[index % len(all_.addresses)], self.port)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        all_.opening += 1
        all_.poll.add(self.sock, self.event)

    def event(self, events: int) -> None:
        if self.sock.fileno() < 0:
            return
        try:
            if events & BROKEN:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "")
            if not self.opened:
                if not events & OUT:
                    return
                self.opened = True
                self.all.opening -= 1
                self.all.opened += 1
                self.sock.send(REQUEST.pack(self.index, self.all.size))
            self.work()
        except BlockingIOError:
            pass
        except OSError as error:
            if not self.opened:
                self.all.opening -= 1
            self.all.errors[error.strerror or type(error).__name__] += 1
            self.all.poll.close(self.sock)

    def work(self) -> None:
        """Move bytes until it would block."""
        raise NotImplementedError

    def over(self, *, right: bool) -> None:
        if right:
            self.all.right += 1
        else:
            self.all.wrong += 1
        self.all.poll.close(self.sock)


class Download(StalledFlow):
    """Reads nothing before the parent says `read`."""

    port = SOURCE

    def work(self) -> None:
        while self.all.reading:
            data = self.sock.recv(PIECE)
            if not data:
                self.over(right=self.good and self.at == self.all.size)
                return
            if data != stream(self.begin + self.at, len(data)):
                self.good = False
            self.at += len(data)
            self.all.moved += len(data)


class Upload(StalledFlow):
    """Sends as much as fits; when all has gone, the server's verdict says what came."""

    port = SINK
    verdict = b""

    def work(self) -> None:
        size = self.all.size
        while self.at < size:
            sent = self.sock.send(stream(self.begin + self.at, min(PIECE, size - self.at)))
            self.at += sent
            self.all.moved += sent
            if self.at == size:
                self.sock.shutdown(socket.SHUT_WR)
        while True:
            data = self.sock.recv(VERDICT.size)
            self.verdict += data
            if not data:
                came = VERDICT.unpack(self.verdict) if len(self.verdict) == VERDICT.size else (0, 0)
                self.over(right=came == (size, 1))
                return
