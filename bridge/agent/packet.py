"""Capturing without a TUN: what leaves for captured networks is copied on its way out, and replies are injected.

Many images grant neither NET_ADMIN nor /dev/net/tun, but leave root CAP_NET_RAW, and that is all this needs. A packet
socket on the default gateway's interface gets what leaves there (tap, before the device), and a filter in the kernel
(:mod:`.packetfilter`) copies only what goes to captured networks: the SSH connection and whatever else must not be
captured is cut out of those by the same plan that makes the TUN's routes. With PACKET_VNET_HDR super-segments come
whole and unsummed, up to 64 KiB; SOCK_DGRAM refuses that option, so the link header is cut off here, and the places in
the virtio_net_hdr are counted anew. They wait in a ring (:mod:`.packetring`); replies are taken by the kernel as if
they had come from outside (:mod:`.packetinject`).

What differs from a TUN, since no route, address or interface can be made:

- The original packet leaves too, towards the gateway, in the clear. Whoever routes there may answer: a RST or ICMP
  error that arrives before the bridge's answer ends a connect. Clouds drop packets to foreign private addresses in
  silence, and then nothing is noticed; traceroute and mtr show the routers of both ways.
- The source is this host's own address, so that is what the session must accept; an application that bound itself to
  the interface (SO_BINDTODEVICE, `ping -I eth0`) gets no replies, because they arrive on `lo`.
- A public address really answers out there, so its flows would have two servers. Of what is asked for, only private
  networks are captured, and those that a person named.
- Only what the kernel sends by that interface is seen. There must be a default route, its gateway must answer ARP, and
  without one for IPv6, which codespaces usually lack, networks of IPv6 are not captured.
- Nothing slows a sender down: where the TUN would make it wait, the ring overflows and TCP notices a loss. There is no
  route to carry `rto_min`, so a stall of the line makes the kernel retransmit after 200 ms.
- One such bridge at a time: a second would answer the same packets. An abstract unix socket stands for the place.

Nothing outlives the process, however it ends: the kernel closes sockets.
"""

from __future__ import annotations

import array
import errno
import ipaddress
import os
import socket
import struct
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from .netlink import Netlink, Network, RouteInfo
from .packetcut import GSO_UDP_L4, parts
from .packetfilter import MOST_INSTRUCTIONS, cost, packed, program
from .packetinject import Injector
from .packetring import Ring
from .routes import Plan, subtract
from .tun import TunError

SOL_PACKET, PACKET_VNET_HDR = 263, 15
SO_ATTACH_FILTER = 26
ETH_P_ALL = 3
LINK_HEADERS = {1: 14, 65534: 0}
"""Bytes before the IP header by the kind of link (linux/if_arp.h): Ethernet, and none at all."""
VNET_LEN = 10
NEEDS_CSUM = 1
BUFFER = 1 << 20
"""Bytes for the socket's queue, where there is no ring; the kernel gives what it permits."""
PLACE = "\0netbridge-packet-capture"
PRIVATE = tuple(ipaddress.ip_network(text) for text in (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
    "100.64.0.0/10",  # RFC 6598, by which overlay networks number their hosts
    "198.18.0.0/15",  # RFC 2544, of which bridges take theirs
    "fc00::/7",  # RFC 4193
))  # fmt: skip
"""Networks that nobody else answers for, as far as addresses tell."""

_VNET = struct.Struct("=BBHHHH")


def default_interfaces(routes: Iterable[RouteInfo]) -> Dict[int, int]:
    """IP version → index of the interface by which its default route goes; the kernel lists the preferred one first."""
    found: Dict[int, int] = {}
    for route in routes:
        if route.network.prefixlen == 0 and route.interface:
            found.setdefault(route.network.version, route.interface)
    return found


def common(networks: Iterable[Network], others: Iterable[Network]) -> List[Network]:
    """The prefixes that lie in both."""
    outer = list(others)
    found: Dict[int, List[Network]] = {4: [], 6: []}
    for network in networks:
        for other in outer:
            if other.version == network.version and other.overlaps(network):
                found[network.version].append(max(network, other, key=lambda it: it.prefixlen))
    collapsed: List[Network] = []
    for version in (4, 6):
        collapsed += sorted(ipaddress.collapse_addresses(found[version]))  # type: ignore[type-var]
    return collapsed


