"""A channel on a child process: `ssh`, any command, or the sandbox.

The child's stdin and stdout are one end of a socket pair. Measured with uvloop, a Python child at the other end: a
socket pair carries 45 to 54 Gbit/s where a pipe of 1 MiB carries 16 to 31, because a pipe fills page by page; and a
unix socket can bring a descriptor along (SCM_RIGHTS), which is how the sandbox's agent hands over its TUN.

Reading goes into one buffer, used again and again; the user sees a view of it. Writing tries `writev` at once and
keeps what the socket did not take. When the child closes its end, the user hears of it only after the child's exit
status and its last words on standard error are known (or a moment has passed), because these say why.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ..user import User
from .base import Buffer, Channel, ChannelUser
from .child import TERMINATE_AFTER, Child
from .diagnostics import Diagnostics

READ_BUFFER = 256 * 1024
"""Bytes a read may bring. A socket pair gives about 110 KiB at a time however big it is; more only leaves the CPU's
cache.
"""
READS_PER_TURN = 4
"""Reads before other callbacks get their turn."""
SOCKET_BUFFER = 1 << 20
"""Asked for each direction; the kernel gives what net.core.wmem_max allows."""
HIGH_WATER = 512 * 1024
LOW_WATER = 128 * 1024
MOST_PENDING = 64 << 20
"""Bytes that may wait here before `write` refuses: a writer that does not look at `ready` must not eat the memory."""
VECTORS = min(1024, os.sysconf("SC_IOV_MAX"))
LAST_WORDS = 2.0
"""Seconds to wait, after the end of the stream, for the exit status and the end of standard error."""
_MOST_DESCRIPTORS = 16

Explain = Callable[[int | None, str], Exception | None]
"""From exit status (None: still running) and standard error to the error that tells the user why the stream ended."""


def start_process(
    argv: Sequence[str],
    *,
    user: User,
    log: Callable[[str], None],
    interactive: bool = False,
    explain: Explain | None = None,
    takes_descriptors: bool = False,
    cwd: str | None = None,
) -> ProcessChannel:
    """Run a program with its stdin and stdout as a channel. Raises OSError when it cannot be started."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        error_read, error_write = os.pipe()
        try:
            child = Child(
                argv,
                user=user,
                interactive=interactive,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=error_write,
                cwd=cwd,
            )
        except BaseException:
            os.close(error_read)
            raise
        finally:
            os.close(error_write)
        diagnostics = Diagnostics(log)
        diagnostics.drain(error_read)
        return ProcessChannel(
            child, socket.socket(fileno=ours.detach()), diagnostics, explain, takes_descriptors=takes_descriptors
        )


