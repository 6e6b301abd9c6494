"""A link over a stream of py-libp2p: by a handler any libp2p host becomes a place to reach a stack, or to leave one.

py-libp2p runs on trio, a stack on asyncio, each in a thread of its own (or trio as a guest of the same one). A
`Libp2pStream` stands between: each of its calls runs in trio and is awaited in asyncio, one read and one write at a
time, so nothing queues in between.

A host that is there already: `attach` a handler to it, `dial` from it, both in trio. For a program that has none,
`Libp2pNode` runs one in a thread. Who is at the other end libp2p has proved (Noise): `Libp2pStream.peer_id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from .base import LinkError
from .calls import CallLink, call_link
from .extras import need
from .greeting import TIMEOUT, Role

if TYPE_CHECKING:
    import trio
    from libp2p.abc import IHost
else:
    trio = need("trio", "libp2p")

PROTOCOL = "/netbridge/link/1.0.0"
"""The name by which hosts offer a link (as in libp2p's own: path, version last)."""
READ = 1 << 18
"""Bytes in one read: Yamux's window."""
STREAMS = 64
"""Streams that others may have open on an attached host; more are reset. Each costs a task and its buffers."""

Opened = Callable[["Libp2pStream"], Awaitable[object]]


class Libp2pStream:
    """A libp2p stream for asyncio. Made in trio, by `attach` and `dial`; used in asyncio."""

    def __init__(self, stream: Any) -> None:
        """To be called in trio, where `stream` (libp2p's INetStream) lives."""
        self._stream = stream
        self._trio = trio.lowlevel.current_trio_token()
        self.peer_id = str(stream.muxed_conn.peer_id)
        """The other host's, as libp2p writes it ("12D3Koo…")."""

    def __repr__(self) -> str:
        return f"<Libp2pStream {self.peer_id}>"

    async def read(self) -> bytes:
        """What has come; b"" at the end."""
        try:
            data: bytes = await in_trio(self._trio, self._stream.read, READ)
        except EOFError:
            return b""
        return data

    async def write(self, data: bytes) -> None:
        """Return when libp2p has taken all of it."""
        await in_trio(self._trio, self._stream.write, data)

    async def close(self) -> None:
        """End both directions."""
        with contextlib.suppress(LinkError):  # trio has ended, and the stream with it
            await in_trio(self._trio, self._stream.close)


async def in_trio(token: trio.lowlevel.TrioToken, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Await `function(*arguments)`, a function of trio's, from asyncio; cancellation goes along.

    Raises what it raises, and LinkError when trio has ended or ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    scope = trio.CancelScope()

    def settle(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def tell(result: Any, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    async def run() -> None:
        result, error = None, None
        try:
            with scope:
                result = await function(*arguments)
        except Exception as raised:
            error = raised
        except BaseException:
            tell(None, LinkError("libp2p's host was stopped"))
            raise
        tell(result, error)

    try:
        token.run_sync_soon(trio.lowlevel.spawn_system_task, run)
    except trio.RunFinishedError:
        raise LinkError("libp2p's host was stopped") from None
    try:
        return await answer
    except asyncio.CancelledError:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(scope.cancel)
        raise


async def libp2p_link(
    stream: Libp2pStream, *, mtu: int = 1500, offload: bool = True, role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> CallLink:  # fmt: skip
    """A link over a stream, once both ends have greeted; to be called in asyncio.

    The stream is taken over, and closed with the link. `mtu`, `offload`, `role` and `timeout` as in `stream_link`.
    Raises LinkError.
    """
    return await call_link(
        stream.read, stream.write, stream.close, mtu=mtu, offload=offload, role=role, timeout=timeout,
    )  # fmt: skip


def attach(host: IHost, opened: Opened, loop: asyncio.AbstractEventLoop) -> None:
    """Offer links on a host, to be called in trio: `opened(stream)` runs in `loop` for each stream that others open.

    It may look at `stream.peer_id`, makes the stream a link or closes it, and stays while the link is used; the stream
    is closed when it returns. `host.remove_stream_handler(PROTOCOL)` takes the offer back.
    """
    serving: set[asyncio.Task[None]] = set()

    async def serve(stream: Libp2pStream) -> None:
        try:
            await opened(stream)
        except LinkError as error:
            loop.call_exception_handler({"message": f"{stream!r} became no link", "exception": error})
        finally:
            await stream.close()

    def accept(stream: Libp2pStream) -> None:
        task = loop.create_task(serve(stream))
        serving.add(task)
        task.add_done_callback(serving.discard)

    async def handle(stream: Any) -> None:
        if len(serving) >= STREAMS:
            await stream.reset()
            return
        try:
            loop.call_soon_threadsafe(accept, Libp2pStream(stream))
        except RuntimeError:  # the event loop is closed
            await stream.reset()

    host.set_stream_handler(PROTOCOL, handle)  # type: ignore[arg-type]


async def dial(host: IHost, address: str) -> Libp2pStream:
    """A stream to another host that offers links, to be called in trio; `address` is a multiaddr that ends in /p2p/ID.

    Raises LinkError.
    """
    multiaddr, peerinfo = need("multiaddr", "libp2p"), need("libp2p.peer.peerinfo", "libp2p")
    try:
        peer = peerinfo.info_from_p2p_addr(multiaddr.Multiaddr(address))
    except Exception as error:
        raise LinkError(f"{address!r} is no address of a libp2p host: {error}") from error
    try:
        await host.connect(peer)
        return Libp2pStream(await host.new_stream(peer.peer_id, [PROTOCOL]))  # type: ignore[list-item]
    except Exception as error:
        raise LinkError(f"libp2p cannot open a link to {address}: {error}") from error


class Libp2pNode:
    """A libp2p host in a thread of its own, for programs that know asyncio only. Use as an async context manager."""

    host: IHost
    """The host itself; it lives in trio, in the node's thread."""

    def __init__(self, listen: Sequence[str] = (), **options: Any) -> None:
        """`listen`: multiaddrs such as "/ip4/0.0.0.0/tcp/4001"; `options` are libp2p.new_host's, key_pair for one."""
        self._listen = listen
        self._options = options
        self.addresses: list[str] = []
        """Where others reach the host: what `dial` takes."""
        self._trio: trio.lowlevel.TrioToken
        self._stop = trio.Event()
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._began: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        threading.Thread(target=self._run, name="libp2p", daemon=True).start()
        try:
            await self._began
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    def serve(self, opened: Opened) -> None:
        """See `attach`."""
        self._trio.run_sync_soon(attach, self.host, opened, self._loop)

    async def dial(self, address: str) -> Libp2pStream:
        """See `dial`; to be called in asyncio."""
        stream: Libp2pStream = await in_trio(self._trio, dial, self.host, address)
        return stream

    async def _leave(self) -> None:
        self._leaving = True
        with contextlib.suppress(trio.RunFinishedError, AttributeError):  # ended, or about to see `_leaving`
            self._trio.run_sync_soon(self._stop.set)
        await self._ended.wait()

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)

    def _settle(self, error: BaseException | None) -> None:
        if not self._began.done():
            if error is None:
                self._began.set_result(None)
            else:
                self._began.set_exception(LinkError(f"libp2p's host does not start: {error}"))

    def _run(self) -> None:
        """The thread."""
        try:
            trio.run(self._main)
        except BaseException as error:
            self._tell(self._settle, error)
        finally:
            self._tell(self._ended.set)

    async def _main(self) -> None:
        libp2p, multiaddr = need("libp2p", "libp2p"), need("multiaddr", "libp2p")
        self._trio = trio.lowlevel.current_trio_token()
        if self._leaving:
            return
        self.host = libp2p.new_host(**self._options)
        async with self.host.run(listen_addrs=[multiaddr.Multiaddr(text) for text in self._listen]):
            self.addresses = [str(address) for address in self.host.get_addrs()]
            self._tell(self._settle, None)
            await self._stop.wait()
            await self.host.close()  # its connections; leaving the block alone would leave their sockets open
