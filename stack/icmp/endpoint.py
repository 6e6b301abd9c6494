"""ICMP and ICMPv6 of one stack: answers echo, sends errors, and takes received errors to whom they concern.

Errors go out by the rules of RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e): never about another error, about
anything but a first fragment, or to anybody who is not one single host, and never faster than the bucket allows.

Errors that come in are believed only as far as their quoted packet goes: it must be one that the error's receiver
sent. TCP and UDP check the rest against their own state (RFC 5927) before they act.

Echo requests for the stack's own addresses are answered here; those for others go to `forward`, which is never
answered by us: a dead host's silence is the truth. Pings of our own are matched by destination, identifier, sequence
and payload. No clock and no futures here; `ping.py` adds those.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .. import ipv6
from ..errors import WireError
from ..ip_output import IpSender
from ..packet import ICMP, ICMPV6, TCP, UDP, Buffer, IpPacket
from . import wire
from .limit import TokenBucket
from .wire import Problem, Quoted

ERROR_TOS = 0xC0
"""Internetwork control, as RFC 1812 section 4.3.2.5 asks of ICMP errors."""

ForwardEcho = Callable[[IpPacket, int, int, memoryview], None]
ErrorHandler = Callable[[Quoted, Problem, int], bool]
"""Takes the quoted packet, the problem, and the MTU of TOO_BIG; says whether the quoted packet is one it sent."""
PingCallback = Callable[[IpPacket | None, Problem | None], None]


@dataclass(slots=True)
class IcmpCounters:
    """What ICMP did."""

    received: int = 0
    """Messages that came in, whatever became of them."""
    malformed: int = 0
    """Messages dropped because they were cut short, their checksum was wrong or their version was."""
    ignored: int = 0
    """Messages of types that nobody here acts on, and replies nobody waits for."""
    echo_requests: int = 0
    """Echo requests for the stack's own addresses, each answered."""
    echo_forwarded: int = 0
    """Echo requests for other addresses given to the forwarder."""
    echo_replies: int = 0
    """Echo replies that somebody here waited for."""
    echo_replies_sent: int = 0
    """Echo replies sent, the forwarder's included."""
    echo_requests_sent: int = 0
    """Echo requests of the stack's own."""
    errors_received: int = 0
    """Errors that were well-formed."""
    errors_about_pings: int = 0
    """Of these, about echo requests of the stack's own."""
    errors_disbelieved: int = 0
    """Of these, ignored: they quote nothing that was sent from here and may still be on its way (RFC 5927)."""
    errors_due: int = 0
    """Errors that were to be sent."""
    errors_sent: int = 0
    """Errors sent."""
    errors_withheld: int = 0
    """Errors not sent because the rules forbid to answer such a packet."""
    errors_limited: int = 0
    """Errors not sent because too many were."""


class _Ping:
    """One echo request of our own that waits for its reply."""

    __slots__ = ("callback", "payload", "source")

    def __init__(self, source: bytes, payload: bytes, callback: PingCallback) -> None:
        self.source = source
        self.payload = payload
        self.callback = callback


