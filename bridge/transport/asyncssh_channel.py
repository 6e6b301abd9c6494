"""A channel on an asyncssh session, fed by its callbacks: no stream objects and no tasks in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import asyncssh

from .base import Buffer, Channel, ChannelUser
from .diagnostics import Diagnostics
from .outgoing import HIGH_WATER, LOW_WATER

WINDOW = 16 << 20
"""Bytes the server may send before we grant more: 16 MiB fill 1.3 Gbit/s at 100 ms."""
MOST_PACKET = 128 * 1024
"""Bytes of one SSH packet towards us; servers have a smaller limit of their own, OpenSSH's is 32 KiB."""


class AsyncsshChannel(Channel, asyncssh.SSHClientSession[bytes]):
    """The stdin and stdout of a command."""

    def __init__(self, log: Callable[[str], None], errors: Callable[[bytes], None] | None = None) -> None:
        """`errors` takes the command's standard error as it comes; None: it is logged, line by line."""
        self._loop = asyncio.get_running_loop()
        self._diagnostics = Diagnostics(log)
        self._errors = errors or self._diagnostics.feed
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._user: ChannelUser | None = None
        self._ready = True
        self._burst = False
        """`burst_ended` is already on its way."""
        self._closing = False
        self._ended = False
        self._error: Exception | None = None
        self._told = False
        self.explain: Callable[[Exception], Exception] | None = None
        """Makes what ended the connection an error for the user."""

    def __repr__(self) -> str:
        return f"<AsyncsshChannel {'ended' if self._ended else 'open'}>"

    # Channel

    def start(self, user: ChannelUser) -> None:
        self._user = user
        if self._ended:
            self._loop.call_soon(self._tell)
        elif self._channel is not None:
            self._channel.resume_reading()

    def write(self, buffers: Sequence[Buffer]) -> None:
        if self._channel is not None and not self._closing:
            with contextlib.suppress(OSError):  # the other side has closed already; its end will be told
                self._channel.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    @property
    def ready(self) -> bool:
        return self._ready

    def end_input(self) -> None:
        """Let the command see end of file on its stdin."""
        if self._channel is not None and not self._closing:
            with contextlib.suppress(OSError):
                self._channel.write_eof()

    def resize(self, columns: int, rows: int) -> None:
        """Tell the command's terminal its size."""
        if self._channel is not None and not self._closing:
            self._channel.change_terminal_size(columns, rows)

    def close(self) -> None:
        if self._closing or self._channel is None:
            return
        self._closing = True
        self._channel.close()
        self._loop.call_soon(self._tell)

    async def wait_closed(self) -> int | None:
        assert self._channel is not None
        await self._channel.wait_closed()
        status = self._channel.get_returncode()
        return 128 - status if status is not None and status < 0 else status

    def diagnostics(self) -> str:
        return self._diagnostics.text()

    # asyncssh.SSHClientSession

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        chan.pause_reading()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            self._errors(data)
            return
        if self._user is not None and not self._closing:
            self._user.data_received(memoryview(data))
            if not self._burst:
                # asyncssh takes all the packets of one read from its socket apart before the loop goes on.
                self._burst = True
                self._loop.call_soon(self._burst_ended)

    def _burst_ended(self) -> None:
        self._burst = False
        if self._user is not None and not self._told:
            self._user.burst_ended()

    def pause_writing(self) -> None:
        self._ready = False

    def resume_writing(self) -> None:
        self._ready = True
        if self._user is not None:
            self._user.channel_ready()

    def eof_received(self) -> bool:
        return True  # the exit status follows

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._diagnostics.close()
        if exc is not None:
            self._error = self.explain(exc) if self.explain is not None else exc
        self._tell()

    def _tell(self) -> None:
        if self._user is not None and not self._told:
            self._told = True
            self._closing = True
            self._user.channel_lost(self._error)
