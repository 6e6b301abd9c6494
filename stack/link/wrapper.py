"""A link that stands on another link and a user's stand-in for it: the base of the debugging devices."""

from __future__ import annotations

from ..packet import Buffer
from .base import Link, LinkUser


class Wrapper(Link):
    """Passes everything through; devices override what they are about. It is the inner link's `LinkUser`."""

    user: LinkUser
    """Who the inner link's packets go to; set by `start`."""

    def __init__(self, inner: Link) -> None:
        self.inner = inner
        self.mtu = inner.mtu
        self.offload = inner.offload

    def start(self, user: LinkUser) -> None:
        self.user = user
        self.inner.start(self)

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self.inner.send(header, payload)

    @property
    def ready(self) -> bool:
        return self.inner.ready

    def close(self) -> None:
        self.inner.close()

    def packet_received(self, packet: memoryview) -> None:
        """`LinkUser`: from the inner link."""
        self.user.packet_received(packet)

    def burst_ended(self) -> None:
        """`LinkUser`: from the inner link."""
        self.user.burst_ended()

    def link_ready(self) -> None:
        """`LinkUser`: from the inner link."""
        self.user.link_ready()

    def link_lost(self, error: Exception | None) -> None:
        """`LinkUser`: from the inner link."""
        self.user.link_lost(error)
