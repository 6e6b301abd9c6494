"""The whole stack: what may pass, what is answered, and two stacks that talk over links good and bad."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)

from netbridge.stack import Stack, memory_link
from netbridge.stack.link import FaultLink, Faults, Link, StreamLink
from netbridge.stack.packet import IpPacket
from netbridge.stack.vnet import F_DATA_VALID, NO_OFFLOAD, VNET, VNET_LEN
from tests.stack.fake import (
    CLIENT4,
    CLIENT6,
    GATEWAY4,
    GATEWAY6,
    SERVER4,
    SERVER6,
    RecordingLink,
    dissect,
    fragments,
    packed,
    raw,
)


class World:
    """A stack that forwards, on a link that records."""

    def __init__(self) -> None:
        self.link = RecordingLink()
        self.stack = Stack(self.link, [f"{GATEWAY4}/30", f"{GATEWAY6}/64"])
        self.udp: list[tuple[IpPacket, int, int, bytes]] = []
        self.echo: list[tuple[int, int, bytes]] = []
        self.tcp: list[Any] = []
        self.stack.udp.forward = lambda packet, source, destination, payload: self.udp.append(
            (packet, source, destination, bytes(payload)),
        )
        self.stack.icmp.forward = lambda _, identifier, sequence, payload: self.echo.append(
            (identifier, sequence, bytes(payload)),
        )
        self.stack.tcp.forward = self.tcp.append

    def give(self, *packets: Any, flags: int = 0) -> list[Any]:
        """Inject packets; what the stack says to them."""
        for packet in packets:
            self.stack.packet_received(memoryview(VNET.pack(flags, 0, 0, 0, 0, 0) + raw(packet)))
        self.stack.burst_ended()
        said = [dissect(data[VNET_LEN:]) for data in self.link.sent]
        self.link.sent.clear()
        return said


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.stack:
        yield made


V4, V6 = IP(src=CLIENT4, dst=SERVER4), IPv6(src=CLIENT6, dst=SERVER6)
QUERY = UDP(sport=5000, dport=53) / b"query"


async def test_flows_to_others_reach_their_forwarders_one_hop_on(world: World) -> None:
    for ip in (V4, V6):
        echo = ICMP(type=8, id=7, seq=9) if ip is V4 else ICMPv6EchoRequest(id=7, seq=9)
        assert world.give(ip / QUERY, ip / echo, ip / TCP(sport=5000, dport=80, flags="S")) == []
    assert [(packet.ttl, source, destination, payload) for packet, source, destination, payload in world.udp] == [
        (63, 5000, 53, b"query"),
    ] * 2
    assert world.echo == [(7, 9, b"")] * 2
    assert len(world.tcp) == 2


async def test_the_last_hop_is_answered_by_the_gateway(world: World) -> None:
    for ttl in (0, 1):
        (four,) = world.give(IP(src=CLIENT4, dst=SERVER4, ttl=ttl) / QUERY)
        (six,) = world.give(IPv6(src=CLIENT6, dst=SERVER6, hlim=ttl) / QUERY)
        assert (four.src, four.dst, four[ICMP].type, four[ICMP].code) == (GATEWAY4, CLIENT4, 11, 0)
        assert (six.src, six.dst, six[ICMPv6TimeExceeded].code) == (GATEWAY6, CLIENT6, 0)
    assert world.udp == []
    # The gateway itself is reached with the last hop.
    (reply,) = world.give(IP(src=CLIENT4, dst=GATEWAY4, ttl=1) / ICMP(type=8, id=1) / b"x")
    assert reply[ICMP].type == 0


MARTIANS = {
    "LAND": IP(src=SERVER4, dst=SERVER4) / QUERY,
    "LAND at the gateway": IP(src=GATEWAY4, dst=GATEWAY4) / TCP(sport=80, dport=80, flags="S"),
    "from the gateway": IP(src=GATEWAY4, dst=SERVER4) / QUERY,
    "from loopback": IP(src="127.0.0.1", dst=SERVER4) / QUERY,
    "from nobody": IP(src="0.0.0.0", dst=SERVER4) / QUERY,
    "from a group": IP(src="224.0.0.1", dst=SERVER4) / QUERY,
    "from broadcast": IP(src="255.255.255.255", dst=SERVER4) / QUERY,
    "from the subnet's broadcast": IP(src="198.18.0.3", dst=SERVER4) / QUERY,
    "from elsewhere": IP(src="10.7.0.10", dst=SERVER4) / QUERY,
    "to a group": IP(src=CLIENT4, dst="224.0.0.251") / QUERY,
    "to broadcast": IP(src=CLIENT4, dst="255.255.255.255") / QUERY,
    "to the subnet's broadcast": IP(src=CLIENT4, dst="198.18.0.3") / QUERY,
    "SYN to a group": IP(src=CLIENT4, dst="224.0.0.251") / TCP(sport=1, dport=80, flags="S"),
    "SYN from elsewhere": IP(src="10.7.0.10", dst=SERVER4) / TCP(sport=1, dport=80, flags="S"),
    "v6 LAND": IPv6(src=SERVER6, dst=SERVER6) / QUERY,
    "v6 from loopback": IPv6(src="::1", dst=SERVER6) / QUERY,
    "v6 from nobody": IPv6(src="::", dst=SERVER6) / QUERY,
    "v6 from a group": IPv6(src="ff02::1", dst=SERVER6) / QUERY,
    "v6 from elsewhere": IPv6(src="2001:db8::7", dst=SERVER6) / QUERY,
    "v6 to a group": IPv6(src=CLIENT6, dst="ff02::fb") / QUERY,
    "v6 SYN from elsewhere": IPv6(src="2001:db8::7", dst=SERVER6) / TCP(sport=1, dport=80, flags="S"),
    "with its last hop to a group": IP(src=CLIENT4, dst="224.0.0.251", ttl=1) / QUERY,
    "UDP to port 0": V4 / UDP(sport=5000, dport=0),
    "UDP from port 0": V4 / UDP(sport=0, dport=53),
    "TCP to port 0": V4 / TCP(sport=5000, dport=0, flags="S"),
    "TCP from port 0": V4 / TCP(sport=0, dport=80, flags="S"),
    "UDP with a wrong checksum": V4 / UDP(sport=5000, dport=53, chksum=1),
    "TCP with a wrong checksum": V4 / TCP(sport=5000, dport=80, flags="S", chksum=1),
    "v6 UDP without a checksum": V6 / UDP(sport=5000, dport=53, chksum=0),
    "a wrong header checksum": IP(src=CLIENT4, dst=SERVER4, chksum=1) / QUERY,
    "TCP under a wrong header checksum": IP(src=CLIENT4, dst=SERVER4, chksum=1) / TCP(sport=1, dport=80, flags="S"),
    "IPv4 inside the header of nothing": b"\x45" + bytes(40),
    "version 5": b"\x55" + bytes(60),
    "nothing": b"",
}


@pytest.mark.parametrize("name", MARTIANS)
async def test_dropped_in_silence(world: World, name: str) -> None:
    assert world.give(MARTIANS[name]) == []
    assert (world.udp, world.echo, world.tcp) == ([], [], [])


async def test_unknown_protocols_are_refused(world: World) -> None:
    (four,) = world.give(IP(src=CLIENT4, dst=SERVER4, proto=132) / bytes(20))
    (six,) = world.give(IPv6(src=CLIENT6, dst=SERVER6, nh=132) / bytes(20))
    assert (four[ICMP].type, four[ICMP].code) == (3, 2)
    assert (six[ICMPv6ParamProblem].code, six[ICMPv6ParamProblem].ptr) == (1, 6)


async def test_unknown_ipv6_options_are_answered_as_they_ask(world: World) -> None:
    option = IPv6ExtHdrHopByHop(options=[PadN(otype=0x9E, optdata=b"ab")])
    (error,) = world.give(V6 / option / QUERY)
    assert (error[ICMPv6ParamProblem].code, error[ICMPv6ParamProblem].ptr) == (2, 42)


async def test_fragments_are_put_together_before_anybody_sees_them(world: World) -> None:
    payload = random.Random(1).randbytes(5000)
    for pieces in (
        fragments(V4 / UDP(sport=5000, dport=53) / payload),
        fragments(V6 / IPv6ExtHdrFragment(id=7) / UDP(sport=5000, dport=53) / payload),
    ):
        random.Random(2).shuffle(pieces)
        assert world.give(*pieces[:-1]) == []
        assert world.udp == []
        assert world.give(pieces[-1]) == []
        ((_, source, destination, got),) = world.udp
        assert (source, destination, got) == (5000, 53, payload)
        world.udp.clear()
    (reply_pieces) = world.give(*fragments(IP(src=CLIENT4, dst=GATEWAY4, id=9) / ICMP(type=8, id=1) / payload))
    assert b"".join(raw(piece.payload) for piece in reply_pieces)[8:] == payload


async def test_tcp_in_fragments_and_behind_options_reaches_tcp(world: World) -> None:
    segment = TCP(sport=5000, dport=80, flags="S", options=[("MSS", 1400)])
    world.give(IP(src=CLIENT4, dst=SERVER4, options=[IPOption_RR(routers=["1.2.3.4"])]) / segment)
    world.give(V6 / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"ab")]) / TCP(sport=5001, dport=80, flags="S"))
    world.give(*fragments(IP(src=CLIENT4, dst=SERVER4, id=3) / TCP(sport=5002, dport=80, flags="S") / bytes(24), 36))
    assert len(world.tcp) == 3


async def test_a_datagram_that_never_completes_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fragments(V4 / UDP(sport=5000, dport=53) / bytes(4000))[0]
    assert world.give(first) == []
    at = world.stack.next_timeout()
    world.stack.handle_timeout(at)
    (error,) = world.give()
    assert (error.src, error[ICMP].type, error[ICMP].code) == (GATEWAY4, 11, 1)
    assert raw(error)[28:] == first[:548]


async def test_a_fragment_bomb_moves_nothing(world: World) -> None:
    bomb = bytearray(raw(IP(src=CLIENT4, dst=SERVER4, proto=17, flags="MF") / bytes(1400)))
    from netbridge.stack.checksum import checksum

    for identification in range(20_000):
        bomb[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
        bomb[10:12] = b"\0\0"
        bomb[10:12] = checksum(bomb[:20]).to_bytes(2, "big")
        world.stack.packet_received(memoryview(NO_OFFLOAD + bomb))
    assert world.stack.fragments.bytes_held <= 4 << 20
    assert len(world.give(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=8))) == 1


async def test_what_the_far_kernel_vouches_for_is_not_summed(world: World) -> None:
    world.give(V4 / UDP(sport=5000, dport=53, chksum=0xBEEF) / b"query", flags=F_DATA_VALID)
    assert len(world.udp) == 1


# -- two stacks


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(data, addr)


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.got.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.got.put_nowait(exc)


async def links(kind: str) -> tuple[Link, Link]:
    if kind == "stream":
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.get_running_loop().create_future()
        )
        server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
        one = StreamLink(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        server.close()
        return one, StreamLink(*await accepted)
    near, far = memory_link(offload=kind != "plain")
    if kind != "lossy":
        return near, far
    faults = Faults(loss=0.03, duplicate=0.02, reorder=0.05, reorder_delay=0.005, corrupt=0.01, delay=0.001)
    return FaultLink(near, seed=7, sent=faults, received=faults, offload=False), far


@pytest.mark.parametrize("kind", ["offload", "plain", "stream", "lossy"])
@pytest.mark.parametrize("version", [4, 6])
async def test_two_stacks_talk(kind: str, version: int) -> None:
    near, far = await links(kind)
    client = Stack(near, [f"{CLIENT4}/30", f"{CLIENT6}/64"])
    server = Stack(far, [f"{GATEWAY4}/30", f"{GATEWAY6}/64"])
    host = GATEWAY4 if version == 4 else GATEWAY6
    data = random.Random(3).randbytes(300_000 if kind == "lossy" else 3_000_000)
    async with asyncio.timeout(60), client, server:
        await server.start_server(echo, host, 7)
        await server.create_datagram_endpoint(Echo, (host, 7))
        reader, writer = await client.open_connection(host, 7)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            got = await reader.read(-1)
        assert got == data
        writer.close()
        if kind == "lossy":
            return
        with pytest.raises(ConnectionRefusedError):
            await client.open_connection(host, 9)
        assert await client.ping(host, size=3000) < 5
        transport, protocol = await client.create_datagram_endpoint(Client, None, (host, 7))
        for size in (0, 1, 1472, 1473, 60_000):
            transport.sendto(data[:size])
            assert await protocol.got.get() == data[:size]
        transport, protocol = await client.create_datagram_endpoint(Client, None, (host, 9))
        transport.sendto(b"nobody")
        assert isinstance(await protocol.got.get(), ConnectionRefusedError)


async def test_addresses_are_checked() -> None:
    near, _ = memory_link()
    async with Stack(near, [f"{GATEWAY4}/30"]) as stack:
        with pytest.raises(OSError, match="not an address"):
            await stack.create_datagram_endpoint(Client, (SERVER4, 53))
        with pytest.raises(OSError, match="no address of that IP version"):
            await stack.ping(SERVER6)
        with pytest.raises(ValueError, match="numeric"):
            await stack.ping("localhost")
        assert stack.is_local(packed(GATEWAY4))
        with pytest.raises(TimeoutError):
            await stack.ping(CLIENT4, timeout=0.05)


async def test_the_end_of_one_is_the_end_of_the_other() -> None:
    near, far = memory_link()
    client, server = Stack(near, [f"{CLIENT4}/30"]), Stack(far, [f"{GATEWAY4}/30"])
    ended: list[Exception | None] = []
    server.on_lost = ended.append
    client.start()
    server.start()
    protocol = Client()
    transport, _ = await server.create_datagram_endpoint(lambda: protocol, (GATEWAY4, 53))
    client.close()
    await asyncio.sleep(0.01)
    assert len(ended) == 1
    assert transport.is_closing()
