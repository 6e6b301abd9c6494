"""What a stack stands on: a link carries whole IP packets, each behind a virtio_net_hdr.

A packet on any link is a 10-byte ``virtio_net_hdr`` (see :mod:`netbridge.stack.vnet`) followed by the IP
packet. On a link with ``offload`` the packet may be a TCP super-segment of up to 64 KiB whose checksum is left
to the far end; :mod:`netbridge.stack.link.offload` turns such packets into plain ones for links without.
"""

from __future__ import annotations

import abc
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class LinkError(OSError):
    """The link under a stack broke, or its peer broke the link's rules."""


class LinkUser(Protocol):
    """Who receives from a link: the stack, or a device that wraps another link."""

    def packet_received(self, packet: memoryview) -> None:
        """Take one packet (virtio_net_hdr + IP). The view is valid only until this call returns."""

    def burst_ended(self) -> None:
        """No more packets are at hand right now; a good moment to acknowledge what came."""

    def link_ready(self) -> None:
        """The link has room again after ``ready`` was False."""

    def link_lost(self, error: Exception | None) -> None:
        """The link is gone for good; `error` is None when it was closed as asked."""


class Link(abc.ABC):
    """Something that carries IP packets to and from one peer."""

    mtu: int = 1500
    """Bytes of the largest IP packet the far side takes (a TCP super-segment may be larger with `offload`)."""

    offload: bool = False
    """True when super-segments and partial checksums may be sent on this link."""

    @abc.abstractmethod
    def start(self, user: LinkUser) -> None:
        """Begin to deliver packets to `user`. Called from inside the running event loop.

        Where a device is put in between later (`Tap`) it is called again, never while a packet is delivered: from then
        on the new user gets everything.
        """

    @abc.abstractmethod
    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        """Send one packet given in two parts. Never blocks; a link without room queues or drops and counts.

        `header` starts with the virtio_net_hdr and may be reused by the caller once this returns; `payload` is
        immutable (bytes, or a view of bytes) and may be kept without copying it.
        """

    @property
    @abc.abstractmethod
    def ready(self) -> bool:
        """False while bulk data should wait; `LinkUser.link_ready` follows. Acknowledgements and errors may go."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop and release everything; `link_lost(None)` follows once."""
