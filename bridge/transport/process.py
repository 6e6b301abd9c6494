"""A channel on a child process: `ssh`, any command, or the sandbox.

The child's stdin and stdout are one end of a socket pair. Measured with uvloop, a Python child at the other end: a
socket pair carries 45 to 54 Gbit/s where a pipe of 1 MiB carries 16 to 31, because a pipe fills page by page; and a
unix socket can bring a descriptor along (SCM_RIGHTS), which is how the sandbox's agent hands over its TUN.

Reading goes into one buffer, used again and again; the user sees a view of it. When the child closes its end, the user
hears of it only after the child's exit status and its last words on standard error are known (or a moment has passed),
because these say why.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from ..user import User
from .base import Buffer, Channel, ChannelUser
from .child import TERMINATE_AFTER, Child
from .diagnostics import Diagnostics
from .outgoing import Outgoing

READ_BUFFER = 256 * 1024
"""Bytes a read may bring. A socket pair gives about 110 KiB at a time; a bigger buffer would only leave the cache."""
READS_PER_TURN = 4
"""Reads before other callbacks get their turn."""
SOCKET_BUFFER = 1 << 20
"""Asked for each direction; the kernel gives what net.core.wmem_max allows."""
LAST_WORDS = 2.0
"""Seconds to wait, after the end of the stream, for the exit status and the end of standard error."""
_MOST_DESCRIPTORS = 16
"""Descriptors that may come with one read, and wait to be taken: the agent sends one."""

Explain = Callable[[int | None, str], Exception | None]
"""From exit status (None: still running) and standard error to the error that tells why the stream ended."""


def start_process(
    argv: Sequence[str],
    *,
    user: User,
    log: Callable[[str], None],
    interactive: bool = False,
    explain: Explain | None = None,
    takes_descriptors: bool = False,
    inherit_stderr: bool = False,
    cwd: str | None = None,
) -> ProcessChannel:
    """Run a program with its stdin and stdout as a channel. Raises OSError when it cannot be started."""
    diagnostics = Diagnostics(log)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        inside = theirs.fileno()
        if inherit_stderr:
            child = Child(argv, user=user, interactive=interactive, stdin=inside, stdout=inside, stderr=None, cwd=cwd)
        else:
            read_end, write_end = os.pipe()
            try:
                child = Child(
                    argv, user=user, interactive=interactive, stdin=inside, stdout=inside, stderr=write_end, cwd=cwd
                )
            except BaseException:
                os.close(read_end)
                raise
            finally:
                os.close(write_end)
            diagnostics.drain(read_end)
        stream = socket.socket(fileno=ours.detach())
    return ProcessChannel(child, stream, diagnostics, explain, takes_descriptors=takes_descriptors)


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
        self.explain = explain
        """May be changed while the channel lives: what an end means depends on how far one had come."""
        stream.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._descriptor = stream.fileno()
        self._diagnostics = diagnostics
        self._takes_descriptors = takes_descriptors
        self._received: list[int] = []
        self._user: ChannelUser | None = None
        self._buffer = bytearray(READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._unread = b""
        self._outgoing = Outgoing(self._descriptor, on_ready=self._writable, on_empty=self._written)
        self._input_ends = False
        self._reading = False
        self._open = True
        self._told = False
        self._unheard = False
        """Its user closed it and waits for no more words."""
        self._farewell: asyncio.TimerHandle | None = None
        child.when_ended(self._child_ended)
        diagnostics.when_ended = self._tell_when_known

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<ProcessChannel {self.child!r} waiting {self._outgoing.waiting} B{state}>"

    def start(self, user: ChannelUser) -> None:
        self._user = user
        if self._unread:
            self._loop.call_soon(self._deliver_unread)
        if self._open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)
            if self.child.status is not None:
                self._loop.call_soon(self._drain)
        elif not self._open:
            self._loop.call_soon(self._tell_when_known)

    def pause(self, unread: bytes) -> None:
        """Stop delivering until the next `start`, which will first deliver `unread` again."""
        self._user = None
        self._unread = unread
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def write(self, buffers: Sequence[Buffer]) -> None:
        if self._open:
            self._outgoing.write(buffers)

    @property
    def ready(self) -> bool:
        return self._outgoing.ready

    def end_input(self) -> None:
        """Let the command see end of file on its stdin, after what waits here was written."""
        self._input_ends = True
        if not self._outgoing.waiting:
            self._written()

    def close(self) -> None:
        self._unheard = True
        if self.child.status is not None:
            self._diagnostics.close()
        if not self._open:
            return
        if self._outgoing.waiting:
            self._outgoing.flush()
        self._shut()
        self._loop.call_soon(self._tell, None)
        self.child.end_soon()

    async def wait_closed(self) -> int | None:
        return await self.child.wait()

    def diagnostics(self) -> str:
        return self._diagnostics.text()

    def received_descriptors(self) -> list[int]:
        received, self._received = self._received, []
        return received

    def _readable(self) -> None:
        if self._unread:  # uvloop may poll before it runs what `start` asked for
            self._deliver_unread()
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
            if self._user is not None:
                self._user.data_received(self._view[:count])
            if not self._reading:
                return
            if count < READ_BUFFER // 4:
                break
        if self._user is not None:
            self._user.burst_ended()

    def _drain(self) -> None:
        """Read what a child that has ended left behind, without waiting to be told that it is there.

        A child that ends without having read all that we wrote leaves POLLERR on our end, and uvloop (0.23) forgets a
        descriptor at its first POLLERR: the end of the stream would never be heard of.
        """
        if not (self._open and self._reading):
            return
        try:
            self._stream.recv(1, socket.MSG_PEEK)
        except BlockingIOError:  # a grandchild still holds the other end
            return
        except OSError:
            pass
        self._readable()
        self._loop.call_soon(self._drain)

    def _receive(self) -> int:
        descriptors = array.array("i")
        count, ancillary, _flags, _address = self._stream.recvmsg_into(
            [self._buffer], socket.CMSG_SPACE(_MOST_DESCRIPTORS * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        self._received.extend(descriptors)
        for descriptor in self._received[_MOST_DESCRIPTORS:]:
            os.close(descriptor)
        del self._received[_MOST_DESCRIPTORS:]
        return count

    def _deliver_unread(self) -> None:
        data, self._unread = self._unread, b""
        if data and self._user is not None:
            self._user.data_received(memoryview(data))
        if data and self._user is not None:
            self._user.burst_ended()

    def _writable(self) -> None:
        if self._user is not None:
            self._user.channel_ready()

    def _written(self) -> None:
        if self._input_ends and self._open:
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_WR)

    def _end_of_stream(self) -> None:
        self._shut()
        self.child.end_soon(TERMINATE_AFTER)
        self._farewell = self._loop.call_later(LAST_WORDS, self._tell_explained)
        self._tell_when_known()

    def _shut(self) -> None:
        self._open = False
        self._reading = False
        self._loop.remove_reader(self._descriptor)
        self._outgoing.abandon()
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)  # reaches even those who inherited our end
        self._stream.close()

    def _child_ended(self, _status: int) -> None:
        # A grandchild (a daemon, a master of shared connections) may hold standard error open for ever.
        if self._unheard:
            self._diagnostics.close()
        else:
            self._loop.call_later(LAST_WORDS / 4, self._diagnostics.close)
        self._drain()
        self._tell_when_known()

    def _tell_when_known(self) -> None:
        if not self._open and self.child.status is not None and self._diagnostics.ended:
            self._tell_explained()

    def _tell_explained(self) -> None:
        self._tell(None if self.explain is None else self.explain(self.child.status, self.diagnostics()))

    def _tell(self, error: Exception | None) -> None:
        if self._user is None or self._told:
            return
        self._told = True
        if self._farewell is not None:
            self._farewell.cancel()
        for descriptor in self.received_descriptors():
            os.close(descriptor)
        self._user.channel_lost(error)
