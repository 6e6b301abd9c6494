"""Carriers of this machine and of ssh: a unix socket, standard input and output, OpenSSH's client.

Who is at the other end the system says: of a unix socket the user (SO_PEERCRED), who has to be the same one, or root;
of standard streams whoever started this program; of ssh the SSH server. A pre-shared key is proved besides, if given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Any

from netbridge.stack.link.base import LinkError

from ..agent.peers import peer_uid
from ..errors import BridgeError, NotPermittedError
from ..user import helper_user, in_person
from .carriers import Visit
from .channel import FLUSH, Channel, ProofError, StreamChannel
from .credentials import Credentials
from .place import Place
from .tls import LIMIT

COMMAND = ("netbridge", "link", "listen", "stdio:")
"""What ssh runs on the other machine."""


@contextlib.asynccontextmanager
async def listen_unix(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`. The socket is its owner's alone; one that nobody serves any more is replaced."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user = _peer(writer)

        async def opening() -> StreamChannel:
            _same_user(user, {os.getuid(), 0})
            return StreamChannel(reader, writer, f"user {user}")

        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await visit(f"user {user}", f"user {user}", opening)
        finally:
            serving.discard(task)
            writer.close()

    listener = _bind(place.path)
    server = await asyncio.start_unix_server(serve, sock=listener, limit=LIMIT)
    try:
        yield [str(place)]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        with contextlib.suppress(OSError):
            os.unlink(place.path)


def _bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with in_person(helper_user()):
            if _stale(path):
                os.unlink(path)
            mask = os.umask(0o177)  # from its first moment
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
        listener.listen(64)
    except OSError as error:
        listener.close()
        kind = NotPermittedError if isinstance(error, PermissionError) else BridgeError
        raise kind(f"{path} cannot be listened on.", f"{error.strerror or error}.", "Name another path.") from error
    return listener


def _stale(path: str) -> bool:
    """A socket is there, and nobody behind it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _peer(writer: asyncio.StreamWriter) -> int:
    """The user at the other end (unix(7)); LOCAL_PEERCRED's way where that is missing is not known here."""
    user = peer_uid(writer.get_extra_info("socket"))
    return os.getuid() if user is None else user  # macOS: the mode of the socket keeps others out


def _same_user(user: int, admitted: set[int]) -> None:
    if user not in admitted:
        raise ProofError(f"user {user} is at the other end, and neither this one ({os.getuid()}) nor root")


async def connect_unix(place: Place, credentials: Credentials) -> Channel:
    """See `carriers.connect`."""
    try:
        reader, writer = await asyncio.open_unix_connection(place.path, limit=LIMIT)
    except OSError as error:
        raise LinkError(error.strerror or str(error)) from error
    try:
        user = _peer(writer)
        _same_user(user, {os.getuid(), 0, *([user] if os.getuid() == 0 else [])})  # root may ask whomever it named
    except BaseException:
        writer.close()
        raise
    return StreamChannel(reader, writer, str(place))


@contextlib.asynccontextmanager
async def listen_stdio(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`: there is one visit."""

    async def opening() -> StreamChannel:
        return StreamChannel(*await standard_streams(), "standard input and output")

    visiting = asyncio.ensure_future(visit("stdio", "standard input and output", opening))
    try:
        yield [str(place)]
    finally:
        visiting.cancel()
        await asyncio.gather(visiting, return_exceptions=True)


async def standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """This process's own, as binary streams; whatever is printed from now on goes to standard error."""
    loop = asyncio.get_running_loop()
    source, sink = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    sys.stdout.flush()
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    unread = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, protocol = await loop.connect_write_pipe(lambda: unread, sink)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


class SshChannel(StreamChannel):
    """The streams of an ssh client; what it and the program over there complain of goes to our standard error."""

    def __init__(self, process: Process, who: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        super().__init__(process.stdout, process.stdin, who)
        self.process = process

    async def take(self, size: int) -> bytes:
        data = await super().take(size)
        if not data:
            try:
                async with asyncio.timeout(FLUSH):
                    status = await self.process.wait()
            except TimeoutError:
                return data
            raise LinkError(_ended(status))
        return data

    async def close(self) -> None:
        await super().close()
        try:
            async with asyncio.timeout(FLUSH):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            await self.process.wait()


def _ended(status: int) -> str:
    if status == 255:
        return "ssh made no connection; it said why above"
    if status == 127:
        return "there is no such program over there; --command says what to run instead"
    return f"the program over there ended with status {status}; it said why above"


async def connect_ssh(place: Place, command: str) -> SshChannel:
    """See `carriers.connect`: through the system's ssh, with its settings, keys and known hosts."""
    port = ["-p", str(place.port)] if place.port else []
    user = ["-l", place.user] if place.user else []
    words: list[Any] = ["ssh", "-T", *port, *user, "--", place.host, command]
    try:
        process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE, limit=LIMIT,
                                                       start_new_session=True)  # ctrl-c is ours
    except OSError as error:
        raise BridgeError(
            "ssh cannot be started.", f"{error.strerror or error}.", "Install OpenSSH's client.",
        ) from error
    return SshChannel(process, str(place))
