"""An entrance of the kernel: packets of a TUN device go to the exit as they are, and nothing here looks into them.

The device stays while the link is made anew, so programs wait as they do for a network that is gone for a while. When
the link has no room, packets are dropped, as by any router whose queue is full.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self

from netbridge.stack.errors import WireError
from netbridge.stack.link.base import Link, LinkError
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.greeting import Role
from netbridge.stack.link.tun import TunLink

from .. import tunside
from ..errors import BridgeError, NotPermittedError, UsageError
from ..exit import JOINT
from .alive import Alive
from .sides import ENTRANCE, EXIT, Side

Network = IPv4Network | IPv6Network
SMALL = 256
"""Bytes of packets that pass while bulk data has to wait: acknowledgements, and what opens and closes."""


class TunSide(Side):
    """An async context manager, as which it makes the device, with addresses and routes, and lets go of it."""

    role = Role.ENTRANCE
    sessions = 1
    tun: TunLink

    def __init__(self, name: str, routes: Sequence[str], *, mtu: int) -> None:
        """Raises UsageError for routes that make no sense."""
        self._name = name
        self._networks = _networks(routes)
        self._mtu = mtu
        self._lost: asyncio.Future[Exception | None] | None = None
        self._far: Link | None = None

    async def __aenter__(self) -> Self:
        """Raises BridgeError."""
        self.tun = await asyncio.to_thread(self._make)  # pyroute2 runs an event loop of its own
        self.tun.start(_FromTun(self))
        return self

    def _make(self) -> TunLink:
        tun, _ = tunside.join(self._name, tunside.interfaces(JOINT.stack), mtu=self._mtu)
        try:
            _route(tun.name, self._networks)
        except BaseException:
            tun.close()
            raise
        return tun

    async def __aexit__(self, *_: object) -> None:
        self.tun.close()

    async def run(self, link: CarriedLink) -> None:
        if link.mtu < self.tun.mtu:
            link.close()
            await link.wait_closed()
            raise LinkError(f"packets of {link.mtu} bytes fit through, and {self.tun.name} has {self.tun.mtu}:"
                            f" give --mtu {link.mtu}")
        self._lost = asyncio.get_running_loop().create_future()
        alive = Alive(link, ENTRANCE, EXIT)
        try:
            alive.start(_FromLink(self))
            self._far = alive
            error = await self._lost
        finally:
            self._far = None
            alive.close()
            await link.wait_closed()
        raise error or LinkError("the link was closed")

    def _ended(self, error: Exception | None) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(error)


class _FromTun:
    """`LinkUser` of the device."""

    def __init__(self, side: TunSide) -> None:
        self._side = side

    def packet_received(self, packet: memoryview) -> None:
        far = self._side._far
        if far is not None and (far.ready or len(packet) <= SMALL):
            try:
                far.send(packet)
            except WireError:  # what the kernel made of a super-segment, on a link that takes none
                pass

    def burst_ended(self) -> None:
        """Each packet has left already."""

    def link_ready(self) -> None:
        """The other end of TCP finds out by itself."""

    def link_lost(self, error: Exception | None) -> None:
        self._side._ended(error or LinkError("the TUN device was closed"))


class _FromLink:
    """`LinkUser` of the link."""

    def __init__(self, side: TunSide) -> None:
        self._side = side

    def packet_received(self, packet: memoryview) -> None:
        self._side.tun.send(packet)

    def burst_ended(self) -> None:
        """Each packet has left already."""

    def link_ready(self) -> None:
        """Nothing waits here."""

    def link_lost(self, error: Exception | None) -> None:
        self._side._ended(error)


def _networks(routes: Sequence[str]) -> list[Network]:
    found = []
    for text in routes:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise UsageError(f"{text!r} is no network.", f"{error}.", "Name it as in 10.20.0.0/16.") from error
        if not network.prefixlen:
            raise UsageError(
                f"{text} cannot be led through the link.", "The link itself would go through it.",
                "Name the networks beyond the exit, as in 10.20.0.0/16.",
            )
        found.append(network)
    return found


def _route(name: str, networks: Sequence[Network]) -> None:
    if not networks:
        return
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=name)
        for network in networks:
            try:
                ip.route("add", dst=str(network), oif=index)
            except NetlinkError as error:
                if error.code == errno.EEXIST:
                    raise BridgeError(
                        f"{network} is reached by another way already.", "This machine has a route of that network.",
                        "Name a smaller network, or remove that route.",
                    ) from error
                raise NotPermittedError(
                    f"{network} cannot be led to {name}.", f"{error}.", "Run it as root.",
                ) from error
