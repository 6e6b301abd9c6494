"""The server that hostile clients want, in corp: `python -m tests.hostile.target ADDRESS…`. Ends with its parent.

Each port behaves in one way from the moment of the connection: it sends without end (at a pace, since how much there is
is no attack), swallows everything, reads nothing, lets a byte drip now and then, resets, or closes in order.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import sys
import time

POUR, SWALLOW, DEAF, DRIP, RESET, BYE = range(9200, 9206)
BLOCK = bytes(65536)
BUFFER = 65536
"""Bytes of a connection's buffers here: what stalls shall stall in the bridge and not fill this kernel."""
ROUND = 0.05
"""Seconds between two rounds in which each connection is sent something."""
POURED, LEAST = 20_000_000, 4096
"""Bytes a second of all that are poured for, who share them, and of each in a round at least: what a round gives is
lost to whom it does not fit."""
DRIP_EVERY = 4
"""Rounds between drops, a byte for each connection."""


class Target:
    """All connections, in one epoll."""

    def __init__(self, addresses: list[str]) -> None:
        self.poll = select.epoll()
        self.listeners: dict[int, tuple[socket.socket, int]] = {}
        self.open: dict[int, tuple[socket.socket, int]] = {}
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port in (POUR, SWALLOW, DEAF, DRIP, RESET, BYE):
                one = socket.create_server((address, port), family=family, backlog=4096)
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    one.setsockopt(socket.SOL_SOCKET, option, BUFFER)
                one.setblocking(False)
                self.listeners[one.fileno()] = one, port
                self.poll.register(one.fileno(), select.EPOLLIN)
        self.poll.register(0, select.EPOLLIN)

    def run(self) -> None:
        due, rounds = time.monotonic(), 0
        while True:
            for number, events in self.poll.poll(max(0.0, due - time.monotonic()), 256):
                if number == 0:
                    return
                if number in self.listeners:
                    self.accept(*self.listeners[number])
                elif number in self.open:
                    self.serve(number, events)
            if time.monotonic() >= due:
                due, rounds = time.monotonic() + ROUND, rounds + 1
                self.round(dripping=rounds % DRIP_EVERY == 0)

    def round(self, *, dripping: bool) -> None:
        poured = [number for number, (_sock, port) in self.open.items() if port == POUR]
        size = max(int(POURED * ROUND / (len(poured) or 1)), LEAST)
        for number in poured:
            for at in range(0, size, len(BLOCK)):
                if number in self.open:
                    self.say(number, BLOCK[: size - at])
        for number in [number for number, (_sock, port) in self.open.items() if dripping and port == DRIP]:
            self.say(number, b"\0")

    def accept(self, listener: socket.socket, port: int) -> None:
        for _number in range(64):
            try:
                sock, _peer = listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            if port in (RESET, BYE):
                if port == RESET:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open[sock.fileno()] = sock, port
            self.poll.register(sock.fileno(), select.EPOLLRDHUP if port == DEAF else select.EPOLLIN)

    def serve(self, number: int, events: int) -> None:
        sock, port = self.open[number]
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self.close(number)
        elif port == DEAF:
            self.close(number)
        else:
            try:
                if not sock.recv(65536):
                    self.close(number)
            except BlockingIOError:
                pass
            except OSError:
                self.close(number)

    def say(self, number: int, data: bytes) -> None:
        try:
            self.open[number][0].send(data)
        except BlockingIOError:
            pass
        except OSError:
            self.close(number)

    def close(self, number: int) -> None:
        self.open.pop(number)[0].close()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = Target(sys.argv[1:])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    target.run()
