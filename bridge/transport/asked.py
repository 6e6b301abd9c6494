"""A helper program that is asked something: run as the person who called us, to its end, and never for longer than a
patience.

Such programs may ask questions of their own (a login, a choice) and wait for ever where nobody answers. So they run in
a session of their own, where /dev/tty cannot be opened, with stdin from /dev/null.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BridgeError, TargetUnreachableError
from ..user import User
from .child import Child
from .diagnostics import Diagnostics

MOST_OUTPUT = 16 << 20
"""Bytes of an answer: a list of 1000 codespaces needs half a megabyte."""
LAST_WORDS = 0.5
"""Seconds, after its end, for the end of its standard error: a grandchild may hold it open."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program that ended left."""

    status: int
    stdout: bytes
    stderr: str
    """Its last lines, printable. Untrusted."""


async def ask_program(argv: Sequence[str], user: User, *, patience: float) -> Answer:
    """Run it to its end. When it takes longer than `patience` seconds, or we are cancelled, it is killed.

    Raises TimeoutError when it does not end, TargetUnreachableError when it cannot be started, BridgeError when it
    says too much.
    """
    name = os.path.basename(argv[0])
    stdout = _Collector(name)
    stderr = Diagnostics(lambda _line: None)
    read_end, write_end = os.pipe()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    try:
        child = Child(argv, user=user, interactive=False, stdin=nowhere, stdout=stdout.write_end, stderr=write_end)
    except OSError as error:
        os.close(read_end)
        stdout.close()
        raise TargetUnreachableError(f"{name} could not be started.", f"{error}.", "Check its installation.") from error
    finally:
        os.close(write_end)
        os.close(nowhere)
        stdout.close_write_end()
    stderr.drain(read_end)
    quiet = asyncio.Event()
    stderr.when_ended = quiet.set
    try:
        async with asyncio.timeout(patience):
            output = await stdout.everything()
            status = await child.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await quiet.wait()
        return Answer(status, output, stderr.text())
    finally:
        if child.status is None:
            # It holds nothing that would want an orderly end, and it may be deaf.
            child.signal(signal.SIGKILL)
            await child.wait()
        stdout.close()
        stderr.close()


class _Collector:
    """A pipe whose content is collected, up to a limit."""

    def __init__(self, name: str) -> None:
        """`name` of the program that writes, for the error."""
        self._name = name
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._data = bytearray()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._readable)

    async def everything(self) -> bytes:
        """All that was written until the end. Raises BridgeError when it is too much."""
        await self._done
        return bytes(self._data)

    def close_write_end(self) -> None:
        os.close(self.write_end)

    def close(self) -> None:
        if self._read_end >= 0:
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._read_end, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if len(self._data) > MOST_OUTPUT:
            self._settle(BridgeError(
                f"{self._name} says too much.", f"More than {MOST_OUTPUT} bytes came.", f"Check what {self._name} is.",
            ))
        elif not data:
            self._settle(None)

    def _settle(self, error: BridgeError | None) -> None:
        self._loop.remove_reader(self._read_end)
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
