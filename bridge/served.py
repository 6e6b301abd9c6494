"""A stack that stands alone as a host, with the services that were asked for, and as an exit where that was."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_ntop, inet_pton, socket
from typing import Self

from netbridge.stack.link.base import Link
from netbridge.stack.services import DISCARD, ECHO, SOURCE, Discard, Echo, EchoDatagrams, Files, Iperf3, Source
from netbridge.stack.stack import Stack

from .errors import UsageError
from .exit import Exit, networks
from .forward.flows import Key
from .forward.policy import Policy

HTTP = 80


@dataclass(frozen=True, slots=True)
class Offer:
    """What a served stack offers besides ping, and a sink and a source of bytes."""

    echo: bool = False
    """Echo by TCP and UDP."""
    folder: str | None = None
    """Is shown by HTTP."""
    exit: bool = False
    """What is not for the stack is forwarded to this host's sockets."""
    routes: tuple[str, ...] | None = None
    """Networks that the exit reaches; None: all that the policy allows."""
    allow: tuple[str, ...] = ()
    """Rules that open what the exit's policy keeps closed: `CIDR[:PORTS]`."""
    deny: tuple[str, ...] = ()
    """Rules that close something."""


class _NoCircle(Policy):
    """Denies what this machine would send back by the link that it came from, to come again, and again."""

    def __init__(self, beside: frozenset[bytes], offer: Offer, own: list[str]) -> None:
        super().__init__(offer.allow, offer.deny, own=own)
        self._beside = beside

    def admit(self, key: Key, protocol: int) -> bytes | None:
        final = super().admit(key, protocol)
        if final is None or self._source(final) not in self._beside:
            return final
        if self.on_denied is not None:
            self.on_denied(key, protocol, final, "it would come back by the same device")
        return None

    @staticmethod
    def _source(final: bytes) -> bytes:
        """The address that a socket of this machine would have towards a packed one; empty where none can be had."""
        family = AF_INET if len(final) == 4 else AF_INET6
        try:
            with socket(family, SOCK_DGRAM) as probe:
                probe.connect((inet_ntop(family, final), 9))  # of UDP it sends nothing
                return inet_pton(family, probe.getsockname()[0])
        except OSError:
            return b""


class Served:
    """An async context manager; it takes the link over."""

    def __init__(
        self, link: Link, addresses: list[str], offer: Offer, *, beside: frozenset[bytes] = frozenset(),
    ) -> None:  # fmt: skip
        """`beside`: this machine's own addresses on the link, packed. UsageError for an offer that makes no sense."""
        self.offer = offer
        self.exit: Exit | None = None
        self._files: Files | None = None
        try:
            self._files = None if offer.folder is None else Files(offer.folder)
        except OSError as error:
            raise UsageError(
                f"{offer.folder} cannot be shown.", f"{os.path.abspath(offer.folder or '')} is no folder.", "Name one.",
            ) from error
        if offer.exit:
            try:
                policy = _NoCircle(beside, offer, networks(addresses))
                self.exit = Exit(link, offer.routes, addresses=addresses, policy=policy)
            except ValueError as error:
                raise UsageError(
                    "The exit's rules make no sense.", f"{error}.", "Name networks as in 192.168.1.0/24.",
                ) from error
        self.stack = self.exit.stack if self.exit else Stack(link, addresses)
        self.ports: dict[str, int] = {}
        """What is served at which port."""
        self._rest = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(self.exit or self.stack)
            stack = self.stack
            await stack.create_server(Discard, None, DISCARD)
            await stack.create_server(Source, None, SOURCE)
            await stack.start_server(Iperf3(), None, Iperf3.PORT)
            self.ports |= {"iperf3": Iperf3.PORT, "discard": DISCARD, "source": SOURCE}
            if self.offer.echo:
                await stack.create_server(Echo, None, ECHO)
                for one in stack.interfaces:
                    await stack.create_datagram_endpoint(EchoDatagrams, local_addr=(str(one.ip), ECHO))
                self.ports["echo"] = ECHO
            if self._files is not None:
                await stack.start_server(self._files, None, HTTP)
                self.ports["http"] = HTTP
            self._rest = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rest.aclose()
