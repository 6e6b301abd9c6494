"""`netbridge link`: two machines joined, one of them an exit, the other an entrance."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, UsageError
from netbridge.bridge.user import step_down

from . import rights
from .stack_tun import _run
from .text import clean

if TYPE_CHECKING:
    from netbridge.bridge.joint.credentials import Credentials
    from netbridge.bridge.joint.place import Place
    from netbridge.bridge.joint.sides import Side

app = cyclopts.App(
    name="link", help_format="plaintext", version_flags=(),
    help="Join two machines: what is reached from one is reached from the other.",
)
SESSIONS = 16
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Exit = Annotated[bool, Parameter(name="--exit", negative=(), help=(
    "The other end reaches what this machine reaches (the default of `listen`)."
))]
Entrance = Annotated[bool, Parameter(name="--entrance", negative=(), help=(
    "This end reaches what the other end's machine reaches (the default of `connect`)."
))]
Psk = Annotated[str | None, Parameter(name="--psk", metavar="FILE", help=(
    "The pre-shared key that both ends prove to each other; without, the variable NETBRIDGE_LINK_PSK holds it."
    " `netbridge link key` makes one."
))]
Cert = Annotated[str | None, Parameter(name="--cert", metavar="FILE", help=(
    "This end's certificate, with --key and --ca: both ends are checked (tcp+tls, wss)."
))]
Key = Annotated[str | None, Parameter(name="--key", metavar="FILE", help="The certificate's private key.")]
Ca = Annotated[str | None, Parameter(name="--ca", metavar="FILE", help=(
    "The authority that has signed the other end's certificate."
))]
Route = Annotated[list[str] | None, Parameter(name="--route", metavar="CIDR", negative=(), help=(
    "Of an exit: only these networks are reached. With --tun: these networks are reached through the link."
    " May be repeated."
))]
Allow = Annotated[list[str] | None, Parameter(name="--allow", metavar="CIDR[:PORTS]", negative=(), help=(
    "Of an exit: open what is closed by default (loopback, link-local, cloud metadata), as `netbridge up` has it."
))]
Deny = Annotated[list[str] | None, Parameter(name="--deny", metavar="CIDR[:PORTS]", negative=(), help=(
    "Of an exit: close something; wins over --allow."
))]
Forward = Annotated[list[str] | None, Parameter(name="--forward", metavar="[LOCAL:]HOST:PORT", negative=(), help=(
    "Of an entrance: listen on this machine and lead each client to a place beyond the exit. May be repeated."
))]
Socks = Annotated[str | None, Parameter(name="--socks", metavar="[ADDRESS:]PORT", help=(
    "Of an entrance: serve SOCKS5 on this machine, leading beyond the exit."
))]
Tun = Annotated[str | None, Parameter(name="--tun", metavar="NAME", help=(
    "Of an entrance: a TUN device, for every program of this machine (root); say by --route what it leads to."
))]
Mtu = Annotated[int | None, Parameter(name="--mtu", metavar="BYTES", help=(
    "Of the largest packet (default 1500, with quic 1280); the smaller one of both ends counts."
))]


@app.command
def key(file: str | None = None, /) -> int:
    """Make a pre-shared key: 256 random bits, as one line of text.

    Parameters
    ----------
    file
        A new file that only this user can read; without, the key is printed.
    """
    from netbridge.bridge.joint import key as keys

    if file is None:
        print(keys.make())
    else:
        keys.write(file)
    return 0


@app.command
@rights.by_itself
def listen(
    place: str, /, *, exit: Exit = False, entrance: Entrance = False, psk: Psk = None, cert: Cert = None,
    key: Key = None, ca: Ca = None, route: Route = None, allow: Allow = None, deny: Deny = None,
    forward: Forward = None, socks: Socks = None, tun: Tun = None, mtu: Mtu = None,
    sessions: Annotated[int, Parameter(name="--sessions", help=(
        f"How many may be joined at once (default {SESSIONS}); they share the process's limits in equal parts."
    ))] = SESSIONS,
    per_source: Annotated[int | None, Parameter(name="--per-source", help=(
        "How many of them may come from one address (default: all)."
    ))] = None,
    health: Annotated[str | None, Parameter(name="--health", metavar="[ADDRESS:]PORT", help=(
        "Answer GET /healthz by HTTP, for those who watch over containers."
    ))] = None,
) -> int:
    """Wait for the other end, until ctrl-c.

    An exit serves many entrances at once, and they share nothing; an entrance takes one exit at a time.

    Parameters
    ----------
    place
        tcp+tls://HOST:PORT, wss://HOST:PORT/PATH, quic://HOST:PORT (HOST may be * for every address),
        libp2p:///ip4/ADDRESS/tcp/PORT, unix:/PATH, or stdio: for whoever started this.
    """
    from netbridge.bridge.joint import place as places

    if exit and entrance:
        raise _both()
    if sessions < 1 or (per_source is not None and per_source < 1):
        raise UsageError("Nobody could be joined.", "Sessions are at least one.", "Name a number of sessions.")
    where = places.parse(place, "listen")
    credentials = _credentials(where, psk, cert, key, ca)

    async def run() -> None:
        from netbridge.bridge.joint.admission import Admission
        from netbridge.bridge.joint.carriers import listening
        from netbridge.bridge.joint.health import health as answering
        from netbridge.bridge.joint.reception import Reception

        async with AsyncExitStack() as ends:
            side = await _side(
                ends, where, is_exit=not entrance, route=route, allow=allow, deny=deny, forward=forward, socks=socks,
                tun=tun, mtu=mtu, sessions=sessions,
            )
            most = min(sessions, side.sessions or sessions)
            admission = Admission(most, most if per_source is None else per_source)
            reception = Reception(side, credentials, admission, _tell, mtu=_mtu(where, mtu))
            ends.callback(reception.calm.close)
            try:
                urls = await ends.enter_async_context(listening(where, credentials, reception.visit))
            except ImportError as error:
                raise BridgeError(f"{where} cannot be listened on.", f"{error}.", "Install that.") from error
            if health is not None:
                def state() -> dict[str, int]:
                    return {"sessions": len(admission.sessions), "most": most, "served": reception.served,
                            "refused": reception.refused}

                _tell(f"health: {await ends.enter_async_context(answering(health, state))}")
            step_down()  # TUN and ports below 1024 are there
            _tell(f"{side.role.name.lower()}, listening: {', '.join(urls)}")
            await (reception.left.wait() if where.scheme == "stdio" else asyncio.Event().wait())

    _until_signal(run)
    return 0


@app.command
@rights.by_itself
def connect(
    place: str, /, *, exit: Exit = False, entrance: Entrance = False, psk: Psk = None, cert: Cert = None,
    key: Key = None, ca: Ca = None, route: Route = None, allow: Allow = None, deny: Deny = None,
    forward: Forward = None, socks: Socks = None, tun: Tun = None, mtu: Mtu = None,
    there: Annotated[str, Parameter(name="--command", help=(
        "What ssh:// runs over there (default `netbridge link listen stdio:`, as exit or entrance)."
    ))] = "",
) -> int:
    """Join the end that listens, and join it again when the link breaks, until ctrl-c.

    Parameters
    ----------
    place
        tcp+tls://HOST:PORT, wss://HOST:PORT/PATH, quic://HOST:PORT, libp2p:///ip4/ADDRESS/tcp/PORT[/p2p/ID],
        unix:/PATH, or ssh://USER@HOST[:PORT], where netbridge is run by ssh.
    """
    from netbridge.bridge.joint import place as places

    if exit and entrance:
        raise _both()
    where = places.parse(place, "connect")
    if there and where.scheme != "ssh":
        raise UsageError("--command is of ssh:// alone.", "Elsewhere nothing is run.", "Leave it out.")
    credentials = _credentials(where, psk, cert, key, ca)

    async def run() -> None:
        from netbridge.bridge.joint.connecting import Connecting
        from netbridge.bridge.joint.pipes import COMMAND

        async with AsyncExitStack() as ends:
            side = await _side(
                ends, where, is_exit=exit, route=route, allow=allow, deny=deny, forward=forward, socks=socks,
                tun=tun, mtu=mtu, sessions=1,
            )
            step_down()  # the TUN is there
            command = there or " ".join((*COMMAND, "--entrance" if exit else "--exit"))
            await Connecting(where, side, credentials, _tell, mtu=_mtu(where, mtu), command=command).run()

    _until_signal(run)
    return 0


def _both() -> UsageError:
    return UsageError(
        "One end cannot be both.", "--exit and --entrance are the two ends of a link.", "Leave one of them out.",
    )


def _credentials(
    place: Place, psk: str | None, cert: str | None, key: str | None, ca: str | None,
) -> Credentials:
    from netbridge.bridge.joint import key as keys
    from netbridge.bridge.joint.credentials import Credentials

    found = Credentials(keys.found(psk, os.environ), cert, key, ca)
    os.environ.pop(keys.VARIABLE, None)  # no child of ours needs it
    found.checked(place)
    return found


def _mtu(place: Place, mtu: int | None) -> int:
    if mtu is not None and not 1280 <= mtu <= 65535:
        raise UsageError(f"An MTU is not {mtu}.", "It is 1280 to 65535 bytes, as IPv6 wants it.", "Name one of those.")
    return mtu or (1280 if place.scheme == "quic" else 1500)


async def _side(
    ends: AsyncExitStack, place: Place, *, is_exit: bool, route: list[str] | None, allow: list[str] | None,
    deny: list[str] | None, forward: list[str] | None, socks: str | None, tun: str | None, mtu: int | None,
    sessions: int,
) -> Side:
    """What this end is, ready; what is to be undone is left to `ends`."""
    if is_exit:
        if forward or socks or tun:
            raise UsageError(
                "An exit has nothing of an entrance.", "--forward, --socks and --tun are of an entrance.",
                "Give them to the other end, or add --entrance.",
            )
        from netbridge.bridge.joint.sides import ExitSide

        return ExitSide(route, allow or (), deny or (), sessions=sessions)
    if allow or deny or (route and not tun):
        raise UsageError(
            "An entrance has nothing of an exit.", "--route, --allow and --deny say what an exit reaches.",
            "Give them to the other end, or add --exit; --route goes with --tun, too.",
        )
    if tun:
        if forward or socks:
            raise UsageError(
                "The kernel cannot share the link.", "With --tun it is the entrance, and no listener is needed.",
                "Leave --forward and --socks out.",
            )
        from netbridge.bridge.joint.tunnel import TunSide

        made = await ends.enter_async_context(TunSide(tun, route or (), mtu=_mtu(place, mtu)))
        from netbridge.bridge.joint.sides import EXIT

        _tell(f"{made.tun.name} leads through the link to {', '.join(route or ()) or 'nothing yet (see --route)'};"
              f" names: ask {EXIT}")
        return made
    return await _listeners(ends, forward or [], socks)


async def _listeners(ends: AsyncExitStack, forward: list[str], socks: str | None) -> Side:
    from netbridge.bridge.back.listening import ForwardVisitor, Listener, SocksVisitor, Visitor
    from netbridge.bridge.back.listening import listen as opened
    from netbridge.bridge.back.places import parse_forward, parse_listen
    from netbridge.bridge.joint.door import EntranceDoor
    from netbridge.bridge.joint.sides import EntranceSide

    if not forward and not socks:
        raise UsageError(
            "Nothing would go through the link.", "An entrance needs somebody to let in.",
            "Add --forward, as in --forward 5432:db.corp.internal:5432, or --socks 1080, or --tun NAME.",
        )
    door = EntranceDoor()
    listener = Listener(door, _tell)
    ends.callback(listener.close)

    async def serve(addresses: tuple[str, ...], port: int, visitor: Callable[[Listener], Visitor], what: str) -> None:
        sockets = opened(addresses, port)
        names = [it.getsockname() for it in sockets]
        await listener.serve(sockets, visitor)
        for address, number, *_ in names:
            _tell(f"{f'[{address}]' if ':' in address else address}:{number} {what}")
            if not address.startswith("127.") and address != "::1":
                _tell(f"mind: whoever reaches {address} of this machine can use it")

    for it in [parse_forward(place) for place in forward]:
        def made(listener: Listener, host: str = it.host, port: int = it.host_port) -> Visitor:
            return ForwardVisitor(listener, host, port)

        await serve(it.listen, it.port, made, f"leads to {it.host} port {it.host_port} beyond the exit")
    if socks:
        await serve(*parse_listen(socks), SocksVisitor, "is a SOCKS5 proxy that leads beyond the exit")
    return EntranceSide(door)


def _tell(line: str) -> None:
    print(clean(line), file=sys.stderr, flush=True)


def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it until it ends, or until it is asked to by a signal, which is no failure."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main())
        for number in SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    _run(run)
