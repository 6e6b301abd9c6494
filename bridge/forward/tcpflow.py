"""TCP to host sockets: two connections that pause each other.

A SYN from the codespace waits while an ordinary non-blocking `connect` runs here; only its success is answered with
SYN-ACK, and each failure with what the codespace's kernel turns into the very errno it had here. From then on

    codespace ──► stack ──data_received──► send ──► host      what the host socket does not take stays in the stack,
                                                              and the codespace's window closes
    codespace ◄── stack ◄──────write────── recv ◄── host      read only as much as the codespace's window takes, so
                                                              the rest waits in the host's kernel

End of file travels each way by itself (FIN ⇄ shutdown), after every byte before it. A reset travels as a reset: the
codespace's at once, the host's after everything the host sent before it, for which a stalled reader has a minute.

Host sockets are registered once, edge-triggered: `_readable` and `_blocked` remember what the last edge said.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINPROGRESS, ENOMEM, EPIPE, ETIMEDOUT
from time import monotonic
from typing import TYPE_CHECKING, Any

from netbridge.stack.packet import TCP, text

from .details import connection_details, socket_details
from .flows import Flow
from .poller import ERR, HUP, IN, OUT, RDHUP
from .problems import PROBLEMS
from .tcpsocket import FOR_EVER, SHORTEST_KEEPALIVE, is_connected, keep_alive, keep_icmp_errors, told_by_network

if TYPE_CHECKING:
    from netbridge.stack.tcp.flow import Flow as StackFlow
    from netbridge.stack.tcp.request import TcpRequest

    from .tcp import TcpForwarder

READS_A_TURN = 8
"""Reads of one host socket before the others get their turn: half a megabyte."""
UNPROVEN = 256 * 1024
"""Bytes that a flow may hold before its peer has acknowledged any; then by twice what it did, as in slow start."""
SHARE = 4
"""A flow may hold the SHAREth part of what is left for all."""
ABORTIVE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send RST."""


