"""Our stack as the host under test: the same packets over a link that records, the same calls, a clock that stands."""

from __future__ import annotations

import errno
import socket

from netbridge.stack import Stack
from netbridge.stack.link.base import Buffer
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from tests.stack.fake import RecordingLink

from .host import HOST, PEER, PEER_PORT, PREFIX, Host
from .wire import Raw, dissect

TICK = 1e-5
"""Seconds a step takes: less than any timer."""
ERRNOS: dict[type[OSError], str] = {
    ConnectionResetError: "ECONNRESET", ConnectionRefusedError: "ECONNREFUSED", TimeoutError: "ETIMEDOUT",
}  # fmt: skip
CONFIG = TcpConfig(delayed_ack=0.0, challenge_interval=0.0, min_rto=20.0)
"""As the kernel's host is set up: no limit on challenge ACKs, acknowledgements at once, retransmission far away."""


class User:
    """The application: a `ConnectionUser` that reads unless it paused, and remembers what it was told."""

    def __init__(self, host: StackHost) -> None:
        self._host = host
        self.gone = False
        self.waits = False
        """Not accepted yet: the application has another connection."""
        self.ended = False
        self.failure = ""

    def connected(self) -> None: ...

    def data_received(self, data: memoryview) -> int:
        if (self._host.paused or self.waits) and not self.gone:
            return 0
        if not self.gone:
            self._host.received += bytes(data)
        return len(data)

    def probed(self, idle: float) -> None: ...

    def eof_received(self) -> None:
        self.ended = True
        self.look()

    def look(self) -> None:
        """Who has paused does not look."""
        if not self.gone and not self.waits and not self._host.paused:
            self._host.eof = self._host.eof or (self.ended and not self._host.error)
            self._host.error = self._host.error or self.failure

    def acked(self) -> None: ...

    def closed(self, error: OSError | None) -> None:
        if error is not None and not self.gone:
            self.failure = ERRNOS.get(type(error)) or errno.errorcode[error.errno or 0]
            self.look()


class StackHost(Host):
    """One script's stack. Made inside a running event loop, whose timers it never lets come."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self._link = RecordingLink()
        self._stack = Stack(self._link, [f"{HOST[one]}/{PREFIX[one]}" for one in (4, 6)], tcp=CONFIG)
        self._now = 1000.0
        self._stack.clock.now = lambda: self._now
        self._stack.start()
        self.paused = False
        self._user = User(self)
        self._flow: Flow | None = None
        self._backlog: list[tuple[User, Flow]] = []

    def inject(self, data: bytes) -> None:
        self._stack.packet_received(memoryview(data))
        self._stack.burst_ended()

    def replies(self) -> list[Raw]:
        self._now += TICK
        for flow in list(self._stack.tcp.flows.values()):
            if flow.next_timeout() <= self._now:
                flow.handle_timeout(self._now)
        sent: list[Buffer] = list(self._link.sent)
        self._link.sent.clear()
        return [raw for data in sent if isinstance(raw := dissect(bytes(data)), Raw)]

    def look(self) -> None:
        """The application is told by itself; but it may accept another connection."""
        if self._flow is None and self._backlog:
            self._accept()
            self.read_on()

    def state(self) -> str:
        for flow in self._stack.tcp.flows.values():
            if flow.local[1] == self.port:
                return flow.connection.state.value
        listener = self._stack.tcp.listeners.get((None, self.port))
        return "SYN-RECEIVED" if listener is not None and listener.half_open else "CLOSED"

    def _opened(self, flow: Flow) -> User:
        """A connection stands: the application accepts it when it has no other."""
        user = User(self)
        user.waits = True
        self._backlog.append((user, flow))
        self._accept()
        return user

    def _accept(self) -> None:
        if self._flow is None and self._backlog:
            self._user, self._flow = self._backlog.pop(0)
            self._user.waits = False

    def listen(self) -> None:
        self._stack.tcp.listen(None, self.port, self._opened)

    def connect(self) -> None:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        own, peer = (socket.inet_pton(family, side[self.version]) for side in (HOST, PEER))
        self._flow = self._stack.tcp.connect(own, (peer, PEER_PORT), self._user)
        self.port = self._flow.local[1]

    def write(self, data: bytes) -> None:
        if flow := self._flow:
            flow.write(data)

    def shutdown(self) -> None:
        if flow := self._flow:
            flow.shutdown()

    def close(self) -> None:
        if flow := self._flow:
            self._user.gone = True
            flow.abandon()
            flow.drain()
            self._flow = None

    def abort(self) -> None:
        if flow := self._flow:
            self._user.gone = True
            flow.abort()
            self._flow = None

    def pause(self) -> None:
        self.paused = True

    def read(self) -> None:
        self.paused = False
        self.read_on()

    def read_on(self) -> None:
        """Take what waits."""
        if flow := self._flow:
            flow.drain()
        self._user.look()

    def end(self) -> None:
        for user in (self._user, *(user for user, _ in self._backlog)):
            user.gone = True
        self._stack.close()
