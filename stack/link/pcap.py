"""A device that writes what passes to a capture file that Wireshark, tshark and tcpdump read (see :mod:`.pcapng`).

Super-segments are written whole and say so. Their checksums are unfinished; leave checksum validation off, as it is by
default. A disk that is full ends the capture and nothing else: packets go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import BinaryIO

from ..packet import Buffer
from . import pcapng
from .base import Link, LinkUser
from .wrapper import Wrapper

Take = Callable[[int, Buffer, Buffer], None]
"""Takes a packet: its direction (pcapng.INBOUND, OUTBOUND), its header behind a virtio_net_hdr, its rest. Neither
may be kept."""


class Tap(Wrapper):
    """Shows every packet of both directions to `take`. Can be put in and taken out while packets travel."""

    def __init__(self, inner: Link, take: Take) -> None:
        super().__init__(inner)
        self._take = take

    def put_in(self, user: LinkUser) -> None:
        """Stand between a started link and its user, who is to send by this tap from now on."""
        self.start(user)

    def take_out(self) -> None:
        """The user stands on the inner link again."""
        self.inner.start(self.user)

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self._take(pcapng.OUTBOUND, header, payload)
        self.inner.send(header, payload)

    def packet_received(self, packet: memoryview) -> None:
        self._take(pcapng.INBOUND, packet, b"")
        self.user.packet_received(packet)


class PcapLink(Tap):
    """Writes every packet of both directions to `file`, which is flushed and stays open when the link closes."""

    def __init__(
        self, inner: Link, file: BinaryIO, *, clock: Callable[[], int] = time.time_ns,
        on_failed: Callable[[OSError], None] | None = None, name: str = "link",
    ) -> None:
        """`clock` gives nanoseconds since the epoch; `on_failed` is told, once, that no more can be written; `name` is
        that of the interface in the file.
        """
        super().__init__(inner, self._write)
        self._file = file
        self._clock = clock
        self._on_failed = on_failed
        self._failed = False
        file.write(pcapng.section("netbridge", name, "a link of netbridge's stack"))

    def link_lost(self, error: Exception | None) -> None:
        if not self._failed:
            with contextlib.suppress(OSError):
                self._file.flush()
        self.user.link_lost(error)

    def _write(self, direction: int, header: Buffer, rest: Buffer) -> None:
        if self._failed:
            return
        try:
            self._file.writelines(pcapng.packet(self._clock(), direction, header, rest))
        except OSError as error:
            self._failed = True
            if self._on_failed is not None:
                self._on_failed(error)
