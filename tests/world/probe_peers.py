"""Corp's side of the probe: TCP servers that end connections in every unkind way, each at a port of its own.

A server says and does the same to everybody who connects, at the same times, so that two places can be compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .machine import Machine, wait_until

ABORTIVE = struct.pack("ii", 1, 0)
SIOCOUTQ = 0x5411
DATA = 60_000
"""Bytes a server says before it resets: fewer than any window on the way."""


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
    connection.close()


def unsent(connection: socket.socket) -> int:
    """Bytes the other end's kernel has not acknowledged; a reset would throw them away."""
    return int(struct.unpack("i", fcntl.ioctl(connection, SIOCOUTQ, bytes(4)))[0])


def resets_at_once(connection: socket.socket) -> None:
    reset(connection)


def resets_later(connection: socket.socket) -> None:
    """While the client waits in recv, or does nothing."""
    time.sleep(0.3)
    reset(connection)


def resets_after_data(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(bytes(DATA))
    wait_until(lambda: not unsent(connection), "the data's acknowledgement", 5)
    time.sleep(0.2)
    reset(connection)


def resets_a_blocked_writer(connection: socket.socket) -> None:
    """It never reads; by then the client waits in send."""
    time.sleep(0.4)
    reset(connection)


def says_end_then_resets(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    reset(connection)


def closes(connection: socket.socket) -> None:
    connection.close()


def closes_with_unread_data(connection: socket.socket) -> None:
    """The kernel resets by itself: somebody's bytes were lost."""
    time.sleep(0.3)
    connection.close()


def waits(connection: socket.socket) -> None:
    """Takes what comes, says nothing."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
    connection.close()


PEERS: dict[str, Callable[[socket.socket], None]] = {
    each.__name__: each
    for each in (
        resets_at_once, resets_later, resets_after_data, resets_a_blocked_writer, says_end_then_resets, closes,
        closes_with_unread_data, waits,
    )
}  # fmt: skip


class Peers:
    """All of them on one machine's address; `ports` says where. A context manager."""

    def __init__(self, machine: Machine, address: str) -> None:
        self.ports: dict[str, int] = {}
        self._listeners: list[socket.socket] = []
        for name, behaviour in PEERS.items():
            listener = machine.listen(address)
            self._listeners.append(listener)
            self.ports[name] = listener.getsockname()[1]
            threading.Thread(target=self._serve, args=(listener, behaviour), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept
            listener.close()

    @staticmethod
    def _serve(listener: socket.socket, behaviour: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                connection, _peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=behaviour, args=(connection,), daemon=True).start()
