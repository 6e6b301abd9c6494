"""The one seam: every call of netbridge's own code into the operating system can be counted, and made to fail.

Nothing in the product knows of it, and nothing there pays for it. Installed, it puts a wrapper around the calls
themselves (methods of `socket.socket`, functions of `os`, `fcntl`, `socket`, epoll, files, children, threads), and
each wrapper looks who calls: the innermost frame of netbridge's own code is the *site*, `module:function:call`. What
asyncio does for us in callbacks of its own is a site as well, `asyncio/module:function:call`. Calls of tests and of
everybody else pass.

This file is of the standard library alone, in Python 3.8's syntax, and imports nothing of ours: sent along with the
agent's code it works in the codespace too (`tests/faults/agents.py`).

EINTR is not among the faults: Python tries again by itself (PEP 475), so no call of ours ever sees it; what strace
injects (`tests/faults/programs.py`) shows that. Nor is `close` of sockets and pipes, which cannot fail on Linux.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import json
import mmap
import os
import select
import selectors
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

OURS = ("netbridge.", "netbridge_agent")
TESTS = ("tests.", "test_", "conftest")
DEPTH = 60
"""Frames looked at; the way from a callback to the event loop is shorter."""

SOCKET = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")
"""socket(2), accept(2), socketpair(2) when descriptors or memory are short."""
OPEN = ("EMFILE", "ENFILE", "ENOMEM", "EACCES", "EIO")
NAMES = ("ENOSPC", "EROFS", "EIO")
"""Calls that write a folder."""
WRITE = ("ENOSPC", "EDQUOT", "EIO", "EFBIG")

METHODS: dict[str, tuple[str, ...]] = {
    "accept": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EAGAIN"),
    "bind": ("EADDRINUSE", "EADDRNOTAVAIL", "ENOMEM"),
    "connect": ("EAGAIN", "ENOBUFS", "ENETUNREACH", "EADDRNOTAVAIL", "EPERM", "ECONNREFUSED"),
    "connect_ex": ("EAGAIN", "ENETUNREACH"),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "getsockname": ("ENOBUFS",),
    "getsockopt": ("ENOBUFS", "ENOMEM"),
    "listen": ("EADDRINUSE",),
    "recv": ("EAGAIN", "ECONNRESET", "ENOMEM", "ETIMEDOUT"),
    "recv_into": ("EAGAIN", "ECONNRESET", "ENOMEM"),
    "recvfrom": ("EAGAIN", "ECONNREFUSED", "ENOMEM"),
    "recvmsg": ("EAGAIN", "ENOBUFS", "ENOMEM"),
    "recvmsg_into": ("EAGAIN", "ENOMEM"),
    "send": ("EAGAIN", "ENOBUFS", "ECONNRESET", "EPIPE", "ENOMEM"),
    "sendall": ("ENOBUFS", "ECONNRESET", "EPIPE"),
    "sendmsg": ("EAGAIN", "ENOBUFS", "EPIPE", "ETOOMANYREFS"),
    "sendto": ("EAGAIN", "ENOBUFS", "EPERM", "ENETUNREACH"),
    "setsockopt": ("ENOBUFS", "ENOMEM", "EPERM", "ENOPROTOOPT"),
    "shutdown": ("ENOTCONN",),
}
"""Methods of sockets, with what their pages of section 2, and tcp(7), udp(7), unix(7), packet(7), say."""

FUNCTIONS: dict[Any, dict[str, tuple[str, ...]]] = {
    os: {
        "mkdir": NAMES, "makedirs": NAMES, "unlink": ("EROFS", "EIO"), "remove": ("EROFS", "EIO"),
        "rename": NAMES, "replace": NAMES, "rmdir": ("EROFS", "EBUSY"), "chmod": ("EROFS", "EIO"),
        "fchmod": ("EROFS", "EIO"), "chown": ("EROFS", "EDQUOT"), "fchown": ("EROFS", "EDQUOT"),
        "ftruncate": ("EIO",), "fsync": ("EIO", "ENOSPC"), "mknod": NAMES, "pwrite": WRITE,
        "stat": ("ENOMEM", "EACCES"), "lstat": ("ENOMEM", "EACCES"), "fstat": ("ENOMEM",),
        "listdir": ("EMFILE", "ENOMEM", "EACCES"), "readlink": ("ENOMEM", "EACCES"),
        "read": ("EIO", "EAGAIN"), "readv": ("EIO", "EAGAIN"), "write": ("EAGAIN", "EPIPE", "ENOBUFS", "EIO"),
        "writev": ("EAGAIN", "EPIPE", "ENOMEM"), "pipe": ("EMFILE", "ENFILE"), "dup": ("EMFILE",),
        "dup2": ("EMFILE", "EBUSY"), "fork": ("EAGAIN", "ENOMEM"), "pidfd_open": ("EMFILE", "ENOMEM"),
        "kill": ("ESRCH",), "killpg": ("ESRCH",),
    },
    fcntl: {"ioctl": ("ENOMEM", "EBUSY", "EPERM"), "fcntl": ("EMFILE",), "flock": ("ENOLCK", "EIO")},
    socket: {"socketpair": SOCKET, "getaddrinfo": ("EAI_AGAIN", "EAI_MEMORY"), "if_nametoindex": ("ENODEV",)},
    mmap: {"mmap": ("ENOMEM", "EAGAIN")},
}

OTHERS: dict[str, tuple[str, ...]] = {
    "socket": SOCKET, "epoll": ("EMFILE", "ENFILE", "ENOMEM"), "epoll.register": ("ENOSPC", "ENOMEM"),
    "epoll.modify": ("ENOMEM",), "open": OPEN, "file.write": WRITE, "file.read": ("EIO",), "file.close": WRITE,
    "create": (*OPEN, "ENOSPC", "EDQUOT", "EROFS"), "spawn": ("EAGAIN", "ENOMEM"), "thread": ("EAGAIN",),
}

ERRNOS: dict[str, tuple[str, ...]] = {
    **METHODS, **{name: found for table in FUNCTIONS.values() for name, found in table.items()}, **OTHERS,
}
"""By call: the errors it is tried with."""


class Fault(NamedTuple):
    """The calls `first` to `last` (from 1) of a site fail with an errno."""

    site: str
    errno: str
    first: int = 1
    last: int = 1 << 30

    @property
    def call(self) -> str:
        return self.site.rpartition(":")[2]

    def error(self) -> Exception:
        """As the call would raise it."""
        if self.call == "thread":
            return RuntimeError("can't start new thread")  # what CPython makes of clone's EAGAIN
        if self.errno.startswith("EAI_"):
            return socket.gaierror(getattr(socket, self.errno), "injected %s" % self.errno)
        number = getattr(errno, self.errno)
        return OSError(number, os.strerror(number))


class Seam:
    """Counts while it is installed, by site; and makes the calls fail that `fault` says."""

    def __init__(self) -> None:
        self.calls: Counter = Counter()  # type: ignore[type-arg]
        self.fault: Fault | None = None
        self._before = 0
        self.hits = 0
        """Calls that were made to fail."""
        self.counting = True
        self.note: Callable[[str, bool], None] | None = None
        """Told of each call, and whether it is made to fail."""
        self._undo: list[Callable[[], None]] = []

    def arm(self, fault: Fault | None) -> None:
        """From now on these calls fail, counted from here; None: nothing does any more."""
        self.hits = 0
        self._before = self.calls[fault.site] if fault is not None else 0
        self.fault = fault

    # --- who calls

    def call(self, name: str) -> None:
        """Somebody makes this call: count it when it is ours, and raise what it is to fail with."""
        if not self.counting:
            return
        site = self._site(name)
        if not site:
            return
        self.calls[site] += 1
        fault = self.fault
        failed = (
            fault is not None and fault.site == site
            and fault.first <= self.calls[site] - self._before <= fault.last
        )  # fmt: skip
        if self.note is not None:
            self.note(site, failed)
        if fault is not None and failed:
            self.hits += 1
            raise fault.error()

    def _site(self, name: str) -> str:
        frame: Any = sys._getframe(2)
        callback = ""
        for _ in range(DEPTH):
            if frame is None:
                return ""
            module = frame.f_globals.get("__name__") or ""
            if module == __name__:
                pass
            elif module.startswith(OURS):
                return "%s:%s:%s" % (_short(module), frame.f_code.co_name, name)
            elif module.startswith("asyncio."):
                if frame.f_code.co_name == "_run_once":  # a callback of asyncio's own
                    return "asyncio/%s:%s" % (callback, name) if callback else ""
                if module != "asyncio.events":
                    callback = "%s:%s" % (module.partition(".")[2], frame.f_code.co_name)
            elif module.startswith(TESTS):
                return ""
            frame = frame.f_back
        return ""

    # --- putting it in and taking it out

    def install(self) -> Seam:
        for name in METHODS:
            if hasattr(socket.socket, name):
                self._put(socket.socket, name, self._around(name, getattr(socket.socket, name)))
        self._put(socket.socket, "connect_ex", self._telling("connect_ex", socket.socket.connect_ex))
        self._put(socket.socket, "__init__", self._new_socket(socket.socket.__init__))
        for place, names in FUNCTIONS.items():
            for name in names:
                if hasattr(place, name):
                    self._put(place, name, self._around(name, getattr(place, name)))
        self._put(os, "open", self._opens_descriptor(os.open))
        self._put(select, "epoll", self._epolls(select.epoll))
        self._put(selectors.EpollSelector, "register",
                  self._around("epoll.register", selectors.EpollSelector.register))
        self._put(selectors.EpollSelector, "modify", self._around("epoll.modify", selectors.EpollSelector.modify))
        self._put(subprocess.Popen, "_execute_child", self._around("spawn", subprocess.Popen._execute_child))  # type: ignore[attr-defined]
        self._put(threading.Thread, "start", self._threads(threading.Thread.start))
        opened = self._opens(io.open)
        self._put(builtins, "open", opened)
        self._put(io, "open", opened)
        return self

    def remove(self) -> None:
        while self._undo:
            self._undo.pop()()

    __enter__ = install

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _put(self, place: Any, name: str, new: Any) -> None:
        own = vars(place).get(name, self)
        setattr(place, name, new)
        self._undo.append(lambda: delattr(place, name) if own is self else setattr(place, name, own))

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        seam = self

        def wrapped(*args: Any, **named: Any) -> Any:
            seam.call(name)
            return real(*args, **named)

        return wrapped

    def _telling(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        """A call that returns its errno."""
        seam = self

        def wrapped(*args: Any) -> int:
            try:
                seam.call(name)
            except OSError as error:
                return error.errno or 0
            return real(*args)

        return wrapped

    def _opens_descriptor(self, real: Callable[..., int]) -> Callable[..., int]:
        seam = self

        def opened(path: Any, flags: int, *args: Any, **named: Any) -> int:
            seam.call("create" if flags & os.O_CREAT else "open")
            return real(path, flags, *args, **named)

        return opened

    def _new_socket(self, real: Callable[..., None]) -> Callable[..., None]:
        seam = self

        def made(self: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
            if fileno is None:  # else it stands on a descriptor that is there
                seam.call("socket")
            real(self, family, type, proto, fileno)

        return made

    def _threads(self, real: Callable[..., None]) -> Callable[..., None]:
        seam = self

        def start(thread: threading.Thread) -> None:
            try:
                seam.call("thread")
            except RuntimeError:
                threading._limbo.pop(thread, None)  # type: ignore[attr-defined]
                raise
            real(thread)

        return start

    def _epolls(self, real: Any) -> Any:
        seam = self

        class Epoll:
            """select.epoll takes no subclass."""

            def __init__(self, *args: Any, **named: Any) -> None:
                seam.call("epoll")
                self._real = real(*args, **named)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                self._real.close()

            def register(self, *args: Any) -> None:
                seam.call("epoll.register")
                self._real.register(*args)

            def modify(self, *args: Any) -> None:
                seam.call("epoll.modify")
                self._real.modify(*args)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        return Epoll

    def _opens(self, real: Callable[..., Any]) -> Callable[..., Any]:
        seam = self

        class File(io.FileIO):
            """The raw file below the buffers."""

            def write(self, data: Any) -> Any:
                seam.call("file.write")
                return super().write(data)

            def readinto(self, data: Any) -> Any:
                seam.call("file.read")
                return super().readinto(data)

            def readall(self) -> Any:
                seam.call("file.read")
                return super().readall()

            def close(self) -> None:
                wrote = not self.closed and self.writable()
                super().close()
                if wrote:  # only what was written can be lost then (close(2))
                    seam.call("file.close")

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
            newline: Any = None, closefd: bool = True, opener: Any = None,
        ) -> Any:
            if not isinstance(file, int):
                seam.call("open" if mode.startswith("r") and "+" not in mode else "create")
            if not seam.counting or not seam._site("open"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = File(file, "".join(letter for letter in mode if letter in "rwax+"), closefd, opener)
            try:
                if buffering == 0:
                    return raw
                buffered: Any
                if "+" in mode:
                    buffered = io.BufferedRandom(raw)
                elif "r" in mode:
                    buffered = io.BufferedReader(raw)
                else:
                    buffered = io.BufferedWriter(raw)
                if "b" in mode:
                    return buffered
                text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
                text.mode = mode  # type: ignore[misc]
                return text
            except BaseException:
                raw.close()
                raise

        return opened


def _short(module: str) -> str:
    """`bridge.forward.tcp` of netbridge.bridge.forward.tcp, `bridge.agent.tun` of netbridge_agent.tun."""
    if module.startswith("netbridge_agent"):
        return "bridge.agent" + module[len("netbridge_agent"):]
    return module[len("netbridge."):]


MOST_CALLS = 30
"""Calls of one site that a program tells of, in one process."""


def in_a_program(arguments: str) -> None:
    """Install it in this process, which is a program of its own, and in those it forks. `arguments`: a JSON object.

    `said` is the file that gets a line for each of a site's first calls: process, site, whether it was made to fail.
    `fault`: the fields of one, or null.
    """
    given = json.loads(arguments)
    seam = Seam()
    real_open, real_write, real_close = os.open, os.write, os.close

    def note(site: str, failed: bool) -> None:
        if seam.calls[site] <= MOST_CALLS:
            descriptor = real_open(given["said"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            real_write(descriptor, ("%d\t%s\t%d\n" % (os.getpid(), site, failed)).encode())
            real_close(descriptor)

    seam.note = note
    if given["fault"]:
        seam.fault = Fault(*given["fault"])
    seam.install()