class PacketCapture:
    """An open capture. `apply` says what is captured; `read` and `write` carry packets as a TUN does."""

    def __init__(self, netlink: Netlink, always: Iterable[Network], named: Iterable[Network] = ()) -> None:
        """`always`: captured besides what `apply` asks for; `named`: captured though public, when it asks for them.

        Raises TunError (no_packet, packets_held) and OSError.
        """
        self._netlink = netlink
        self._lonely = [*PRIVATE, *named]
        interfaces = default_interfaces(netlink.routes())
        if not interfaces:
            raise TunError("no_packet", "there is no default route, so nothing that could be captured leaves")
        self._index = interfaces.get(4) or interfaces[6]
        self._versions: Set[int] = set()
        self._elsewhere: Set[int] = set()
        self._gateways = list(always)
        self._note_defaults(interfaces)
        self.name = next(link.name for link in netlink.links() if link.interface == self._index)
        self._link_header = 0
        self._scratch = bytearray()
        self._ring: Optional[Ring] = None
        self._open: List[Any] = []
        self._parts: List[bytes] = []
        """Datagrams of a train that were not asked for yet."""
        try:
            self._begin()
        except PermissionError:
            self.close()
            raise TunError("no_packet", "the kernel refuses a packet socket: CAP_NET_RAW is missing") from None
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open.append(place)
        try:
            place.bind(PLACE)
        except OSError:
            raise TunError("packets_held", "another bridge captures packets here, and only one can") from None
        self._injector = Injector(self._netlink)
        self._open.append(self._injector)
        # Protocol 0 gets nothing, so that nothing is there before the filter is.
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, 0)
        self._open.append(self._socket)
        self._socket.bind((self.name, 0))
        kind_of_link = self._socket.getsockname()[3]
        if kind_of_link not in LINK_HEADERS:
            detail = "the default route goes by %s, whose kind of link (%d) is unknown" % (self.name, kind_of_link)
            raise TunError("no_packet", detail)
        self._link_header = LINK_HEADERS[kind_of_link]
        self._scratch = bytearray(self._link_header)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        try:
            self._ring = Ring(self._socket, self._link_header)
            self._open.append(self._ring)
        except (OSError, ImportError):
            pass
        self._filter(self._always)
        self._socket.bind((self.name, ETH_P_ALL))

    @property
    def sums(self) -> bool:
        """Whether checksums of replies are computed here, which costs speed."""
        return self._injector.sums

    def fileno(self) -> int:
        """What becomes readable when packets wait."""
        return self._socket.fileno()

    def close(self) -> None:
        """Capture no more."""
        while self._open:
            self._open.pop().close()

    def sources(self) -> List[str]:
        """CIDRs that captured packets come from: the interface's networks, since its addresses may change in them."""
        found: List[str] = []
        for info in self._netlink.addresses():
            if info.interface == self._index and not info.address.is_link_local:
                own = str(info.address) + ("/32" if info.address.version == 4 else "/128")
                for text in [str(info.network)] if info.address in info.network else [own]:
                    if text not in found:
                        found.append(text)
        return found

    # What is captured.

    def apply(self, wanted: Plan) -> Tuple[List[str], List[Dict[str, str]]]:
        """Capture exactly what is planned; (captured, skipped). Raises OSError when the kernel refuses the filter."""
        skipped = list(wanted.skipped)
        taken: List[Network] = []
        routes = self._netlink.routes()
        self._note_defaults(default_interfaces(routes))
        public: List[Network] = []
        room = MOST_INSTRUCTIONS - sum(map(cost, self._always))
        for network in wanted.install:
            if subtract([network], self._lonely):
                public.append(network)
        # Single hosts stay single, since who asked for one looks for it in the answer.
        singles = [network for network in wanted.install if network.prefixlen == network.max_prefixlen]
        wide = common((it for it in wanted.install if it.prefixlen < it.max_prefixlen), self._lonely)
        lonely = [network for network in singles if not subtract([network], self._lonely)]
        for network in [*wide, *lonely]:
            pieces, reason = self._left_by(network, routes)
            added = sum(map(cost, pieces))
            if added > room:
                pieces, reason = [], "there are more networks than a packet filter can tell apart"
            else:
                room -= added
            if reason:
                skipped.append({"route": str(network), "reason": reason})
            taken += pieces
        if public:
            more = " (and %d more like it)" % (len(public) - 1) if len(public) > 1 else ""
            reason = "only a TUN captures public addresses, which answer out there as well, or --route" + more
            skipped.append({"route": str(public[0]), "reason": reason})
        self._filter([*self._always, *taken])
        return [str(network) for network in taken], skipped

    def _note_defaults(self, interfaces: Dict[int, int]) -> None:
        """Which versions leave by the interface now, and which by another; those without a route leave by none."""
        here = {version for version, index in interfaces.items() if index == self._index}
        self._elsewhere = set(interfaces) - here
        self._versions = (self._versions | here) - self._elsewhere

    @property
    def _always(self) -> List[Network]:
        return [network for network in self._gateways if network.version in self._versions]

    def _left_by(self, network: Network, routes: Iterable[RouteInfo]) -> Tuple[List[Network], str]:
        """What of `network` leaves by the default route, as what is captured by a TUN yields to longer routes."""
        if network.version in self._elsewhere:
            return [], "the default route for IPv%d goes by another interface than %s" % (network.version, self.name)
        if network.version not in self._versions:
            return [], "the target has no default route for IPv%d by %s" % (network.version, self.name)
        holes: Set[Network] = set()
        for route in routes:
            other = route.network
            if other.version != network.version or not other.prefixlen or not other.overlaps(network):
                continue
            if other.prefixlen <= network.prefixlen:
                return [], "the target has a route to it"
            holes.add(other)
        return subtract([network], holes), ""

    def _filter(self, networks: List[Network]) -> None:
        instructions = program(networks)
        code = array.array("B", packed(instructions))
        address = code.buffer_info()[0]
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(instructions), address))

    # Packets.

    def read(self, _descriptor: int, buffers: List[memoryview]) -> int:
        """The next packet, behind its virtio_net_hdr, into buffers[0], as os.readv does with a TUN; its length.

        Raises BlockingIOError when none waits, OSError when the interface is gone.
        """
        into = buffers[0]
        if self._parts:
            return self._next_part(into)
        if self._ring is not None:
            try:
                count = self._ring.read(into)
            except BlockingIOError:
                self._look_for_errors()
                raise
        else:
            count = self._received(into)
        if self._link_header:
            flags, gso, header, size, start, offset = _VNET.unpack_from(into)
            if flags & NEEDS_CSUM:
                _VNET.pack_into(into, 0, flags, gso, max(0, header - self._link_header), size,
                                start - self._link_header, offset)  # fmt: skip
        if into[1] == GSO_UDP_L4:
            self._parts = parts(bytes(into[:count]))
            if self._parts:
                return self._next_part(into)
        return count

    def _next_part(self, into: memoryview) -> int:
        part = self._parts.pop(0)
        into[: len(part)] = part
        return len(part)

    def _received(self, into: memoryview) -> int:
        try:
            count = os.readv(self._socket.fileno(), [into[:VNET_LEN], self._scratch, into[VNET_LEN:]])
        except OSError as error:
            self._check(error.errno or 0)
            raise BlockingIOError from None
        return count - self._link_header

    def _look_for_errors(self) -> None:
        """An interface that goes down leaves an error on the socket, which keeps it readable until it is asked for."""
        self._check(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _check(self, number: int) -> None:
        """Down is not lost: the kernel attaches the socket again when the interface comes up."""
        if number in (0, errno.EAGAIN):
            return
        if number != errno.ENETDOWN or not any(link.interface == self._index for link in self._netlink.links()):
            raise OSError(number, os.strerror(number))

    def write(self, descriptor: int, packet: memoryview) -> int:
        """Give the kernel a packet, behind its virtio_net_hdr. Raises OSError when it is not for this host."""
        return self._injector.write(descriptor, packet)
