"""A stack's UDP and ICMP rooms with nothing around them but a list of what they sent."""

from __future__ import annotations

from netbridge.stack.icmp.endpoint import Icmp
from netbridge.stack.ip_output import IpOutput
from netbridge.stack.link.base import Buffer, Link, LinkUser
from netbridge.stack.udp.endpoint import Udp
from netbridge.stack.vnet import NO_OFFLOAD

OWN = {4: b"\xc6\x12\x00\x01", 6: bytes.fromhex("fd6e6272000000000000000000000001")}


class ListLink(Link):
    """Keeps what is sent."""

    def __init__(self, *, offload: bool = False) -> None:
        self.offload = offload
        self.sent: list[bytes] = []

    def start(self, user: LinkUser) -> None:
        self.user = user

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self.sent.append(b"".join((header, payload)))

    @property
    def ready(self) -> bool:
        return True

    def close(self) -> None:
        pass


class Bed:
    """The least of a stack."""

    def __init__(self) -> None:
        self.link = ListLink()
        self.send_ip = IpOutput(self.link).send_ip
        self.time = 0.0
        self.icmp = Icmp(self)
        self.udp = Udp(self, self.icmp)

    def now(self) -> float:
        return self.time

    def is_local(self, address: bytes) -> bool:
        return address in OWN.values()

    def gateway(self, version: int) -> bytes | None:
        return OWN[version]

    def sent(self) -> list[bytes]:
        """IP packets sent since the last call."""
        assert all(packet[:10] == NO_OFFLOAD for packet in self.link.sent)
        packets = [packet[10:] for packet in self.link.sent]
        self.link.sent.clear()
        return packets