class ProcessChannel(Channel):
    """The stdin and stdout of a child process."""

    def __init__(
        self,
        child: Child,
        stream: socket.socket,
        diagnostics: Diagnostics,
        explain: Explain | None,
        *,
        takes_descriptors: bool,
    ) -> None:
        self.child = child
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._descriptor = stream.fileno()
        stream.setblocking(False)
        self._diagnostics = diagnostics
        self._explain = explain
        self._takes_descriptors = takes_descriptors
        self._received: list[int] = []
        self._user: ChannelUser | None = None
        self._buffer = bytearray(READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._unread = b""
        self._pending: deque[Buffer] = deque()
        self._pending_bytes = 0
        self._ready = True
        self._reading = False
        self._input_ends = False
        self._broken = False
        """Nobody reads what we write."""
        self._open = True
        self._lost = False
        self._told = False
        self._farewell: asyncio.TimerHandle | None = None
        child.when_ended(self._child_ended)
        diagnostics.when_ended = self._tell_when_known

    def __repr__(self) -> str:
        return f"<ProcessChannel {self.child!r} pending {self._pending_bytes} B{'' if self._open else ' closed'}>"

    def start(self, user: ChannelUser) -> None:
        self._user = user
        if self._unread:
            self._loop.call_soon(self._deliver_unread)
        if self._open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)
        elif not self._open:
            self._loop.call_soon(self._tell_when_known)

    def pause(self, unread: bytes) -> None:
        """Stop delivering until the next `start`, which will first deliver `unread` again."""
        self._user = None
        self._unread = unread
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    @property
    def ready(self) -> bool:
        return self._ready

    def write(self, buffers: Sequence[Buffer]) -> None:
        if self._broken or not self._open:
            return
        if self._pending:
            self._keep(buffers)
            return
        try:
            written = os.writev(self._descriptor, buffers if len(buffers) <= VECTORS else buffers[:VECTORS])
        except BlockingIOError:
            written = 0
        except OSError:
            self._break()
            return
        rest: list[Buffer] = []
        for buffer in buffers:
            length = len(buffer)
            if written >= length:
                written -= length
            else:
                rest.append(memoryview(buffer)[written:] if written else buffer)
                written = 0
        if rest:
            self._keep(rest)
            self._loop.add_writer(self._descriptor, self._writable)

    def end_input(self) -> None:
        """Let the command see end of file on its stdin, after what waits here was written."""
        self._input_ends = True
        if not self._pending and self._open:
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if not self._open:
            return
        if self._pending:
            self._writable()
        self._shut()
        self._lost = True
        if self._user is not None:
            self._loop.call_soon(self._tell, None)
        self.child.end_soon()

    async def wait_closed(self) -> int | None:
        return await self.child.wait()

    def diagnostics(self) -> str:
        return self._diagnostics.text()

    def received_descriptors(self) -> list[int]:
        received, self._received = self._received, []
        return received

    # Reading

    def _readable(self) -> None:
        if self._unread:  # uvloop may poll before it runs what `start` asked for
            self._deliver_unread()
        user = self._user
        for _ in range(READS_PER_TURN):
            try:
                count = self._receive() if self._takes_descriptors else self._stream.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:  # ECONNRESET: the child ended without having read all that we wrote
                count = 0
            if not count:
                self._end_of_stream()
                return
            if user is not None:
                user.data_received(self._view[:count])
            user = self._user
            if user is None or not self._reading:
                return
            if count < READ_BUFFER // 4:
                break
        if user is not None:
            user.burst_ended()

    def _receive(self) -> int:
        descriptors = array.array("i")
        count, ancillary, _flags, _address = self._stream.recvmsg_into(
            [self._buffer], socket.CMSG_SPACE(_MOST_DESCRIPTORS * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        self._received.extend(descriptors)
        return count

    def _deliver_unread(self) -> None:
        data, self._unread = self._unread, b""
        if data and self._user is not None:
            self._user.data_received(memoryview(data))
        if data and self._user is not None:
            self._user.burst_ended()

    # Writing

    def _keep(self, buffers: Sequence[Buffer]) -> None:
        self._pending_bytes += sum(map(len, buffers))
        if self._pending_bytes > MOST_PENDING:
            raise BufferError("more was written to a channel that is not ready than it may keep")
        self._pending.extend(buffers)
        if self._pending_bytes > HIGH_WATER:
            self._ready = False

    def _writable(self) -> None:
        pending = self._pending
        while pending:
            try:
                written = os.writev(self._descriptor, list(islice(pending, VECTORS)))
            except BlockingIOError:
                break
            except OSError:
                self._break()
                return
            self._pending_bytes -= written
            while written:
                length = len(pending[0])
                if written < length:
                    pending[0] = memoryview(pending[0])[written:]
                    break
                written -= length
                pending.popleft()
            while pending and not len(pending[0]):
                pending.popleft()
        if not pending:
            self._loop.remove_writer(self._descriptor)
            if self._input_ends:
                self.end_input()
        if not self._ready and self._pending_bytes <= LOW_WATER:
            self._ready = True
            if self._user is not None:
                self._user.channel_ready()

    def _break(self) -> None:
        """EPIPE: the child closed its end. Reading finds the end of the stream, after what the child still said."""
        self._broken = True
        if self._pending:
            self._loop.remove_writer(self._descriptor)
            self._pending.clear()
            self._pending_bytes = 0

    # The end

    def _end_of_stream(self) -> None:
        self._shut()
        self._lost = True
        self.child.end_soon(TERMINATE_AFTER)
        self._farewell = self._loop.call_later(LAST_WORDS, self._tell_anyway)
        self._tell_when_known()

    def _shut(self) -> None:
        self._open = False
        self._reading = False
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._pending.clear()
        self._pending_bytes = 0

    def _child_ended(self, _status: int) -> None:
        # A grandchild (a ControlPersist master, a daemon) may hold standard error open: what is there by then is
        # enough.
        self._loop.call_later(LAST_WORDS / 4, self._diagnostics.close)
        self._tell_when_known()

    def _tell_when_known(self) -> None:
        if self._lost and self.child.status is not None and self._diagnostics.ended:
            self._tell_anyway()

    def _tell_anyway(self) -> None:
        self._tell(self._explain(self.child.status, self.diagnostics()) if self._explain is not None else None)

    def _tell(self, error: Exception | None) -> None:
        if self._user is None or self._told:
            return
        self._told = True
        if self._farewell is not None:
            self._farewell.cancel()
        for descriptor in self.received_descriptors():
            os.close(descriptor)
        self._user.channel_lost(error)
