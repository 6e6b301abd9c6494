"""rtnetlink by a raw socket: links, addresses and routes without the `ip` command, which small images lack
(rtnetlink(7)).

One request, one answer: each change is sent with NLM_F_ACK and raises OSError with the kernel's errno. Dumps are
read to NLMSG_DONE. Integers are in host order; addresses are packed as the wire has them. All constants are from
linux/netlink.h, linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
"""

from __future__ import annotations

import collections
import errno
import functools
import ipaddress
import os
import socket
import struct
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, TypeVar, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

NETLINK_ROUTE = 0
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x300, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_GETNEIGH = 30
IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN, IFLA_AF_SPEC = 3, 4, 13, 26
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_TABLE = 1, 4, 5, 7, 8, 15
RTAX_LOCK, RTAX_RTO_MIN = 1, 13
NDA_DST, NDA_LLADDR = 1, 2
NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""NUD_REACHABLE, STALE, DELAY, PROBE, PERMANENT: somebody answered, or was named; not INCOMPLETE, FAILED, NOARP."""
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_U32 = struct.Struct("=I")


class LinkInfo(NamedTuple):
    """One network interface."""

    interface: int
    name: str
    mtu: int
    up: bool


class AddressInfo(NamedTuple):
    """One address of an interface, with the network that is on-link by it."""

    interface: int
    address: Address
    network: Network


class RouteInfo(NamedTuple):
    """One unicast route of the main table."""

    interface: int
    network: Network
    gateway: Optional[Address]


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _attributes(data: bytes) -> Dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found


_Read = TypeVar("_Read", bound=Callable[..., Any])


def understood(read: _Read) -> _Read:
    """The kernel is believed; where its answer is none that is known here, that is an OSError like any other."""

    @functools.wraps(read)
    def reads(*arguments: Any, **named: Any) -> Any:
        try:
            return read(*arguments, **named)
        except (struct.error, ValueError, LookupError, OverflowError) as error:
            raise OSError(errno.EBADMSG, "the kernel's answer is not understood: %s" % error) from error

    return reads  # type: ignore[return-value]


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


class Netlink:
    """A conversation with the kernel's routing tables. Needs CAP_NET_ADMIN to change anything, nothing to look."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.sendall(header + body)

    def _answers(self) -> Iterator[Tuple[int, bytes]]:
        """The messages that answer the last request, until its end."""
        while True:
            data = self._socket.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, kind, _flags, sequence, _port = _HEADER.unpack_from(data)
                if length < _HEADER.size:
                    raise ValueError("a message of %d bytes" % length)
                body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield kind, body

    def _change(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, flags | NLM_F_ACK, body)
        for _ in self._answers():
            pass

    def _dump(self, kind: int, body: bytes) -> List[bytes]:
        self._send(kind, NLM_F_DUMP, body)
        return [answer for _kind, answer in self._answers()]

    @understood
    def links(self) -> List[LinkInfo]:
        """All interfaces."""
        found = []
        for body in self._dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            values = _attributes(body[_LINK.size :])
            name = values.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
            mtu = _U32.unpack(values[IFLA_MTU])[0] if IFLA_MTU in values else 0
            found.append(LinkInfo(index, name, mtu, bool(flags & IFF_UP)))
        return found

    @understood
    def addresses(self) -> List[AddressInfo]:
        """All addresses of all interfaces."""
        found = []
        for body in self._dump(RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            family, prefix, _flags, _scope, index = _ADDRESS.unpack_from(body)
            values = _attributes(body[_ADDRESS.size :])
            # On a point-to-point link IFA_ADDRESS is the peer, whose prefix is on-link; IFA_LOCAL is ours.
            peer = values.get(IFA_ADDRESS) or values.get(IFA_LOCAL)
            if family in (socket.AF_INET, socket.AF_INET6) and peer:
                local = ipaddress.ip_address(values.get(IFA_LOCAL, peer))
                network = ipaddress.ip_network((peer, prefix), strict=False)
                found.append(AddressInfo(index, local, network))
        return found

    @understood
    def routes(self) -> List[RouteInfo]:
        """The unicast routes of the main table, both versions."""
        found = []
        for version in (4, 6):
            family = _family(version)
            try:
                answers = self._dump(RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
            except OSError:  # a kernel without IPv6
                continue
            for body in answers:
                _family_, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
                values = _attributes(body[_ROUTE.size :])
                table = _U32.unpack(values[RTA_TABLE])[0] if RTA_TABLE in values else table
                if _family_ != family or kind != RTN_UNICAST or table != RT_TABLE_MAIN:
                    continue
                destination = values.get(RTA_DST, bytes(4 if version == 4 else 16))
                network = ipaddress.ip_network((destination, prefix), strict=False)
                gateway = ipaddress.ip_address(values[RTA_GATEWAY]) if RTA_GATEWAY in values else None
                index = _U32.unpack(values[RTA_OIF])[0] if RTA_OIF in values else 0
                found.append(RouteInfo(index, network, gateway))
        return found

    @understood
    def neighbours(self) -> Dict[Address, bool]:
        """Addresses that somebody on a link answered for, and whether it is a neighbour of its own.

        It is not where the same hardware address answers for another as well (a gateway, a cloud's switch that answers
        for everybody): that says nothing about who is there.
        """
        found: Dict[Address, Tuple[int, bytes]] = {}
        for body in self._dump(RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0)):
            family, index, state, _flags, _kind = _NEIGHBOUR.unpack_from(body)
            values = _attributes(body[_NEIGHBOUR.size :])
            if family in (socket.AF_INET, socket.AF_INET6) and state & NUD_KNOWN and values.get(NDA_LLADDR):
                found[ipaddress.ip_address(values[NDA_DST])] = index, values[NDA_LLADDR]
        several = collections.Counter(
            (address.version, *place) for address, place in found.items() if not address.is_link_local
        )
        return {address: several[address.version, place[0], place[1]] == 1 for address, place in found.items()}

    def set_link(
        self, index: int, *, up: Optional[bool] = None, mtu: Optional[int] = None, queue: Optional[int] = None
    ) -> None:
        """Change an interface: administrative state, MTU in bytes, transmit queue in packets."""
        body = _LINK.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
        if mtu is not None:
            body += _attribute(IFLA_MTU, _U32.pack(mtu))
        if queue is not None:
            body += _attribute(IFLA_TXQLEN, _U32.pack(queue))
        self._change(RTM_NEWLINK, 0, body)

    def no_link_local(self, index: int) -> None:
        """Keep the kernel from giving the interface an IPv6 link-local address (and soliciting routers from it)."""
        mode = _attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
        body = _LINK.pack(0, 0, index, 0, 0) + _attribute(IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode))
        self._change(RTM_NEWLINK, 0, body)

    def add_address(self, index: int, interface: Interface) -> None:
        """Give an interface an address; IPv6 without duplicate address detection, so that it is usable at once."""
        flags = IFA_F_NODAD if interface.version == 6 else 0
        body = _ADDRESS.pack(_family(interface.version), interface.network.prefixlen, flags, 0, index)
        body += _attribute(IFA_LOCAL, interface.packed) + _attribute(IFA_ADDRESS, interface.packed)
        self._change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def add_route(
        self, index: int, network: Network, *, source: Optional[Address] = None, rto_min_ms: Optional[int] = None
    ) -> None:
        """Route a network to an interface; EEXIST when there is such a route. `rto_min_ms`: a locked RTAX_RTO_MIN."""
        scope = RT_SCOPE_LINK if network.version == 4 else RT_SCOPE_UNIVERSE
        body = self._route(network, scope, index)
        if source is not None:
            body += _attribute(RTA_PREFSRC, source.packed)
        if rto_min_ms is not None:
            metrics = _attribute(RTAX_LOCK, _U32.pack(1 << RTAX_RTO_MIN))
            metrics += _attribute(RTAX_RTO_MIN, _U32.pack(rto_min_ms))
            body += _attribute(RTA_METRICS, metrics)
        self._change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)

    def delete_route(self, index: int, network: Network) -> None:
        """Take a route away; nothing happens when it is gone already."""
        scope = RT_SCOPE_LINK if network.version == 4 else RT_SCOPE_UNIVERSE
        try:
            self._change(RTM_DELROUTE, 0, self._route(network, scope, index))
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENODEV):
                raise

    @staticmethod
    def _route(network: Network, scope: int, index: int) -> bytes:
        body = _ROUTE.pack(
            _family(network.version), network.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0
        )
        return body + _attribute(RTA_DST, network.network_address.packed) + _attribute(RTA_OIF, _U32.pack(index))
