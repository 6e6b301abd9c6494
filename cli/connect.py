"""`netbridge connect`: standard input and output to a port inside the codespace."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Annotated

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, UsageError

CHUNK = 1 << 18
INTERRUPTED = 128 + signal.SIGINT
"""Exit status after ctrl-c, as a shell has it: what was printed may not be all."""


def connect(
    host: str, port: str, /, *,
    target: Annotated[str | None, Parameter(
        name="--target", metavar="TARGET",
        help="TARGET of the running bridge, or its number; not needed when only one runs.")] = None,
) -> int:
    """Connect standard input and output to a port inside the codespace.

    Made for scripts and as ssh's ProxyCommand: `netbridge connect %h %p`.

    Parameters
    ----------
    host
        Name or address, resolved over there; localhost is the codespace itself.
    port
        TCP port.
    """
    from netbridge.bridge.back.door import Door

    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise UsageError(f"{port!r} is no port.", "A port is a number from 1 to 65535.", "Name one of those.")
    with Door(target) as door:
        connection, number = door.open(host, int(port))
        with connection:
            threading.Thread(target=_send, args=(connection,), daemon=True).start()
            try:
                _receive(connection)
            except KeyboardInterrupt:
                return INTERRUPTED
        if why := door.broken(number):
            raise BridgeError(
                f"The connection to {host} port {port} was cut off.", f"{why.rstrip('.')}.",
                "What was printed may not be all; try again.",
            )
    return 0


def _send(connection: socket.socket) -> None:
    """Standard input to the connection, and its end too."""
    with contextlib.suppress(OSError):
        while data := os.read(0, CHUNK):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def _receive(connection: socket.socket) -> None:
    """The connection to standard output until both ways have ended, or a person would wait in vain."""
    while data := _more(connection):
        _print(data)
    if not os.isatty(0):
        # Whoever reads sees the end; whoever still writes may do so until the other side is done with it.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        _wait_for_hangup(connection)


def _more(connection: socket.socket) -> bytes:
    """What comes next; nothing at the end, of whatever kind: the bridge knows which."""
    try:
        return connection.recv(CHUNK)
    except ConnectionError:
        return b""


def _print(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]


def _wait_for_hangup(connection: socket.socket) -> None:
    """Until the bridge has closed the connection: that is when our side has ended too, or was not wanted any more."""
    import select

    poll = select.poll()
    poll.register(connection.fileno(), 0)  # a hangup is always told
    poll.poll()
