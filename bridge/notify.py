"""The service manager that started this program hears how it goes: sd_notify(3), without systemd's library.

systemd names a datagram socket in NOTIFY_SOCKET and gets NAME=VALUE lines there: READY=1, STATUS=…, STOPPING=1. With
WatchdogSec= it also names, in WATCHDOG_USEC, how long it may hear nothing before it kills the service. The beat is a
timer of the event loop that moves the packets, so a loop that hangs is silent and is found out.

Without NOTIFY_SOCKET nothing is said and nothing is started.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import MutableMapping

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Meant for this process alone: a child that inherited them could speak, or be killed, in our name."""
RETRY_SECONDS = 0.2
"""The manager's socket holds few datagrams (net.unix.max_dgram_qlen); a manager at work reads them soon."""
UNSENT = 64
"""Words kept for a manager that does not read; the oldest are dropped first, being the least true."""


class Notify:
    """The one way to the service manager. In a running event loop use it as a context manager: then it beats."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take the variables out of `environment`."""
        address, usec, pid = (environment.pop(name, "") for name in VARIABLES)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # "@" stands for an abstract one
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        ours = self._socket is not None and pid in {"", str(os.getpid())}
        self.watchdog = int(usec) / 1e6 if ours and usec.isascii() and usec.isdecimal() else 0.0
        """Seconds of silence after which we are killed; 0: never."""
        self._unsent: deque[bytes] = deque(maxlen=UNSENT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    def tell(self, **words: str) -> None:
        """Send words such as READY="1" or STATUS="one line"; without a manager, or one that went away, nothing."""
        if self._socket and words:
            self._unsent.append("\n".join(f"{name}={value}" for name, value in words.items()).encode(errors="replace"))
            self._send()

    def _send(self) -> None:
        assert self._socket is not None
        while self._unsent:
            try:
                self._socket.sendto(self._unsent[0], self._address)
            except BlockingIOError:
                if self._loop and not self._retrying:
                    self._retrying = self._loop.call_later(RETRY_SECONDS, self._again)
                return
            except OSError:
                pass  # nobody is there: no reason to fail
            self._unsent.popleft()

    def _again(self) -> None:
        self._retrying = None
        self._send()

    def _beat(self) -> None:
        assert self._loop is not None
        self.tell(WATCHDOG="1")
        self._beating = self._loop.call_later(self.watchdog / 2, self._beat)

    def __enter__(self) -> Notify:
        self._loop = asyncio.get_running_loop()
        if self.watchdog:
            self._beat()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop = None
        for timer in filter(None, (self._beating, self._retrying)):
            timer.cancel()
        self._beating = self._retrying = None

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
