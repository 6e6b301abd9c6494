"""What the load programs at both ends have in common: bytes that tell where they belong, and words with their parent.

They are children of the measuring process, in a namespace each, with one epoll and no framework, so that what they use
of the two processors stays small beside what is measured. Commands come as lines on standard input, answers and results
leave as JSON lines on standard output.

Three kinds of bytes, each known to both ends without being sent twice:
    message(flow, number)   a small message with its flow, its number and a CRC; the server echoes it
    stream(start, size)     a long stream; what stands at an offset tells the offset, and `start` the flow
    REQUEST                 index and length in front of a stream
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

ECHO, SOURCE, SINK = 9100, 9120, 9121
"""Ports of the server: what comes goes back (`ECHO_PORTS` from here on); a stream on request; a reader that waits."""
ECHO_PORTS = 8
"""Several, so that a minute of new connections does not run out of ports that are in TIME_WAIT."""
FLOODED = 9130
"""Open like the others, but nobody else connects to it: a SYN from the ports of a connection that is in TIME_WAIT over
there is answered by no reset, and holds its place in the bridge until the handshake's time-out."""
REQUEST = struct.Struct("!IQ")
"""Index of the flow, bytes of its stream."""
VERDICT = struct.Struct("!QB")
"""The reader's answer at end of file: bytes that came, and whether all were right."""

HEAD = struct.Struct("!III")
PIECE = 65536
PATTERN = random.Random(9000).randbytes(65521)  # a prime length: no piece of a power of two ever repeats in phase
_ROUND = PATTERN * 3

IN, OUT = select.EPOLLIN, select.EPOLLOUT
EDGE = select.EPOLLET | select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP
HANGUP = select.EPOLLRDHUP | select.EPOLLHUP
BROKEN = select.EPOLLERR | select.EPOLLHUP


def message(flow: int, number: int, size: int) -> bytes:
    """`size` bytes (at least 12): flow, number, CRC-32 of the rest, and the rest."""
    start = (flow * 31 + number * 7) % 60000
    rest = PATTERN[start : start + size - 12]
    return HEAD.pack(flow, number, zlib.crc32(rest, flow ^ number)) + rest


def stream(start: int, size: int) -> bytes:
    """`size` bytes (at most PIECE) of the endless stream, from offset `start`."""
    start %= len(PATTERN)
    return _ROUND[start : start + size]


def first(index: int) -> int:
    """Where in the endless stream the flow `index` begins."""
    return index * 7919


def many_files() -> None:
    """Allow as many descriptors as the hard limit does."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(event: str, **facts: Any) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def cpu_seconds() -> float:
    """Processor time of this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds of a list of seconds."""
    if not values:
        return {}
    values.sort()
    last = len(values) - 1
    marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(values[round(last * part)] * 1000, 2) for name, part in marks.items()}


class Poll:
    """One epoll. `handlers[fd](events)` is called; `commands` are words that came on standard input."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.commands: list[str] = []
        self._line = b""
        os.set_blocking(0, False)
        self.epoll.register(0, IN)
        self.handlers[0] = self._command

    def add(self, sock: socket.socket, handler: Callable[[int], None], events: int = EDGE) -> None:
        """Watch a socket; edge-triggered unless told otherwise."""
        fd = sock.fileno()
        self.handlers[fd] = handler
        self.epoll.register(fd, events)

    def close(self, sock: socket.socket) -> None:
        """Close a watched socket; the kernel takes it out of the epoll."""
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    def turn(self, timeout: float) -> None:
        """Wait at most so many seconds for something and serve it."""
        handlers = self.handlers
        for fd, events in self.epoll.poll(max(0.0, timeout), 512):
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)

    def _command(self, _events: int) -> None:
        data = os.read(0, 4096)
        if not data:  # the parent is gone
            sys.exit(0)
        *lines, self._line = (self._line + data).split(b"\n")
        self.commands += [line.decode() for line in lines]

    def told(self, word: str) -> bool:
        """Whether the parent said this word; it is used up."""
        if word in self.commands:
            self.commands.remove(word)
            return True
        return False


congestion = ""
"""Congestion control of connections from here; empty: the kernel's own choice."""


def dial(address: str, port: int) -> socket.socket:
    """A socket whose connect is under way; OSError at once when the kernel knows better."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if congestion:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        error = sock.connect_ex((address, port))
        if error not in (0, 115):  # EINPROGRESS
            raise OSError(error, os.strerror(error))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock
