"""The server in corp: `python -m bench.load_server ADDRESS…`. It echoes, it sends streams, and it reads when told to.

Commands: `stats` tells the counters, `read` lets the stalled readers read, `stall` makes those to come wait again.
"""

from __future__ import annotations

import socket
import sys
from functools import partial

from bench.load_peer import (
    BROKEN,
    ECHO,
    ECHO_PORTS,
    FLOODED,
    HANGUP,
    IN,
    PIECE,
    REQUEST,
    SINK,
    SOURCE,
    VERDICT,
    Poll,
    cpu_seconds,
    first,
    many_files,
    say,
    stream,
)

BACKLOG = 4096
STALLED_BUFFER = 65536
"""Bytes of the buffers here of a flow that stalls: it shall stall at the bridge and not fill this kernel's memory."""


class Server:
    """All listeners and connections."""

    def __init__(self, addresses: list[str]) -> None:
        self.poll = Poll()
        self.counters = {"accepted": 0, "closed": 0, "broken": 0, "bytes_in": 0, "bytes_out": 0, "wrong": 0}
        self.reading = False
        self.sinks: set[Sink] = set()
        kinds: list[tuple[int, type[Connection]]] = [(ECHO + number, Echo) for number in range(ECHO_PORTS)]
        kinds += [(FLOODED, Echo), (SOURCE, Source), (SINK, Sink)]
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port, kind in kinds:
                listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
                if kind is Sink:  # accepted sockets inherit it
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
                listener.setblocking(False)
                self.poll.add(listener, partial(self.accept, listener, kind), IN)

    def accept(self, listener: socket.socket, kind: type[Connection], _events: int) -> None:
        """Take at most a few dozen, so that those who are here are served as well."""
        for _number in range(64):
            try:
                sock, _peer = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # it was reset while it waited, or no descriptor is left
                self.counters["broken"] += 1
                return
            sock.setblocking(False)
            self.counters["accepted"] += 1
            try:
                connection = kind(self, sock)
                self.poll.add(sock, connection.event)
            except OSError:
                self.counters["broken"] += 1
                sock.close()

    def run(self) -> None:
        poll = self.poll
        while True:
            poll.turn(1.0)
            while poll.commands:
                word = poll.commands.pop(0)
                if word == "read":
                    self.reading = True
                    for sink in list(self.sinks):
                        sink.event(IN)
                elif word == "stall":
                    self.reading = False
                counters = self.counters
                say("stats", cpu=cpu_seconds(), open=counters["accepted"] - counters["closed"], **counters)


class Connection:
    """One client. `event` is called with what epoll said."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.start()

    def start(self) -> None:
        """What is to be done before the first byte."""

    def event(self, events: int) -> None:
        try:
            if events & BROKEN and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionResetError
            self.work(events)
        except BlockingIOError:
            pass
        except OSError:
            self.server.counters["broken"] += 1
            self.close()

    def work(self, events: int) -> None:
        """Read and write until it would block."""
        raise NotImplementedError

    def close(self) -> None:
        self.server.counters["closed"] += 1
        self.server.poll.close(self.sock)


class Echo(Connection):
    """Sends everything back; what does not go out keeps it from reading more."""

    def start(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = memoryview(b"")

    def work(self, events: int) -> None:
        sock, counters = self.sock, self.server.counters
        while True:
            while self.left:
                sent = sock.send(self.left)
                counters["bytes_out"] += sent
                self.left = self.left[sent:]
            data = sock.recv(PIECE)
            if not data:
                self.close()
                return
            counters["bytes_in"] += len(data)
            sent = 0
            try:
                sent = sock.send(data)
                counters["bytes_out"] += sent
            finally:
                if sent < len(data):
                    self.left = memoryview(data)[sent:]
            if len(data) < PIECE and not events & HANGUP:
                return  # all there was; the next edge tells of more


class Source(Connection):
    """Sends the stream it is asked for, then end of file."""

    def start(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STALLED_BUFFER)
        self.head = b""
        self.at = self.end = 0

    def work(self, events: int) -> None:
        sock = self.sock
        while len(self.head) < REQUEST.size:
            data = sock.recv(REQUEST.size - len(self.head))
            if not data:
                self.close()
                return
            self.head += data
            if len(self.head) == REQUEST.size:
                index, size = REQUEST.unpack(self.head)
                self.at = first(index)
                self.end = self.at + size
        while self.at < self.end:
            sent = sock.send(stream(self.at, min(PIECE, self.end - self.at)))
            self.at += sent
            self.server.counters["bytes_out"] += sent
            if self.at == self.end:
                sock.shutdown(socket.SHUT_WR)
        if not sock.recv(1):
            self.close()


class Sink(Connection):
    """Reads nothing until the parent says so, then everything, and answers with its verdict at end of file."""

    def start(self) -> None:
        self.server.sinks.add(self)
        self.head = b""
        self.begin = self.at = self.size = 0
        self.right = True

    def work(self, events: int) -> None:
        sock = self.sock
        if not self.server.reading:
            return
        while True:
            if len(self.head) < REQUEST.size:
                data = sock.recv(REQUEST.size - len(self.head))
                self.head += data
                if len(self.head) == REQUEST.size:
                    index, self.size = REQUEST.unpack(self.head)
                    self.begin = self.at = first(index)
            else:
                data = sock.recv(PIECE)
                self.server.counters["bytes_in"] += len(data)
                if data != stream(self.at, len(data)):
                    self.right = False
                    self.server.counters["wrong"] += 1
                self.at += len(data)
            if not data:
                got = self.at - self.begin
                sock.send(VERDICT.pack(got, self.right and got == self.size))
                self.close()
                return

    def close(self) -> None:
        self.server.sinks.discard(self)
        super().close()


if __name__ == "__main__":
    many_files()
    server = Server(sys.argv[1:])
    say("ready")
    server.run()
