"""Which host port a UDP socket of the codespace has: one for all its destinations (RFC 4787 REQ-1).

An application with one socket must be seen from one port wherever it sends to; STUN, WebRTC and hole punching stand on
that. But each flow has a connected host socket of its own, for then the kernel filters, and an error comes to the flow
it is about. Both hold when the sockets of one source share one port: the first takes the port the kernel gives it, the
further ones bind to that port with ``SO_REUSEPORT`` and connect. The kernel gives a datagram to the socket connected
to its sender, and a stranger gets port unreachable, as tests/bridge/forward/test_udpports.py sees it do.

The first socket gets ``SO_REUSEPORT`` only when a second one wants its port. Earlier it would do harm: choosing a free
port, Linux passes for free what sockets with that option have taken (``udp_lib_lport_inuse``), and two sources would
meet on one port. Nobody else can join: the option counts among sockets of one user only. ``SO_REUSEADDR`` is not
needed, and would let anybody join.

A mapping lives as long as any flow of its source. Where the kernel refuses to share (a program bound the same port on
another address meanwhile, or this is not Linux, whose rules were measured) a flow gets a port of its own.
"""

from __future__ import annotations

from socket import SOL_SOCKET, socket

from .hostsocket import ANY, LINUX, SO_REUSEPORT

Source = tuple[bytes, int]
"""Packed address and port in the codespace."""

FLOWS_A_PORT = 256
"""Flows that share a port; a source with more peers than that at one time is seen from further ports.

Linux before 6.13 looks at every socket of a port for every datagram, and any Linux does for a stranger's datagram and
a further bind. Measured on 6.18 with 1, 64, 256, 1024, 4096 sockets on one IPv4 port: a stranger's datagram took 6.0,
6.2, 10.4, 22, 76 µs, opening a socket 11, 11, 13, 22, 97 µs, a peer's datagram 4 to 6 µs throughout. So 256 cost
4 µs, which is less than this bridge's own work on a datagram (11 to 14 µs); 1024 would cost more than that."""


class Mapping:
    """One host port of one source."""

    __slots__ = ("first", "flows", "port")

    def __init__(self) -> None:
        self.first: socket | None = None
        """The only flow's socket, as long as nobody asked for its port."""
        self.port = 0
        """0 as long as nobody asked."""
        self.flows = 0


class UdpPorts:
    """The mappings of all sources."""

    def __init__(self) -> None:
        self._mappings: dict[Source, Mapping] = {}
        """Where the next flow of each source goes."""

    def __len__(self) -> int:
        return len(self._mappings)

    def bind(self, sock: socket, source: Source) -> tuple[Mapping, bool]:
        """Give `sock`, new and soon to be connected, the port of `source`.

        Returns the mapping to :meth:`add` the flow to, and False when there is a port and it cannot be shared; then,
        and for the first flow of a source, the kernel chooses a port on connect.
        """
        mapping = self._mappings.get(source)
        if mapping is None or mapping.flows >= FLOWS_A_PORT:
            return Mapping(), True
        if not LINUX:
            return Mapping(), False
        try:
            if mapping.first is not None:
                mapping.first.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
                mapping.port = mapping.first.getsockname()[1]
                mapping.first = None
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            sock.bind((ANY[len(source[0])], mapping.port))
        except OSError:
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 0)
            return Mapping(), False
        return mapping, True

    def add(self, source: Source, mapping: Mapping, sock: socket) -> None:
        """Count a flow on what :meth:`bind` returned; further flows of `source` go there from now on."""
        if not mapping.flows:
            mapping.first = sock
            self._mappings[source] = mapping
        mapping.flows += 1

    def remove(self, source: Source, mapping: Mapping) -> None:
        """Undo :meth:`add`."""
        mapping.flows -= 1
        if not mapping.flows and self._mappings.get(source) is mapping:
            del self._mappings[source]