class Icmp:
    """The ICMP room of one stack, both versions."""

    def __init__(self, stack: IpSender, *, limit: TokenBucket | None = None) -> None:
        self.counters = IcmpCounters()
        self.forward: ForwardEcho | None = None
        """Takes echo requests to other addresses: packet (its ttl already lowered), identifier, sequence, payload."""
        self.tcp_error: ErrorHandler | None = None
        """Takes errors about TCP segments."""
        self.udp_error: ErrorHandler | None = None
        """Takes errors about UDP datagrams."""
        self._stack = stack
        self._limit = limit or TokenBucket()
        self._pings: dict[tuple[bytes, int, int], _Ping] = {}

    def packet_received(self, packet: IpPacket) -> None:
        """Take one ICMP message, of either version."""
        self.counters.received += 1
        version = packet.version
        try:
            if packet.protocol != wire.protocol_number(version):
                raise WireError("ICMP of the other IP version")
            kind, code, high, low, data = wire.parse(packet)
            if kind == wire.ECHO_REQUEST[version]:
                self._echo_request(packet, high, low, data)
            elif kind == wire.ECHO_REPLY[version]:
                self._echo_reply(packet, high, low, data)
            else:
                problem = wire.problem_of(version, kind, code)
                if problem is None:
                    self.counters.ignored += 1
                else:
                    self._error(packet, problem, high << 16 | low if version == 6 else low, data)
        except WireError:
            self.counters.malformed += 1

    def _echo_request(self, packet: IpPacket, identifier: int, sequence: int, data: memoryview) -> None:
        if self._stack.is_local(packet.destination):
            self.counters.echo_requests += 1
            self.echo_reply(packet.destination, packet.source, identifier, sequence, data)
        elif self.forward is not None:
            self.counters.echo_forwarded += 1
            self.forward(packet, identifier, sequence, data)
        else:
            self.counters.ignored += 1

    def _echo_reply(self, packet: IpPacket, identifier: int, sequence: int, data: memoryview) -> None:
        ping = self._pings.get((packet.source, identifier, sequence))
        if ping is None or ping.source != packet.destination or ping.payload != data:
            self.counters.ignored += 1
            return
        del self._pings[packet.source, identifier, sequence]
        self.counters.echo_replies += 1
        ping.callback(packet, None)

    def _error(self, packet: IpPacket, problem: Problem, mtu: int, data: memoryview) -> None:
        quoted = wire.parse_quoted(packet.version, data)
        if quoted.source != packet.destination:
            raise WireError("ICMP error about somebody else's packet")
        if problem is not Problem.TOO_BIG:
            mtu = 0
        self.counters.errors_received += 1
        if not self._tell_sender(packet.version, quoted, problem, mtu):
            self.counters.errors_disbelieved += 1

    def _tell_sender(self, version: int, quoted: Quoted, problem: Problem, mtu: int) -> bool:
        """Tell whoever sent the quoted packet; False when nobody did."""
        if quoted.protocol == TCP:
            return self.tcp_error is not None and self.tcp_error(quoted, problem, mtu)
        if quoted.protocol == UDP:
            return self.udp_error is not None and self.udp_error(quoted, problem, mtu)
        if quoted.protocol not in (ICMP, ICMPV6) or quoted.transport[0] != wire.ECHO_REQUEST[version]:
            return False
        _, _, _, identifier, sequence = wire.HEADER.unpack_from(quoted.transport)
        ping = self._pings.get((quoted.destination, identifier, sequence))
        if ping is None or ping.source != quoted.source:
            return False
        del self._pings[quoted.destination, identifier, sequence]
        self.counters.errors_about_pings += 1
        ping.callback(None, problem)
        return True

    def echo_reply(
        self, source: bytes, destination: bytes, identifier: int, sequence: int, payload: Buffer, *, ttl: int = 64,
    ) -> bool:
        """Send an echo reply of exactly `payload` from `source` (packed), which need not be the stack's own."""
        version = 4 if len(source) == 4 else 6
        message = wire.emit(version, source, destination, wire.ECHO_REPLY[version], 0, identifier, sequence, payload)
        self.counters.echo_replies_sent += 1
        return self._stack.send_ip(version, source, destination, wire.protocol_number(version), message, ttl=ttl)

    def error(
        self, problem: Problem, quoted: Buffer, *, source: bytes | None = None, mtu: int = 0, ttl: int = 64,
    ) -> bool:
        """Tell the sender of the IP packet `quoted` (from its IP header on) what became of it.

        `source` is the address the error comes from, the stack's own first one when None; `mtu` goes with TOO_BIG;
        `ttl` are the hops left to an error that came from further away: tracepath counts the way back by them.
        False when the rules or the rate forbid it.
        """
        view = memoryview(quoted)
        self.counters.errors_due += 1
        if not view or view[0] >> 4 not in (4, 6):
            self.counters.errors_withheld += 1
            return False
        version = view[0] >> 4
        kind, code = problem.wire(version)
        pointer = 0
        if version == 6 and problem is Problem.PROTOCOL_UNREACHABLE:
            try:
                pointer = ipv6.transport_of(view)[0]
            except WireError:
                self.counters.errors_withheld += 1
                return False
        return self._send_error(version, kind, code, pointer or mtu, view, source, ttl)

    def bad_header(self, quoted: Buffer, error: WireError) -> bool:
        """Answer an IPv6 packet that the parser refused with `error`, where that wants an answer (`error.code`)."""
        view = memoryview(quoted)
        if error.code is None or len(view) < ipv6.HEADER_LEN or view[0] >> 4 != 6:
            return False
        self.counters.errors_due += 1
        return self._send_error(6, wire.V6_PARAMETER_PROBLEM, error.code, error.pointer, view, None)

    def _send_error(
        self, version: int, kind: int, code: int, rest: int, view: memoryview, source: bytes | None, ttl: int = 64,
    ) -> bool:
        to_group = (kind, code) in ((2, 0), (wire.V6_PARAMETER_PROBLEM, ipv6.UNRECOGNIZED_OPTION))
        destination = _answerable_v4(view) if version == 4 else _answerable_v6(view, to_group=to_group)
        if destination is not None and source is None:
            source = self._stack.gateway(version)
        if destination is None or source is None or self._stack.is_local(destination):
            self.counters.errors_withheld += 1
            return False
        if not self._limit.take(self._stack.now()):
            self.counters.errors_limited += 1
            return False
        message = wire.emit(
            version, source, destination, kind, code, rest >> 16, rest & 0xFFFF, view[: wire.MAX_QUOTE[version]],
        )
        self.counters.errors_sent += 1
        return self._stack.send_ip(
            version, source, destination, wire.protocol_number(version), message, tos=ERROR_TOS if version == 4 else 0,
            ttl=ttl,
        )

    def send_ping(
        self, source: bytes, destination: bytes, payload: bytes, callback: PingCallback, *, ttl: int = 64,
    ) -> tuple[bytes, int, int]:
        """Send an echo request; `callback(packet, None)` on its reply, `callback(None, problem)` on an error about it.

        Returns the key for `forget_ping`, which must follow when nobody waits any more. The callback is called once
        at most, and never from inside this call.
        """
        version = 4 if len(source) == 4 else 6
        key = (destination, secrets.randbelow(65536), secrets.randbelow(65536))
        while key in self._pings:
            key = (destination, secrets.randbelow(65536), secrets.randbelow(65536))
        self._pings[key] = _Ping(source, payload, callback)
        message = wire.emit(version, source, destination, wire.ECHO_REQUEST[version], 0, key[1], key[2], payload)
        self.counters.echo_requests_sent += 1
        self._stack.send_ip(version, source, destination, wire.protocol_number(version), message, ttl=ttl)
        return key

    def forget_ping(self, key: tuple[bytes, int, int]) -> None:
        """No longer wait for that reply."""
        self._pings.pop(key, None)


