"""Where agents of one place meet: a holder listens, and agents that come later ask it.

A bridge whose connection broke goes on when a newly started agent hands its own connection over to the holder of the
old one (`resume`, with three descriptors and the front's socket by SCM_RIGHTS, unix(7)), so nothing is copied twice.
Others ask who holds a bridge here (`who`), or tell it to end (`end`).

The socket has an abstract name: it leaves nothing on any disk, not even after a SIGKILL, and vanishes with its
process. Abstract names have no mode, so both sides ask the kernel who the other is (SO_PEERCRED) and speak with their
own user only; besides, `resume` wants the session's secret. One request and one answer, each one JSON message of a
SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from typing import Any, Callable, Dict, List

from .loop import READ, Loop
from .peers import peer_uid

PREFIX = "netbridge-holder-"
LONGEST = 16384
"""Bytes of a request or an answer."""
PATIENCE = 2.0
"""Seconds an asker waits for its answer, and the holder for a request: both are programs of one machine."""
END_PATIENCE = 5.0
"""Seconds a bridge that was told to end has for undoing everything."""
MOST_DESCRIPTORS = 8

Asked = Callable[[Dict[str, Any], List[int]], Dict[str, Any]]


class NobodyThereError(Exception):
    """No holder of that name, or none of our user's."""


class NoAnswerError(NobodyThereError):
    """It is there and says nothing in time: its machine may be busy, or has just been woken up."""


class Door:
    """The holder's listening end."""

    def __init__(self, loop: Loop, name: str, asked: Asked) -> None:
        """`asked(request, descriptors)` gives the answer; the descriptors are its own. OSError when taken."""
        self._loop = loop
        self._asked = asked
        self._staying: List[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind("\0" + PREFIX + name)
            self._listener.listen(16)
            self._listener.setblocking(False)
        except OSError:
            self._listener.close()
            raise
        loop.watch(self._listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Listen no more; who waits for the end sees it."""
        if self._listener.fileno() >= 0:
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
        for connection in self._staying:
            connection.close()
        self._staying.clear()

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _address = self._listener.accept()
            stays = False
            try:
                if peer_uid(connection) == os.geteuid():
                    connection.settimeout(PATIENCE)
                    request, descriptors = _receive(connection)
                    answer = self._asked(request, descriptors)
                    stays = "ending" in answer  # it wants to see when that is done
                    connection.sendall(json.dumps(answer).encode())
            except ValueError:
                pass
            finally:
                if stays:
                    self._staying.append(connection)
                else:
                    connection.close()


def _receive(connection: socket.socket) -> Any:
    descriptors = array.array("i")
    data, ancillary, _flags, _address = connection.recvmsg(
        LONGEST, socket.CMSG_SPACE(MOST_DESCRIPTORS * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
    try:
        request = dict(json.loads(data))
    except (TypeError, ValueError, RecursionError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("the request is no JSON object") from None
    return request, list(descriptors)


def ask(name: str, request: Dict[str, Any], descriptors: List[int], *, until_gone: bool = False) -> Dict[str, Any]:
    """Ask the holder `name`; its answer. With `until_gone` wait for its end besides. NobodyThereError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect("\0" + PREFIX + name)
            if peer_uid(connection) != os.geteuid():
                raise NobodyThereError("the holder is another user's")
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            connection.sendmsg([json.dumps(request).encode()], rights)
            answer = json.loads(connection.recv(LONGEST))
            if until_gone:
                connection.settimeout(END_PATIENCE)
                while connection.recv(LONGEST):
                    pass
        except socket.timeout:
            raise NoAnswerError("it does not answer") from None
        except (OSError, ValueError, RecursionError) as error:
            raise NobodyThereError(str(error)) from None
    if not isinstance(answer, dict):
        raise NobodyThereError("it answers nonsense")
    return answer


def names() -> List[str]:
    """The names of the holders in this network namespace, oldest first as the kernel lists them."""
    found: List[str] = []
    mark = "@" + PREFIX
    with contextlib.suppress(OSError), open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        for line in file:
            name = line.rpartition(" ")[2].strip()
            if name.startswith(mark) and name[len(mark) :] not in found:
                found.append(name[len(mark) :])
    return found


def bridges() -> List[Dict[str, Any]]:
    """What each holder here says of its bridge."""
    found = []
    for name in names():
        with contextlib.suppress(NobodyThereError):
            found.append({**ask(name, {"ask": "who"}, []), "session": name})
    return found
