"""A device that writes what passes to a capture file that Wireshark and tcpdump read.

The classic format with raw IP (LINKTYPE_RAW, 101): the virtio_net_hdr is left out, super-segments are written whole,
hence the snap length above 64 KiB. Their checksums are unfinished; leave checksum validation off, as it is by default.

A disk that is full ends the capture and nothing else: packets go on.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from typing import BinaryIO

from ..packet import Buffer
from ..vnet import VNET_LEN
from .base import Link
from .wrapper import Wrapper

MAGIC_NANOSECONDS = 0xA1B23C4D
LINKTYPE_RAW = 101
SNAPLEN = 262144
FILE_HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")


class PcapLink(Wrapper):
    """Writes every packet of both directions to `file`, which is flushed and stays open when the link closes."""

    def __init__(
        self, inner: Link, file: BinaryIO, *, clock: Callable[[], int] = time.time_ns,
        on_failed: Callable[[OSError], None] | None = None,
    ) -> None:
        """`clock` gives nanoseconds since the epoch; `on_failed` is told, once, that no more can be written."""
        super().__init__(inner)
        self._file = file
        self._clock = clock
        self._on_failed = on_failed
        self._failed = False
        file.write(FILE_HEADER.pack(MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAPLEN, LINKTYPE_RAW))

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self._write(memoryview(header)[VNET_LEN:], payload)
        self.inner.send(header, payload)

    def packet_received(self, packet: memoryview) -> None:
        self._write(packet[VNET_LEN:], b"")
        self.user.packet_received(packet)

    def link_lost(self, error: Exception | None) -> None:
        if not self._failed:
            with contextlib.suppress(OSError):
                self._file.flush()
        self.user.link_lost(error)

    def _write(self, start: Buffer, rest: Buffer) -> None:
        if self._failed:
            return
        seconds, nanoseconds = divmod(self._clock(), 1_000_000_000)
        length = len(start) + len(rest)
        try:
            self._file.write(RECORD.pack(seconds, nanoseconds, length, length))
            self._file.write(start)
            self._file.write(rest)
        except OSError as error:
            self._failed = True
            if self._on_failed is not None:
                self._on_failed(error)
