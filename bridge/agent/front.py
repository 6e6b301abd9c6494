"""The process that an SSH server, a container runtime or sudo sees, and the one behind it that does the work.

Who started the agent takes that process's end for the connection's end, and may end it when the connection breaks. The
holder has to outlive that. So it is another process, in a session of its own, and the first one stands in front of it:
it waits on a socket whose other end belongs to whichever process serves the connection. A byte that comes is the exit
status; end of file is the connection's end. A signal to the front closes its side, which the server of the connection
takes for the connection's end too. It needs nothing of root's for that, and so it has nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from typing import Callable

from . import privileges

ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""The signals that end the connection."""
PATIENCE = 10
"""Seconds after a signal until the front ends whatever the other process does."""


def split(serve: Callable[[socket.socket], int], keep_out: Callable[[], None]) -> int:
    """Run `serve(socket)` in a process of its own; the exit status it, or who took the socket over, gives.

    `keep_out` lets go of what belongs to the other process alone. Raises OSError when there are too many processes.
    """
    ours, theirs = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # a signal waits until there is somebody to take it
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        raise
    if pid == 0:
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
            ours.close()
            os.setsid()
            status = serve(theirs)
        except BaseException as error:
            complain(error)
        finally:
            os._exit(status)
    theirs.close()
    keep_out()
    # The other process may end long before its connection does; nobody wants its status.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return _wait(ours)


def complain(error: BaseException) -> None:
    """Say what went wrong to whoever started the agent: in one line what the system refused, and where."""
    with contextlib.suppress(OSError):
        if isinstance(error, OSError):
            place = traceback.extract_tb(error.__traceback__)[-1]
            os.write(2, ("netbridge agent: %s (%s, line %s)\n" % (error, place.name, place.lineno)).encode())
        else:
            os.write(2, "".join(traceback.format_exception(type(error), error, error.__traceback__)).encode())


def tell(front: socket.socket, status: int) -> None:
    """From the serving process: the front's exit status."""
    with contextlib.suppress(OSError):
        front.sendall(bytes([status & 255]))


def _wait(ours: socket.socket) -> int:
    def asked_to_end(_number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)
        signal.alarm(PATIENCE)

    for number in ENDS:
        signal.signal(number, asked_to_end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("netbridge-front")
    privileges.become_user()
    said = b"\1"
    with contextlib.suppress(OSError):
        while True:
            data = ours.recv(16)
            if not data:
                break
            said = data
    return said[-1]