def _answerable_v4(packet: memoryview) -> bytes | None:
    """The source of `packet`, when RFC 1122 section 3.2.2 lets us send it an error."""
    if len(packet) < 20:
        return None
    at = (packet[0] & 15) << 2
    if packet[6] & 0x1F or packet[7]:
        return None
    # Not to "this network", loopback, groups, reserved or broadcast addresses; not about packets to a group either.
    if packet[12] in (0, 127) or packet[12] >= 224 or packet[16] >= 224:
        return None
    if packet[9] == ICMP and (len(packet) <= at or wire.is_error(4, packet[at])):
        return None
    return bytes(packet[12:16])


def _answerable_v6(packet: memoryview, *, to_group: bool) -> bytes | None:
    """The source of `packet`, when RFC 4443 section 2.4 (e) lets us send it an error.

    `to_group`: this error is one of the two that packets to a multicast group may cause.
    """
    if len(packet) < ipv6.HEADER_LEN:
        return None
    source = bytes(packet[8:24])
    if source[0] == 0xFF or source[:15] == bytes(15) or (packet[24] == 0xFF and not to_group):
        return None
    try:
        _, protocol, at = ipv6.transport_of(packet)
    except WireError:
        return source  # its headers are what the error is about
    if protocol == ipv6.FRAGMENT or (protocol == ICMPV6 and (len(packet) <= at or wire.is_error(6, packet[at]))):
        return None
    return source
