"""Names to addresses, and addresses to a connection, without stopping the loop.

A name is asked of getaddrinfo, as any program here would ask it, in a thread of its own: it may take half a minute.
Addresses are tried in the order that it gave, the next one as soon as the last has failed or a moment has passed
(RFC 8305 section 5), so that a dead IPv6 route costs that moment and not the connect.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

from .loop import READ, WRITE, Loop, Timer

STAGGER = 0.25
"""Seconds until the next address is tried beside those before it (RFC 8305 section 8)."""
THREADS = 16
"""Names asked at a time; further ones wait. A dead resolver keeps each for up to half a minute."""
UNHEARD = 1.0
"""Seconds between looks for answers whose word was lost: even a byte wants memory of the kernel's."""
ADDRESSES = 16
"""Addresses of a name that are tried."""
BESIDE_THE_POINT = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What an address of a version that this host does not have fails with; another's error says more."""

Address = Tuple[int, Any]
"""Family, and the address as connect(2) takes it."""
Resolved = Callable[[List[Address], Optional[OSError]], None]
Reached = Callable[[Optional[socket.socket], Optional[OSError]], None]


def look_up(host: str, port: int, flags: int = 0) -> List[Address]:
    """The addresses of a name or an address in text. Raises OSError (gaierror); blocks."""
    try:
        found: List[Any] = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except (UnicodeError, ValueError):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return [(family, address) for family, _, _, _, address in found][:ADDRESSES]


class Names:
    """Asks for names in threads; answers come in the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._hearing, self._saying = socket.socketpair()
        self._hearing.setblocking(False)
        self._saying.setblocking(False)
        self._answers: List[Tuple[Resolved, List[Address], Optional[OSError]]] = []
        self._waiting: List[Tuple[str, int, Resolved]] = []
        self._running = 0
        self._look: Optional[Timer] = None
        self._closed = False
        self._lock = threading.Lock()
        loop.watch(self._hearing.fileno(), READ, self._heard)

    def resolve(self, host: str, port: int, done: Resolved) -> None:
        """Call `done` with addresses or an error: at once for an address in text, else later."""
        try:
            addresses = look_up(host, port, socket.AI_NUMERICHOST)
        except OSError:
            self._waiting.append((host, port, done))
            self._begin()
        else:
            done(addresses, None)

    def close(self) -> None:
        """No answer comes from here on. Threads that still wait end by themselves."""
        self._waiting.clear()
        if self._look is not None:
            self._look.cancel()
        self._loop.unwatch(self._hearing.fileno())
        with self._lock:
            self._closed = True
            self._hearing.close()
            self._saying.close()

    def _begin(self) -> None:
        while self._waiting and self._running < THREADS and not self._closed:
            host, port, done = self._waiting.pop(0)
            self._running += 1
            try:
                threading.Thread(target=self._ask, args=(host, port, done), daemon=True).start()
            except RuntimeError:  # no more threads are to be had here
                self._running -= 1
                done([], OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        if self._running and self._look is None and not self._closed:
            self._look = self._loop.call_later(UNHEARD, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._take_answers()

    def _ask(self, host: str, port: int, done: Resolved) -> None:
        """In a thread: nothing of the loop is touched but the list, whose append is one step."""
        try:
            self._answers.append((done, look_up(host, port), None))
        except OSError as error:
            self._answers.append((done, [], error))
        with self._lock:  # or the descriptor might be another's by now
            if not self._closed:
                with contextlib.suppress(OSError):  # full: it will be heard anyway; or no memory, see UNHEARD
                    self._saying.send(b"1")

    def _heard(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            self._hearing.recv(4096)
        self._take_answers()

    def _take_answers(self) -> None:
        while self._answers:
            done, addresses, error = self._answers.pop(0)
            self._running -= 1
            done(addresses, error)
        self._begin()


class Dial:
    """Connects to the first of `addresses` that answers. `done(socket, error)` is called once, unless it is closed."""

    def __init__(self, loop: Loop, addresses: List[Address], done: Reached) -> None:
        self._loop = loop
        self._left = list(addresses)
        self._done: Optional[Reached] = done
        self._trying: Dict[int, socket.socket] = {}
        self._timer: Optional[Timer] = None
        self._error: Optional[OSError] = None

    def start(self) -> None:
        """Try the first address; `done` may be called from inside."""
        self._next()

    def close(self) -> None:
        """Give up; `done` is not called."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        for number, trying in list(self._trying.items()):
            self._loop.unwatch(number)
            trying.close()
        self._trying.clear()

    def _next(self) -> None:
        """Try further addresses until one is on its way."""
        if self._timer is not None:
            self._timer.cancel()
        while self._left and self._done is not None:
            family, address = self._left.pop(0)
            try:
                trying = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:
                self._failed(error)
                continue
            try:
                number = trying.connect_ex(address)
                if number == errno.EINPROGRESS:
                    self._loop.watch(trying.fileno(), WRITE, lambda _events, trying=trying: self._ready(trying))  # type: ignore[misc]
                elif number:
                    raise OSError(number, os.strerror(number))
            except OSError as error:
                trying.close()
                self._failed(error)
                continue
            if not number:
                self._finish(trying, None)
                return
            self._trying[trying.fileno()] = trying
            if self._left:
                self._timer = self._loop.call_later(STAGGER, self._next)
            return
        if not self._trying and self._done is not None:
            self._finish(None, self._error or OSError(errno.EADDRNOTAVAIL, "There is no address"))

    def _failed(self, error: OSError) -> None:
        if self._error is None or self._error.errno in BESIDE_THE_POINT:
            self._error = error

    def _ready(self, trying: socket.socket) -> None:
        self._loop.unwatch(trying.fileno())
        del self._trying[trying.fileno()]
        try:
            number = trying.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            number = error.errno or errno.ENOBUFS
        if number:
            trying.close()
            self._failed(OSError(number, os.strerror(number)))
            self._next()
        else:
            self._finish(trying, None)

    def _finish(self, reached: Optional[socket.socket], error: Optional[OSError]) -> None:
        done = self._done
        self.close()
        if done is not None:
            done(reached, error)
