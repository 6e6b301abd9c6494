"""What passes an interface of a machine: TCP segments and ICMP errors, seen by a packet socket, without tcpdump.

A super-segment is one packet here, as it is for the TUN; `gso_size` says what the kernel cuts it into.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .machine import wait_until

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
FLAGS = FIN | SYN | RST | ACK
SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4
ETH_P_ALL = 3
VNET = struct.Struct("<BBHHHH")
OPT_MSS, OPT_WSCALE, OPT_SACK_PERMITTED, OPT_SACK = 2, 3, 4, 5


@dataclass(frozen=True)
class Seen:
    """One TCP segment, or an ICMP error (`icmp` is its type and code, the ports are those of the quoted packet)."""

    at: float
    """Monotonic."""
    up: bool
    """It left the machine by this interface."""
    source_port: int
    destination_port: int
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    length: int = 0
    """Payload."""
    options: dict[int, bytes] | None = None
    gso_size: int = 0
    icmp: tuple[int, int] | None = None

    @property
    def ports(self) -> tuple[int, int]:
        """The machine's own port and the other's, whoever sent this."""
        pair = (self.source_port, self.destination_port)
        return pair if self.up or self.icmp else pair[::-1]

    def has(self, flags: int) -> bool:
        """Whether exactly these of FIN, SYN, RST and ACK are set."""
        return self.flags & FLAGS == flags


class Wire:
    """Watches an interface in the network namespace of the thread that makes it. A context manager."""

    def __init__(self, inside: Callable[[Callable[[], socket.socket]], socket.socket], interface: str = "nb0") -> None:
        """`inside`: `Machine.inside` of the machine."""

        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            made.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
            made.bind((interface, ETH_P_ALL))
            return made

        self._socket = inside(opened)
        self._socket.settimeout(0.1)
        self._over = False
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join(5)
        self._socket.close()

    def _watch(self) -> None:
        while not self._over:
            try:
                data, address = self._socket.recvfrom(300)
            except TimeoutError:
                continue
            except OSError:
                return
            with contextlib.suppress(struct.error, IndexError):
                if seen := parse(data, up=address[2] == PACKET_OUTGOING):
                    self._seen.append(seen)

    def of(self, *, own: int | None = None, other: int | None = None) -> list[Seen]:
        """What was seen of a connection by the machine's own port, the other one, or both."""
        return [
            seen
            for seen in list(self._seen)
            if (own is None or seen.ports[0] == own) and (other is None or seen.ports[1] == other)
        ]

    def count(self, how_many: int, what: str, *, own: int, other: int, timeout: float = 8.0) -> list[Seen]:
        """Wait for so many packets of a connection (they are told a moment after the calls they belong to); all."""
        wait_until(lambda: len(self.of(own=own, other=other)) >= how_many, what, timeout)
        return self.of(own=own, other=other)

    def wait(self, what: str, wanted: Callable[[Seen], bool], timeout: float = 5.0) -> Seen:
        """The first packet of that kind, also one of the past."""

        def find() -> Seen | None:
            return next((seen for seen in list(self._seen) if wanted(seen)), None)

        found = wait_until(find, what, timeout)
        assert found
        return found


def parse(data: bytes, *, up: bool) -> Seen | None:
    """A packet behind its virtio_net_hdr; None when it is neither TCP nor an ICMP error. May raise struct.error."""
    gso_size = VNET.unpack_from(data)[3]
    packet = data[VNET.size :]
    if packet[0] >> 4 == 4:
        at, protocol, end = (packet[0] & 15) * 4, packet[9], int.from_bytes(packet[2:4], "big")
    else:
        at, protocol, end = 40, packet[6], 40 + int.from_bytes(packet[4:6], "big")
    if protocol in (1, 58):
        kind, code = packet[at], packet[at + 1]
        inner = at + 8 + ((packet[at + 8] & 15) * 4 if protocol == 1 else 40)
        if (kind != 3) if protocol == 1 else (kind not in (1, 2, 3, 4)):
            return None
        source, destination = struct.unpack_from("!HH", packet, inner)
        return Seen(time.monotonic(), up, source, destination, icmp=(kind, code))
    if protocol != 6:
        return None
    source, destination, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", packet, at)
    header = (offset >> 4) * 4
    options = dict(walk(packet[at + 20 : at + header]))
    length = end - at - header
    return Seen(time.monotonic(), up, source, destination, seq, ack, flags, window, length, options, gso_size)


def walk(options: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1]
        yield options[at], options[at + 2 : at + size]
        at += max(size, 2)
