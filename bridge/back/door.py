"""The asking end: find the running bridge that is meant, and get connections into its codespace.

`Door.open` is a plain blocking function and gives a socket, for `netbridge connect`; `Door.enter` joins an asyncio
transport to a place, for local listeners. A connection that broke looks like one that ended, because a unix socket
knows no reset; so whoever saw the end asks the bridge which it was (`broken`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self

from .. import control, runtime
from ..errors import BridgeError, TargetUnreachableError, UsageError
from .ends import End, join

ANSWER_MAX = 4096
GONE = "The bridge ended."

_TODO = {
    "ECONNREFUSED": "See that something listens there, on that address: ss -ltn over there tells.",
    "EAI_NONAME": "Names are resolved over there: see its hosts file and resolver.",
    "EAI_AGAIN": "The resolver over there does not answer; try again.",
    "EAGAIN": "Wait until `netbridge up` says that it is ready.",
    "EMFILE": "Close some of them.",
}


class BackError(BridgeError):
    """A place over there was not reached; `code` is the error's name (ECONNREFUSED, EAI_NONAME)."""

    def __init__(self, host: str, port: int, why: str, code: str) -> None:
        super().__init__(
            f"{host} port {port} was not reached from the codespace.", f"{why.rstrip('.')}.",
            _TODO.get(code, "Try to reach it from a shell over there."),
        )
        self.code = code


def find(folders: list[runtime.Folder], target: str | None) -> tuple[runtime.Folder, int]:
    """The bridge to `target` (or of that number); without, the only one there is.

    Raises TargetUnreachableError when there is none, UsageError when there are several.
    """
    running = [(folder, number) for folder in folders for number in folder.running()]
    if target is None and len(running) == 1:
        return running[0]
    bridges = [(folder, bridge) for folder in folders for bridge in control.statuses(folder)]
    names = ", ".join(str(bridge.get("target", bridge["number"])) for _, bridge in bridges)
    chosen = [
        (folder, bridge["number"]) for folder, bridge in bridges
        if target is None or target in {bridge.get("target"), str(bridge["number"])}
    ]
    if not chosen:
        what = f"No bridge to {target} is running." if target else "No bridge is running."
        why = f"Running: {names}." if names else "You have started none, or it has ended."
        raise TargetUnreachableError(what, why, "Start it with `netbridge up`.")
    if len(chosen) > 1:
        raise UsageError(
            f"{len(chosen)} bridges could be meant.", f"They are {names}.", "Name one by --target, or by its number.",
        )
    return chosen[0]


