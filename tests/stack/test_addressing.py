"""Routes: what the link leads to, and from which of several addresses."""

from __future__ import annotations

import asyncio
import errno

import pytest
from scapy.layers.inet import IP, TCP, UDP

from netbridge.stack import Stack
from netbridge.stack.addressing import Addressing, packed, valid_port
from tests.stack.fake import RecordingLink

ADDRESSES = ["10.0.0.1/24", "10.9.0.1/16", "fd00::1/64"]


def shown(address: bytes) -> str:
    return ".".join(map(str, address)) if len(address) == 4 else address.hex(":", 2)


def test_without_routes_the_link_leads_everywhere() -> None:
    one = Addressing(ADDRESSES, None)
    assert shown(one.source_for(packed("192.0.2.1"))) == "10.0.0.1"
    assert shown(one.source_for(packed("10.9.200.1"))) == "10.9.0.1"
    assert one.source_for(packed("2001:db8::1")) == packed("fd00::1")
    assert shown(one.source_for(packed("192.0.2.1"), "10.9.0.1")) == "10.9.0.1"


def test_with_routes_nothing_else_is_reached() -> None:
    one = Addressing(ADDRESSES, ["192.168.1.0/24", "2001:db8::/32"])
    for reached in ("192.168.1.77", "10.0.0.200", "10.9.3.3", "2001:db8::1", "fd00::9"):
        assert one.reaches(packed(reached))
        one.source_for(packed(reached))
    for other in ("192.168.2.1", "8.8.8.8", "fd01::1", "::1"):
        assert not one.reaches(packed(other))
        for source in (None, "10.0.0.1" if "." in other else "fd00::1"):
            with pytest.raises(OSError, match="unreachable") as caught:
                one.source_for(packed(other), source)
            assert caught.value.errno == errno.ENETUNREACH
    assert Addressing(ADDRESSES, ["0.0.0.0/0"]).reaches(packed("8.8.8.8"))
    assert not Addressing(ADDRESSES, ["0.0.0.0/0"]).reaches(packed("2001:db8::1"))
    assert not Addressing(ADDRESSES, []).reaches(packed("8.8.8.8"))


def test_what_makes_no_sense() -> None:
    for routes in (["192.168.1.1/24"], ["nonsense"]):  # host bits set: which network is meant?
        with pytest.raises(ValueError, match=r"host bits|IPv4 or IPv6"):
            Addressing(ADDRESSES, routes)
    for port in (0, 65536, -1):
        with pytest.raises(ValueError, match="1 to 65535"):
            valid_port(port)
    for mtu in (67, 65536):
        with pytest.raises(ValueError, match="MTU"):
            Stack(RecordingLink(), ADDRESSES, mtu=mtu)


async def test_a_stack_sends_nothing_where_no_route_leads() -> None:
    link = RecordingLink()
    async with Stack(link, ["10.0.0.1/24"], routes=["192.168.1.0/24"]) as stack:
        errors: list[Exception] = []

        class Told(asyncio.DatagramProtocol):
            def error_received(self, exc: Exception) -> None:
                errors.append(exc)

        for attempt in (
            stack.open_connection("192.168.2.1", 80), stack.ping("192.168.2.1"),
            stack.create_datagram_endpoint(Told, remote_addr=("192.168.2.1", 53)),
            stack.create_datagram_endpoint(Told, local_addr=("10.0.0.1", 0), remote_addr=("192.168.2.1", 53)),
            stack.create_datagram_endpoint(Told, local_addr=("0.0.0.0", 0), remote_addr=("192.168.2.1", 53)),
        ):  # fmt: skip
            with pytest.raises(OSError, match="unreachable") as caught:
                await attempt
            assert caught.value.errno == errno.ENETUNREACH
        transport, _ = await stack.create_datagram_endpoint(Told, local_addr=("10.0.0.1", 0))
        assert transport.get_extra_info("stack") is stack
        transport.sendto(b"x", ("192.168.2.1", 53))
        assert [one.errno for one in errors] == [errno.ENETUNREACH]  # type: ignore[attr-defined]
        assert not link.sent
        transport.sendto(b"x", ("192.168.1.2", 53))
        assert IP(link.sent[0][10:])[UDP].dport == 53


async def test_answers_from_behind_a_route_are_let_in() -> None:
    link = RecordingLink()
    async with Stack(link, ["10.0.0.1/24"], routes=["192.168.1.0/24"]) as stack:
        for source, spoofed in (("192.168.1.5", 0), ("192.168.2.5", 1)):
            packet = bytes(10) + bytes(IP(src=source, dst="10.0.0.1") / TCP(sport=1, dport=2, flags="S"))
            stack.packet_received(memoryview(packet))
            assert stack.counters.spoofed == spoofed
