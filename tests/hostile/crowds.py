"""Connections by the thousand, made by this kernel: who reads or writes slowly, or not, or comes and goes."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import ClassVar

from .attack import Attack
from .raw import Mouth
from .target import BYE, DEAF, DRIP, POUR, RESET, SWALLOW

MANY = 1000
SMALL = 4096
"""Bytes of a slow one's buffers: a kernel doubles it."""


class Crowd(Attack):
    """`many` connections that stay, opened as fast as `rate` says, and then each looked after in turn."""

    needs_target = True
    rate = 5000.0
    many: ClassVar[int] = MANY
    port: ClassVar[int]

    def prepare(self) -> None:
        self.count: Mouth = self.mouth(Mouth())  # what passes the sockets
        self.all: list[socket.socket] = []

    def dial(self, number: int) -> socket.socket | None:
        """A socket whose connect is under way."""
        version = 4 if number % 2 else 6
        sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SMALL)
        try:
            sock.connect((self.place.corp[version], self.port))
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            self.count.refused += 1
            return None
        self.connections += 1
        return sock

    def turn(self, number: int) -> None:
        if len(self.all) < self.many:
            sock = self.dial(number)
            if sock is not None:
                self.all.append(sock)
            return
        at = number % self.many
        with suppress(BlockingIOError):
            try:
                moved = self.work(self.all[at], number)
            except BlockingIOError:
                raise
            except OSError:
                self.count.refused += 1
                self.all[at].close()
                self.all[at] = self.dial(number) or socket.socket()
                return
            self.count.packets += 1
            self.count.bytes += moved

    def work(self, sock: socket.socket, number: int) -> int:
        """Do with one connection what is done; bytes moved."""
        raise NotImplementedError

    def finish(self) -> None:
        for sock in self.all:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # by a reset
            sock.close()


class SlowReaders(Crowd):
    name = "slow-readers"
    what = f"{MANY:,} downloads without end, of each of which 16 bytes are read now and then"
    port = POUR
    rate = 2000.0

    def work(self, sock: socket.socket, number: int) -> int:
        return len(sock.recv(16))


class SlowWriters(Crowd):
    name = "slow-writers"
    what = f"{MANY:,} connections on which a byte is sent now and then (slowloris)"
    port = SWALLOW
    rate = 2000.0

    def work(self, sock: socket.socket, number: int) -> int:
        return sock.send(b"x")


class DeafServers(Crowd):
    name = "deaf-servers"
    what = f"{MANY:,} uploads, as much as fits, to servers that never read"
    port = DEAF
    rate = 2000.0

    def work(self, sock: socket.socket, number: int) -> int:
        return sock.send(bytes(16384))


class DrippingServers(Crowd):
    name = "dripping-servers"
    what = f"{MANY:,} connections on which the server sends a byte now and then"
    port = DRIP
    rate = 2000.0

    def work(self, sock: socket.socket, number: int) -> int:
        return len(sock.recv(16))


class Churn(Crowd):
    """Connections that come and go, at most `many` at a time; `rate` new ones a second."""

    rate = 500.0
    many = 500
    patience: ClassVar[int] = 100
    """Turns after which one is closed."""

    def turn(self, number: int) -> None:
        sock = self.dial(number)
        if sock is not None:
            self.all.append(sock)
        if len(self.all) > self.patience:
            self.end(self.all.pop(0))

    def end(self, sock: socket.socket) -> None:
        sock.close()


class ShortLives(Churn):
    name = "churn"
    what = "500 new connections a second, closed after a fifth of a second"
    port = SWALLOW


class TimeWaits(Churn):
    name = "time-wait"
    what = "500 new connections a second that the server closes at once, so that the bridge waits in TIME-WAIT"
    port = BYE


class ResetByServers(Churn):
    name = "server-resets"
    what = "500 new connections a second that the server resets at once"
    port = RESET


class ResetByClients(Churn):
    name = "client-resets"
    what = "500 new connections a second, each reset by its client as soon as it stands, with data under way"
    port = POUR
    patience = 10

    def end(self, sock: socket.socket) -> None:
        with suppress(OSError):
            sock.send(b"something")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


CROWDS: list[type[Attack]] = [
    SlowReaders, SlowWriters, DeafServers, DrippingServers, ShortLives, TimeWaits, ResetByServers,
    ResetByClients,
]  # fmt: skip
