"""`netbridge stack serve` and `netbridge stack dial`: the stack on a TUN device, where the kernel is its neighbour."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError

from . import rights
from .text import clean

if TYPE_CHECKING:
    from netbridge.bridge.served import Served
    from netbridge.stack import Stack
    from netbridge.stack.link import Link

CHUNK = 1 << 16
Tun = Annotated[str, Parameter(name="--tun", metavar="NAME", help=(
    "The TUN device. It is made, and the kernel gets an address on it; without root it has to be there for this user."
))]
Address = Annotated[list[str], Parameter(name="--address", metavar="CIDR", negative=(), help=(
    "The stack's own address, as in 10.8.0.2/24; may be repeated. The first other one of its network is the kernel's."
))]
Mtu = Annotated[int | None, Parameter(name="--mtu", metavar="BYTES", help="Of the device (default: as it is, 1500).")]
Offload = Annotated[bool, Parameter(name="--offload", help="Super-segments between stack and kernel (the default).")]
Pcap = Annotated[Path | None, Parameter(name="--pcap", metavar="FILE", help="Write every packet to FILE (pcapng).")]


@rights.by_itself
def serve(
    *, tun: Tun, address: Address,
    echo: Annotated[bool, Parameter(name="--echo", negative=(), help="Echo by TCP and UDP, port 7.")] = False,
    http: Annotated[str | None, Parameter(name="--http", metavar="DIR", help="Show a folder by HTTP, port 80.")] = None,
    exit: Annotated[bool, Parameter(name="--exit", negative=(), help=(
        "Forward what is sent to other addresses than its own to this machine's sockets."
    ))] = False,
    route: Annotated[list[str] | None, Parameter(name="--route", metavar="CIDR", negative=(), help=(
        "With --exit: only these networks are reached; may be repeated."
    ))] = None,
    allow: Annotated[list[str] | None, Parameter(name="--allow", metavar="CIDR[:PORTS]", negative=(), help=(
        "With --exit: open what is closed by default, as `netbridge up` has it."
    ))] = None,
    deny: Annotated[list[str] | None, Parameter(name="--deny", metavar="CIDR[:PORTS]", negative=(), help=(
        "With --exit: close something; wins over --allow."
    ))] = None,
    mtu: Mtu = None, offload: Offload = True, pcap: Pcap = None,
) -> int:
    """Be a host on a TUN device, until ctrl-c: the kernel beside it can ping it, and use its services.

    Always there: iperf3's server (port 5201, TCP), and a sink and a source of bytes (discard, 9, and 19).
    """
    from netbridge.bridge.served import Offer, Served

    if not exit and (route or allow or deny):
        raise UsageError("There is nothing to route.", "--route, --allow and --deny are of --exit.", "Add --exit.")
    offer = Offer(
        echo=echo, folder=http, exit=exit, routes=None if route is None else tuple(route), allow=tuple(allow or ()),
        deny=tuple(deny or ()),
    )

    with ExitStack() as files:
        link, name, beside = _link(files, tun, address, mtu, offload=offload, pcap=pcap)
        try:
            served = Served(link, address, offer, beside=beside)
        except BaseException:
            link.close()
            raise
        _run(lambda: _serve(served, name, ", ".join(one.partition("/")[0] for one in address)))
    return 0


async def _serve(served: Served, name: str, addresses: str) -> None:
    """Serve until a signal or the device's end."""
    from netbridge.bridge.back.listening import until_signal

    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    async with served:
        before = served.stack.on_lost

        def ended(error: Exception | None) -> None:
            if before is not None:
                before(error)
            if not lost.done():
                lost.set_result(error)

        served.stack.on_lost = ended
        services = [f"{service} {port}" for service, port in served.ports.items()]
        what = ", ".join(["ping", *services, *(["exit"] if served.exit else [])])
        print(clean(f"{addresses} on {name}: {what}"), file=sys.stderr, flush=True)
        ending = asyncio.ensure_future(until_signal((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), _nothing()))
        waited: list[asyncio.Future[Any]] = [ending, lost]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        await asyncio.wait([ending])
        if lost.done():
            raise BridgeError(
                f"The TUN device {name} went away.", f"{lost.result() or 'It was closed'}.",
                "Start it again once the device is there.",
            )


@rights.by_itself
def dial(
    host: str, port: int, /, *, tun: Tun, address: Address, mtu: Mtu = None, offload: Offload = True, pcap: Pcap = None,
) -> int:
    """Connect standard input and output to a port, through a stack of its own on a TUN device.

    Parameters
    ----------
    host
        A numeric address that is reached by the TUN: the kernel's, or one that the kernel forwards to.
    port
        TCP port.
    """
    from netbridge.stack import Stack

    with ExitStack() as files:
        link, *_ = _link(files, tun, address, mtu, offload=offload, pcap=pcap)
        _run(lambda: _dial(Stack(link, address, sources=()), host, port))
    return 0


async def _dial(stack: Stack, host: str, port: int) -> None:
    async with stack:
        try:
            reader, writer = await stack.open_connection(host, port)
        except ValueError as error:
            raise UsageError(f"{host} port {port} cannot be dialled.", f"{error}.", "Name another one.") from error
        except OSError as error:
            raise TargetUnreachableError(
                f"{host} port {port} was not reached.", f"{error.strerror or error}.", "See that it listens.",
            ) from error
        await _carry(reader, writer, host, port)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Standard input there, and what comes back to standard output, until that ends."""
    # A daemon: it may wait for a person who types nothing more, and the program is not to wait with it.
    threading.Thread(target=_feed, args=(asyncio.get_running_loop(), writer), daemon=True).start()
    try:
        while data := await reader.read(CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view):]
    except ConnectionError as error:
        raise BridgeError(
            f"The connection to {host} port {port} was cut off.", f"{error.strerror or error}.",
            "What was printed may not be all; try again.",
        ) from error
    writer.close()
    await writer.wait_closed()


def _feed(loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter) -> None:
    """Standard input to the connection, and its end too."""

    async def send(data: bytes) -> None:
        if data:
            writer.write(data)
            await writer.drain()
        else:
            writer.write_eof()

    with suppress(OSError, RuntimeError, CancelledError):  # the connection is over, or the event loop is
        data = b"begin"
        while data:
            data = os.read(0, CHUNK)
            asyncio.run_coroutine_threadsafe(send(data), loop).result()


def _link(
    files: ExitStack, tun: str, addresses: list[str], mtu: int | None, *, offload: bool, pcap: Path | None,
) -> tuple[Link, str, frozenset[bytes]]:
    """The link on the TUN, the device's name, and the kernel's addresses on it."""
    from netbridge.bridge import tunside
    from netbridge.bridge.user import step_down
    from netbridge.stack.link import PcapLink

    if mtu is not None and not 68 <= mtu <= 65535:
        raise UsageError(f"An MTU is not {mtu}.", "It is 68 to 65535 bytes, with IPv6 1280 or more.", "Name one.")
    link, beside = tunside.join(tun, tunside.interfaces(addresses), mtu=mtu, offload=offload)
    step_down()
    file = None
    if pcap is not None:
        try:
            file = files.enter_context(pcap.open("wb"))
        except OSError as error:
            link.close()
            raise BridgeError(f"{pcap} cannot be written.", f"{error.strerror}.", "Name another file.") from error
    return (link if file is None else PcapLink(link, file, name=link.name)), link.name, beside


async def _nothing() -> None:
    """Nothing is left to begin."""


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, on the quicker event loop where there is one."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):  # not made for every system
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
