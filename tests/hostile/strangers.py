"""What a host in corp's network does to the laptop: it forges whatever it likes, and knows who talks with whom."""

from __future__ import annotations

from .attack import Attack
from .forgeries import EVIL, HARD, SOFT, Victim, answer, connected
from .raw import ACK, ICMP, ICMPV6, PSH, RST, SYN, Spoof, icmp, ip, packed, tcp_packet, udp_packet


class Stranger(Attack):
    """Sends by raw sockets in corp, with any source."""

    side = "corp"

    def prepare(self) -> None:
        self.spoof: Spoof = self.mouth(Spoof())
        self.victims: list[Victim] = []
        self._looked = 0.0
        self.laptop = {version: packed(it) for version, it in self.place.laptop.items()}
        self.tick(1e9)

    def tick(self, now: float) -> None:
        if abs(now - self._looked) >= 0.2:
            self._looked = now
            self.victims = connected(set(self.laptop.values()))
            self.facts["victims"] = max(self.facts.get("victims", 0), len(self.victims))

    def turn(self, number: int) -> None:
        self.spoof.send(self.packet(number))

    def packet(self, number: int) -> bytes:
        raise NotImplementedError

    def victim(self, number: int) -> Victim:
        if self.victims:
            return self.victims[number % len(self.victims)]
        return Victim(self.corp(4), self.laptop[4], (80, 40_000 + number % 20_000))


class StrangeErrors(Stranger):
    name = "corp-icmp-errors"
    what = "from corp's side, forged ICMP errors about the laptop's connections, and about datagrams to guessed ports"

    def packet(self, number: int) -> bytes:
        victim = self.victim(number)
        here, there = victim.here, victim.there
        version = 4 if len(here) == 4 else 6
        quoted = tcp_packet(there, here, victim.ports[::-1], self.random.getrandbits(32), 0, ACK)
        if number % 4 == 3:
            quoted = udp_packet(there, here, (32_768 + self.random.randrange(28_000), 53), b"12345678")
        if version == 4:
            kind, code = ((3, HARD[number // 8 % len(HARD)]), (11, 0), (4, 0), (5, 1))[number % 4]
        else:
            kind, code = ((1, SOFT[number // 8 % len(SOFT)]), (3, 0), (2, 0), (137, 0))[number % 4]
        message = icmp(here, there, kind, code, (68, 576, 1280)[number % 3], quoted[:64])
        return ip(here, there, ICMP if version == 4 else ICMPV6, message)


class StrangeSegments(Stranger):
    name = "corp-blind-segments"
    what = "from corp's side, blind resets, SYNs and data into the laptop's connections"

    def packet(self, number: int) -> bytes:
        victim = self.victim(number)
        seq, ack = self.random.getrandbits(32), self.random.getrandbits(32)
        flags = (RST, RST | ACK, SYN, SYN | ACK, PSH | ACK)[number % 5]
        data = b"forged" if flags & PSH else b""
        return tcp_packet(victim.here, victim.there, victim.ports, seq, ack, flags, data=data)


class ForgedNames(Stranger):
    name = "corp-dns-forged"
    what = "from corp's side, answers as if from the nameserver to the bridge's questions, guessing id, port and case"

    def packet(self, number: int) -> bytes:
        source, to = self.corp(4), self.laptop[4]
        name = f"n{number % 1000}.many.corp.test"
        ports = 53, 32_768 + self.random.randrange(28_232)
        return udp_packet(source, to, ports, answer(self.random.getrandbits(16), name, EVIL))


class StrangeDatagrams(Stranger):
    name = "corp-udp-flood"
    what = "from corp's side, datagrams as if from the servers of the bridge's UDP flows, to every port"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        ports = (7, 53, 443)[number % 3], 32_768 + number // 2 % 28_232
        return udp_packet(self.corp(version), self.laptop[version], ports, bytes(number % 1200))


STRANGERS: list[type[Attack]] = [StrangeErrors, StrangeSegments, ForgedNames, StrangeDatagrams]
