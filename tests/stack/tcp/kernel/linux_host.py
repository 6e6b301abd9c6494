"""Linux as the host under test: raw segments through a TUN, sockets in its namespace.

Nothing waits for time. After each step an echo request goes the same way, and when its reply is there everything before
it has been worked at. What the kernel does later by itself is put off: retransmission by the route's rto_min, the
delayed acknowledgement by TCP_QUICKACK, limits on challenge ACKs by sysctl. A run that took so long that a timer may
have fired all the same is done again by the caller (`late`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from typing import Self

from tests.world.namespace import Namespace

from .host import HOST, PEER, PEER_PORT, PREFIX, Host
from .sockdiag import open_diag, state_of
from .wire import ICMP, ICMPV6, Raw, dissect, echo_request, packet

SYSCTLS = {
    "tcp_ecn": 2,
    "tcp_invalid_ratelimit": 0,  # each challenge is answered
    "tcp_challenge_ack_limit": 2**31 - 1,
    "tcp_early_retrans": 0,  # no tail loss probe: it comes by time
    "tcp_rfc1337": 1,
    "tcp_autocorking": 0,
    "tcp_abort_on_overflow": 0,
    "tcp_syncookies": 0,
}
PATIENCE = 5.0
"""Seconds for an echo reply; it takes some microseconds."""
EARLIEST_TIMER = 0.9
"""Seconds: a SYN-ACK is sent again after one."""
RESET_BY_CLOSE = struct.pack("ii", 1, 0)


class Kernel:
    """One namespace and TUN for many runs."""

    def __init__(self) -> None:
        self._clean = contextlib.ExitStack()
        with self._clean:
            self._open()
            self._clean = self._clean.pop_all()  # nothing failed: it is kept

    def _open(self) -> None:
        self.namespace = self._clean.enter_context(Namespace(SYSCTLS))
        link = self.namespace.tun([f"{HOST[version]}/{PREFIX[version]}" for version in (4, 6)])
        self.fd = os.dup(link._fd)
        self._clean.callback(os.close, self.fd)
        link.close()
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)
        for version in (4, 6):
            self.namespace.ip(f"route replace {PEER[version]} dev {link.name} rto_min 20s quickack 1")
        self.diag = self._clean.enter_context(self.namespace.inside(open_diag))
        self.echoes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean.close()

    def settled(self, version: int) -> list[Raw]:
        """Everything the kernel sent, once it has worked at all that was written to it."""
        self.echoes += 1
        wanted = self.echoes & 0xFFFF
        protocol = ICMP if version == 4 else ICMPV6
        os.write(self.fd, packet(PEER[version], HOST[version], protocol, echo_request(version, wanted)))
        found: list[Raw] = []
        while True:
            if not self.poll.poll(PATIENCE * 1000):
                raise TimeoutError("the kernel answers no ping")
            one = dissect(os.read(self.fd, 1 << 16))
            if one == wanted:
                return found
            if isinstance(one, Raw):
                found.append(one)


class LinuxHost(Host):
    """One script's connection."""

    def __init__(self, kernel: Kernel, version: int) -> None:
        super().__init__(version)
        self._kernel = kernel
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None
        self._paused = False
        self._since = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether the kernel's timers may have fired in between."""
        return time.monotonic() - self._since > EARLIEST_TIMER

    def inject(self, data: bytes) -> None:
        os.write(self._kernel.fd, data)

    def replies(self) -> list[Raw]:
        if self._socket is not None:
            # Whatever acknowledgement is put off leaves now.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self._kernel.settled(self.version)

    def look(self) -> None:
        if self._socket is None and self._listener is not None:
            try:
                self._socket, _ = self._listener.accept()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    self._failed(error)
                return
            self._socket.setblocking(False)
        sock = self._socket
        if sock is None or self._paused:
            return
        try:
            while data := sock.recv(1 << 16):
                self.received += data
            self.eof = self.eof or not self.error
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        # ENOTCONN: while it connects, and once its end has been told.
        if error.errno not in (errno.ENOTCONN, errno.EAGAIN):
            self.error = self.error or errno.errorcode[error.errno or 0]

    def state(self) -> str:
        return state_of(self._kernel.diag, (HOST[self.version], self.port), (PEER[self.version], PEER_PORT))

    def _made(self) -> socket.socket:
        made = self._kernel.namespace.tcp(self.version)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((HOST[self.version], self.port))
        return made

    def listen(self) -> None:
        self._listener = self._made()
        self._listener.listen(8)

    def connect(self) -> None:
        self._socket = self._made()
        self._socket.connect_ex((PEER[self.version], PEER_PORT))

    def write(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.send(data, socket.MSG_NOSIGNAL)
            except BrokenPipeError:
                pass  # that a write is refused is the face's business
            except OSError as error:
                self._failed(error)

    def shutdown(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._failed(error)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_BY_CLOSE)
            self.close()

    def pause(self) -> None:
        self._paused = True

    def read(self) -> None:
        self._paused = False
        self.look()

    def end(self) -> None:
        self.abort()
        if self._listener is not None:
            self._listener.close()
        self._kernel.settled(self.version)