class Door:
    """The way into one bridge's codespace. Close it, or use it as a context manager."""

    def __init__(self, target: str | None) -> None:
        """Find the bridge. Raises what `find` raises."""
        self._target = target
        self._folders = runtime.folders()
        try:
            self._folder, self._number = find(self._folders, target)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folders."""
        for folder in self._folders:
            folder.close()

    def _find_again(self) -> None:
        """A bridge may have been started anew, under another number."""
        with contextlib.suppress(BridgeError):
            self._folder, self._number = find(self._folders, self._target)

    @property
    def _address(self) -> str:
        return self._folder.address(f"{self._number}.sock")

    # -- blocking

    def open(self, host: str, port: int) -> tuple[socket.socket, int]:
        """A socket whose bytes are those of a place over there, and the connection's number. Raises BridgeError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:  # without a time limit: the bridge has one, and its end is seen
                connection.connect(self._address)
                self._folder.check_peer(connection)
                connection.sendall(_request(host, port))
                line = _line(connection)
            except OSError as error:
                raise gone(error) from error
            number = _number(line, host, port)
        except BaseException:
            connection.close()
            raise
        return connection, number

    def broken(self, number: int) -> str:
        """Why a connection that ended was cut off; empty when it was not."""
        try:
            return str(control.ask(self._folder, self._number, "ended", connection=number).get("broken", ""))
        except BridgeError:
            return GONE

    # -- asyncio

    async def enter(self, visitor: End, host: str, port: int, reached: Callable[[], None] = lambda: None) -> None:
        """Join a transport to a place over there; `reached` is called before any of its bytes. Raises BridgeError.

        When the connection breaks, the visitor's is reset.
        """
        loop = asyncio.get_running_loop()
        asking = _Asking(loop.create_future())
        try:
            try:
                await loop.create_unix_connection(lambda: asking, self._address)
            except (ConnectionRefusedError, FileNotFoundError):
                self._find_again()
                await loop.create_unix_connection(lambda: asking, self._address)
            assert asking.transport is not None
            self._folder.check_peer(asking.transport.get_extra_info("socket"))
            asking.transport.write(_request(host, port))
            number = _number(await asking.line, host, port)
        except OSError as error:
            asking.fail("")
            raise gone(error) from error
        except BaseException:
            asking.fail("")
            raise
        if visitor.lost:
            asking.fail("")
            return
        reached()
        asking.ask_whether_broken = lambda: self._whether_broken(number)
        join(visitor, asking)

    async def _whether_broken(self, number: int) -> str:
        try:
            async with asyncio.timeout(5.0):
                reader, writer = await asyncio.open_unix_connection(self._address)
                self._folder.check_peer(writer.get_extra_info("socket"))
                writer.write(json.dumps({"ask": "ended", "connection": number}).encode() + b"\n")
                line = await reader.readline()
                writer.close()
            return str(json.loads(line).get("broken", ""))
        except (OSError, ValueError, AttributeError):
            return GONE


class _Asking(End):
    """The connection to the bridge: first one line, then the bytes of the place over there."""

    def __init__(self, line: asyncio.Future[bytes]) -> None:
        super().__init__()
        self.line = line
        self.ask_whether_broken: Callable[[], Any] | None = None
        self._asked: asyncio.Task[None] | None = None

    def arrived(self) -> None:
        if self.line.done():
            return
        line, found, rest = bytes(self.held).partition(b"\n")
        if found:
            self.held[:] = rest
            self.line.set_result(line)
        elif len(self.held) > ANSWER_MAX:
            self.line.set_exception(ConnectionError("its answer does not end"))

    def left(self) -> None:
        if not self.line.done():
            self.line.set_exception(ConnectionError("it hung up"))

    def eof_received(self) -> bool:
        if self.partner is None or self.ask_whether_broken is None:
            return super().eof_received()
        self._asked = asyncio.get_running_loop().create_task(self._end())
        return True

    async def _end(self) -> None:
        """It ended, or was cut off; the visitor shall see which."""
        assert self.ask_whether_broken is not None
        why = await self.ask_whether_broken()
        partner = self.partner
        if why and partner is not None:
            self.fail(why)
            partner.fail(why)
        else:
            super().eof_received()


def gone(error: Exception) -> TargetUnreachableError:
    """The bridge itself does not answer."""
    return TargetUnreachableError(
        "The bridge does not answer.", f"{str(error) or type(error).__name__}.",
        "Look whether it still runs (`netbridge status`).",
    )


def _request(host: str, port: int) -> bytes:
    return json.dumps({"ask": "connect", "host": host, "port": port}).encode() + b"\n"


def _number(line: bytes, host: str, port: int) -> int:
    """The connection's number in the bridge's answer. Raises BackError."""
    answer: Mapping[str, Any] = json.loads(line)
    if not answer.get("connected"):
        raise BackError(host, port, str(answer.get("error")), str(answer.get("code")))
    return int(answer["connection"])


def _line(connection: socket.socket) -> bytes:
    """One line, and not a byte of what follows."""
    received = bytearray()
    while not received.endswith(b"\n"):
        seen = connection.recv(ANSWER_MAX, socket.MSG_PEEK)
        if not seen or len(received) > ANSWER_MAX:
            raise ConnectionError("it hung up")
        line, found, _ = seen.partition(b"\n")
        received += connection.recv(len(line) + len(found))
    return bytes(received)