class TcpFlow(Flow):
    """One flow: a host socket and, once it is connected, a connection of the stack."""

    __slots__ = (
        "_blocked", "_flow", "_forwarder", "_gone", "_held", "_host_done", "_keepalive", "_patience", "_readable",
        "_request", "_sock", "_turn_due", "_up_done", "deadline", "version",
    )  # fmt: skip

    def __init__(
        self, forwarder: TcpForwarder, request: TcpRequest, sock: socket.socket, now: float, final: bytes,
    ) -> None:
        key = (request.source, request.source_port, request.destination, request.destination_port)
        super().__init__(TCP, key, "connecting", now, final)
        self.version = 4 if len(self.destination) == 4 else 6
        self._forwarder = forwarder
        self._request: TcpRequest | None = request
        self._sock: socket.socket | None = sock
        self._flow: StackFlow | None = None
        self._readable = False
        self._blocked = False
        self._host_done = False
        """The host sends no more, and all of it was given to the stack."""
        self._up_done = False
        """The codespace sends no more, and the host took it all."""
        self._gone = False
        """The host reset the flow; the codespace hears of it when the data before it has left."""
        self._patience: asyncio.TimerHandle | None = None
        """Ends a flow whose host is gone and whose data the codespace does not take."""
        self._turn_due = False
        self._keepalive = FOR_EVER
        """Seconds of silence after which this machine's kernel asks the host."""
        self._held = 0
        """Bytes for the codespace that it has not acknowledged; part of the forwarder's sum."""
        self.deadline = now + forwarder.limits.tcp_connect_timeout

    def details(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._sock is not None:
            found["socket"] = socket_details(self._sock, tcp=self._flow is not None)
        if self._flow is not None:
            found["connection"] = connection_details(self._flow.connection)
        return found

    # -- the host's connect

    def connect(self) -> None:
        """Begin the host connect."""
        assert self._sock is not None
        assert self._request is not None
        try:
            error = self._sock.connect_ex((text(self.final), self.destination_port))
        except OSError as raised:
            error = raised.errno or EHOSTUNREACH
        if error not in (0, EINPROGRESS):
            self.connect_failed(error)
            return
        self._request.on_cancel = self.cancelled
        try:
            self._forwarder.poller.register(self._sock.fileno(), self.host_event)
        except OSError:  # ENOSPC: fs.epoll.max_user_watches; ENOMEM
            self.connect_failed(ENOMEM)

    def connect_failed(self, error: int) -> None:
        """Tell the codespace what `connect` said."""
        request, self._request = self._request, None
        assert request is not None
        assert self._sock is not None
        counters = self._forwarder.counters
        # The error queue still knows what was said to the letter, and by whom: traceroute wants that, and some codes
        # have an errno that this machine itself never gives (ENONET of 3/8).
        problem, source, ttl = told_by_network(self._sock, self.version) or (PROBLEMS.get(error), None, 64)
        self._release(abortive=False)
        if error == ECONNREFUSED:
            counters.refused += 1
            request.refuse()
        elif problem is not None:
            counters.unreachable += 1
            request.unreachable(problem, source, ttl)
        elif error == ETIMEDOUT:
            counters.timed_out += 1
            request.drop()  # the codespace's own timer says it
        else:
            counters.dropped_error += 1
            request.drop()  # a shortage of ours: its next SYN tries again

    def connect_timed_out(self) -> None:
        """The host did not answer in time: neither do we."""
        request, self._request = self._request, None
        self._release(abortive=True)
        assert request is not None
        self._forwarder.counters.timed_out += 1
        request.drop()

    def cancelled(self) -> None:
        """The codespace took its request back."""
        self._request = None
        self._forwarder.counters.cancelled += 1
        self._release(abortive=True)

    # -- the poller

    def host_event(self, events: int) -> None:
        """Readiness of the host socket changed."""
        flow = self._flow
        if flow is None:
            begun = monotonic()
            self._connect_event(events)
            self._forwarder.spend(monotonic() - begun)
            return
        if events & (IN | RDHUP | HUP | ERR):
            self._readable = True
            if events & ERR:
                self._host_gone()
            else:
                self._read_host()
        if events & OUT and self._blocked and self._sock is not None:
            self._blocked = False
            flow.drain()

    def _connect_event(self, events: int) -> None:
        request, sock = self._request, self._sock
        if request is None or sock is None or not events & (OUT | ERR | HUP):
            return
        try:
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as raised:
            error = raised.errno or ENOMEM
        if error and error not in (ECONNRESET, EPIPE):
            self.connect_failed(error)
            return
        if events & ERR and not error and not is_connected(sock):
            # An entry in the error queue, told of before the kernel has judged it (it wakes us first), or one that it
            # takes as advice: the connect still runs, and its end is an edge of its own.
            return
        self._request = None
        keep_icmp_errors(sock, self.version, keep=False)
        self._forwarder.connect_done(self)
        self._forwarder.handshaking[self] = None
        self._forwarder.counters.connected += 1
        self._readable = bool(events & (IN | RDHUP | HUP))
        self.state = "open"
        self._flow = request.accept(self)
        if error:
            # Only a connection can be reset: it was open, for a moment, and perhaps the host said something.
            self._readable = True
            self._host_gone()

    # -- ConnectionUser: from the codespace

    def connected(self) -> None:
        """The codespace's kernel finished the handshake."""
        self._forwarder.handshaking.pop(self, None)
        if self._readable:
            self._read_host()

    def data_received(self, data: memoryview) -> int:
        """Give data to the host socket; what it does not take waits in the stack."""
        if self._blocked:
            return 0
        size = len(data)
        assert self._sock is not None
        try:
            taken = self._sock.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            # The host is gone; told from outside this call, which the stack makes in mid-segment.
            self._blocked = True
            self._forwarder.loop.call_soon(self._host_gone)
            return 0
        if taken < size:
            self._blocked = True
        self.bytes_up += taken
        self.packets_up += 1
        self.last_used = self._forwarder.clock()
        return taken

    def eof_received(self) -> None:
        """The codespace sends no more, and the host has all of it."""
        self._up_done = True
        if self._sock is None:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._forwarder.loop.call_soon(self._host_gone)
            return
        self.state = "half closed by codespace"
        self._finish_if_done()

    def probed(self, idle: float) -> None:
        """The codespace asks whether the connection lives. Only the host can know, so it is asked as well."""
        seconds = max(SHORTEST_KEEPALIVE, round(idle))
        if self._sock is not None and seconds < self._keepalive:
            self._keepalive = seconds
            keep_alive(self._sock, seconds)

    def acked(self) -> None:
        """The codespace took data: there may be room for more."""
        self._account()
        if self._readable:
            self._read_host()
        elif self._gone:
            self._pass_reset()

    def closed(self, error: OSError | None) -> None:
        """The codespace's side is over."""
        self._flow = None
        if error is not None and not (self._host_done and self._up_done):
            self._forwarder.counters.resets_up += 1
        self._release(abortive=error is not None)

    # -- from the host

    def _account(self) -> None:
        """Note what this flow holds for the codespace: sent or to be sent, and not acknowledged."""
        if self._flow is not None:
            sender = self._flow.connection.sender
            held = sender.flight + sender.queued
            self._forwarder.held += held - self._held
            self._held = held

    def _read_host(self) -> None:
        flow, sock = self._flow, self._sock
        if flow is None or sock is None:
            return
        if self._host_done:
            self._readable = False
            if self._gone:
                self._pass_reset()
            return
        sender = flow.connection.sender
        largest = sender.max_payload
        forwarder = self._forwarder
        limits = forwarder.limits
        for _ in range(READS_A_TURN):
            # The window is the peer's word alone; what is read on its strength has to be bounded here: by what is left
            # of the memory for all (dynamic thresholds, as in `stack/tcp/budget.py`) and by what this peer has taken.
            # One that takes nothing must not hold what others need.
            most = min(
                limits.bytes_per_flow,
                max((limits.bytes_in_all - forwarder.held) // SHARE, limits.bytes_per_flow_at_least),
                UNPROVEN + 2 * (self.bytes_down - self._held),
            )
            room = min(sender.room, most - self._held)
            # A crumb at the window's end waits for more room: silly-window avoidance (RFC 9293, section 3.8.6.2.1).
            if sender.queued or (room < sender.mss and (room <= 0 or room * 2 < sender.max_wnd)):
                if sender.queued or sender.una != sender.nxt:
                    return  # `acked` comes back here
                if room <= 0:
                    room = sender.mss  # closed, and nothing in flight: a little must wait, for the stack to probe
            try:
                data = sock.recv(largest if room > largest else room)
            except BlockingIOError:
                self._readable = False
                if self._gone:
                    self._host_said_all()
                return
            except OSError:
                self._note_gone()
                data = b""
            if not data:
                self._readable = False
                self._host_said_all()
                return
            if flow.over:
                self.reset()  # nobody is there to hear it; a kernel answers so for an application that has closed
                return
            size = len(data)
            self.bytes_down += size
            self.packets_down += 1
            self.last_used = forwarder.clock()
            self._held += size
            forwarder.held += size
            flow.write(data)
            if self._sock is None:
                return  # writing ended the link, and this flow
        if not self._turn_due:
            self._turn_due = True
            self._forwarder.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_due = False
        self._read_host()

    def _host_said_all(self) -> None:
        """Everything the host sent was given to the stack: the end of it follows, be it FIN or reset."""
        flow = self._flow
        if flow is None or self._host_done:
            return
        self._host_done = True
        if self._gone:
            self._pass_reset()
            return
        self.state = "half closed by host"
        flow.shutdown()
        self._finish_if_done()

    def _host_gone(self) -> None:
        """The host reset the flow: so do we, after what it sent before."""
        if self._flow is not None:
            self._note_gone()
            self._read_host()

    def _note_gone(self) -> None:
        if not self._gone:
            self._gone = True
            self.state = "reset by host"
            forwarder = self._forwarder
            self._patience = forwarder.loop.call_later(forwarder.limits.tcp_orphan_timeout, self._patience_ended)

    def _patience_ended(self) -> None:
        self._forwarder.counters.resets_down += 1
        self.reset()

    def _pass_reset(self) -> None:
        """Reset the codespace's side, once everything the host sent has left."""
        flow = self._flow
        if flow is None or flow.queued or not self._host_done:
            return
        self._flow = None
        self._forwarder.counters.resets_down += 1
        flow.abort()
        self._release(abortive=True)

    def _finish_if_done(self) -> None:
        """Both sides said all: the host socket can go, the stack sees the rest delivered."""
        if self._host_done and self._up_done and self._flow is not None:
            self.state = "closing"
            self._close_socket(abortive=False)
            self._flow.abandon()

    def _release(self, *, abortive: bool) -> None:
        self._close_socket(abortive=abortive)
        self._forwarder.gone(self)

    def _close_socket(self, *, abortive: bool) -> None:
        sock = self._sock
        if sock is None:
            return
        self._sock = None
        self._blocked = True
        self._readable = False
        self._forwarder.poller.unregister(sock.fileno())
        if abortive:
            with suppress(OSError):  # some systems refuse it once the host has reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
        sock.close()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def let_go(self) -> None:
        """What was held is not any more."""
        self._forwarder.held -= self._held
        self._held = 0

    def reset(self) -> None:
        """End both sides now; a request is dropped, for nobody knows what the host would have said."""
        flow, self._flow = self._flow, None
        request, self._request = self._request, None
        if request is not None:
            self._forwarder.counters.dropped_closing += 1
            request.drop()
        if flow is not None:
            flow.abort()
        self._release(abortive=True)
