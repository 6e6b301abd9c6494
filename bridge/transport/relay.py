"""This process' stdin and stdout, connected with a channel until it ends: what `ssh` does for a COMMAND over there.

On a terminal the local line discipline is switched off (raw), so that every key, ctrl-c included, goes to the
command, whose own terminal is over there. However the relay ends, the terminal's settings are put back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable

from .base import Channel
from .terminal import has_terminal, settings_restored

READ = 65536


async def relay(channel: Channel, end_input: Callable[[], None], resized: Callable[[], None] | None = None) -> int:
    """Connect stdin and stdout with the channel; its exit status. `resized` is called when the terminal's size
    changed.
    """
    terminal = has_terminal()
    loop = asyncio.get_running_loop()
    with settings_restored() if terminal else contextlib.nullcontext():
        if terminal:
            tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the command
            if resized is not None:
                loop.add_signal_handler(signal.SIGWINCH, resized)
        try:
            await _Relay(channel, end_input).run()
        finally:
            if terminal and resized is not None:
                loop.remove_signal_handler(signal.SIGWINCH)
        status = await channel.wait_closed()
    return 128 + signal.SIGHUP if status is None else status


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything, waiting where the descriptor does not take it. Raises OSError."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever shares our terminal made it non-blocking
            select.select([], [descriptor], [])


class _Relay:
    def __init__(self, channel: Channel, end_input: Callable[[], None]) -> None:
        self._channel = channel
        self._end_input = end_input
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._listening = False
        self._input_open = True

    async def run(self) -> None:
        self._channel.start(self)
        self._listen()
        try:
            await self._ended
        finally:
            self._pause()
            self._channel.close()

    # ChannelUser

    def data_received(self, data: memoryview) -> None:
        try:
            write_all(1, data)
        except OSError:  # nobody reads our stdout any more
            self.channel_lost(None)

    def burst_ended(self) -> None:
        pass

    def channel_ready(self) -> None:
        self._listen()

    def channel_lost(self, _error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # stdin

    def _listen(self) -> None:
        if self._listening or not self._input_open or self._ended.done():
            return
        try:
            blocking = os.get_blocking(0)
            self._loop.add_reader(0, self._typed)
            self._listening = True
            os.set_blocking(0, blocking)  # uvloop clears it, for everyone who shares this terminal, and for good
        except OSError:  # a regular file, which is always readable: epoll refuses it (EPERM)
            self._loop.call_soon(self._typed)

    def _pause(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(0)

    def _typed(self) -> None:
        if not self._input_open or self._ended.done():
            return
        try:
            data = os.read(0, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._pause()
            self._input_open = False
            self._end_input()
            return
        self._channel.write([data])
        if not self._channel.ready:
            self._pause()
        elif not self._listening:
            self._loop.call_soon(self._typed)
