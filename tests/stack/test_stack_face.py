"""The stack's asyncio face with all its errors, its life, what it counts, and TCP that comes the long way."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)

from netbridge.stack import Stack
from netbridge.stack.icmp.wire import Problem
from netbridge.stack.link.base import LinkError
from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.packet import IpPacket
from netbridge.stack.stack import KNOWN_SOURCES
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, SERVER4, SERVER6, RecordingLink, fragments
from tests.stack.tcp.peer import Peer, User

PEER = {4: "10.0.0.2", 6: "fd00::2"}
OWN = {4: "10.0.0.1", 6: "fd00::1"}
NOBODY = {4: "10.0.0.77", 6: "fd00::77"}


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    version: int = request.param
    return version


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Stack, Stack]]:
    """Two stacks on a link that knows no offload: 10.0.0.1 and fd00::1 before 10.0.0.2 and fd00::2."""
    one, other = memory_link(offload=False)
    config = TcpConfig(syn_retries=0)
    async with AsyncExitStack() as exits:
        near = await exits.enter_async_context(Stack(one, ["10.0.0.1/24", "fd00::1/64"], tcp=config))
        far = await exits.enter_async_context(Stack(other, ["10.0.0.2/24", "fd00::2/64"]))
        yield near, far


@pytest.fixture
async def peer(version: int) -> AsyncIterator[Peer]:
    peer = Peer(version=version)
    yield peer
    peer.close()


# -- ping


@pytest.mark.parametrize("size", [0, 56, 4000])
async def test_ping(pair: tuple[Stack, Stack], version: int, size: int) -> None:
    near, far = pair
    seconds = await near.ping(PEER[version], size=size)
    assert 0 < seconds < 1
    assert far.icmp.counters.echo_requests == 1
    assert near.icmp._pings == {}


async def test_ping_of_nobody_times_out(pair: tuple[Stack, Stack], version: int) -> None:
    near, far = pair
    far.icmp.forward = lambda *_: None
    with pytest.raises(TimeoutError):
        await near.ping(NOBODY[version], timeout=0.03)
    assert near.icmp._pings == {}


async def test_ping_is_told_what_became_of_it(pair: tuple[Stack, Stack], version: int) -> None:
    near, far = pair

    def unreachable(packet: IpPacket, *_: object) -> None:
        far.icmp.error(Problem.HOST_UNREACHABLE, packet.packet)

    far.icmp.forward = unreachable
    with pytest.raises(OSError, match="No route to host"):
        await near.ping(NOBODY[version])


# -- open_connection


async def serve(stack: Stack, host: str | None = None) -> Any:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    return await stack.start_server(echo, host, 80)


async def echoes(near: Stack, host: str, data: bytes) -> bool:
    reader, writer = await near.open_connection(host, 80)
    writer.write(data)
    writer.write_eof()
    same = await reader.read() == data
    writer.close()
    await writer.wait_closed()
    return same


async def test_a_connection_of_either_version(pair: tuple[Stack, Stack], version: int) -> None:
    near, far = pair
    async with await serve(far):
        assert await echoes(near, PEER[version], bytes(range(256)) * 1000)


async def test_refused(pair: tuple[Stack, Stack], version: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await pair[0].open_connection(PEER[version], 80)
    assert not pair[0].tcp.flows


async def test_a_server_of_one_version_refuses_the_other(pair: tuple[Stack, Stack], version: int) -> None:
    near, far = pair
    async with await serve(far, {4: "0.0.0.0", 6: "::"}[version]):
        assert await echoes(near, PEER[version], b"x")
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(PEER[10 - version], 80)


@pytest.mark.parametrize(
    ("problem", "error", "number"),
    [
        (Problem.HOST_UNREACHABLE, OSError, errno.EHOSTUNREACH), (Problem.NET_UNREACHABLE, OSError, errno.ENETUNREACH),
        (Problem.PORT_UNREACHABLE, ConnectionRefusedError, None), (Problem.PROHIBITED, PermissionError, None),
    ],
)  # fmt: skip
async def test_unreachable(
    pair: tuple[Stack, Stack], version: int, problem: Problem, error: type[OSError], number: int | None
) -> None:
    near, far = pair
    far.tcp.forward = lambda request: request.unreachable(problem)
    with pytest.raises(error) as caught:
        await near.open_connection(NOBODY[version], 80)
    assert number is None or caught.value.errno == number
    assert not near.tcp.flows


async def test_no_answer_is_a_timeout(pair: tuple[Stack, Stack]) -> None:
    near, far = pair
    far.tcp.forward = lambda request: request.drop()
    near.tcp.config = TcpConfig(syn_retries=0)
    opening = asyncio.ensure_future(near.open_connection(NOBODY[4], 80))
    await asyncio.sleep(0.01)
    (flow,) = near.tcp.flows.values()
    flow.connection._retry_at = 0.0  # the second that the first SYN waits is over
    near.timers.update(flow)
    with pytest.raises(TimeoutError):
        await opening
    assert not near.tcp.flows


async def test_a_link_that_loses_everything() -> None:
    one, other = memory_link()
    async with Stack(FaultLink(one, sent=Faults(loss=1.0)), ["10.0.0.1/24"]) as near, Stack(other, ["10.0.0.2/24"]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await near.open_connection("10.0.0.2", 80)
        with pytest.raises(TimeoutError):
            await near.ping("10.0.0.2", timeout=0.01)
        assert not near.tcp.flows


async def test_arguments_that_make_no_sense(pair: tuple[Stack, Stack]) -> None:
    near = pair[0]
    for host in ("localhost", "", "10.0.0", "10.0.0.256", "fd00::g", "1.2.3.4%eth0"):
        with pytest.raises(ValueError, match="numeric"):
            await near.open_connection(host, 80)
        with pytest.raises(ValueError, match="numeric"):
            await near.ping(host)
        with pytest.raises(ValueError, match="numeric"):
            await serve(near, host)
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="port"):
            await near.open_connection("10.0.0.2", port)
        with pytest.raises(ValueError, match="port"):
            await near.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("10.0.0.2", port))
    for port in (-1, 65536):  # 0 is a port of the stack's choice
        with pytest.raises(ValueError, match="port"):
            await near.start_server(lambda reader, writer: None, None, port)
        with pytest.raises(ValueError, match="port"):
            await near.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("10.0.0.1", port))
    for local, remote in (("10.0.0.1", "fd00::2"), ("fd00::1", "10.0.0.2")):
        with pytest.raises(ValueError, match="version"):
            await near.open_connection(remote, 80, local_addr=(local, 0))
        with pytest.raises(ValueError, match="version"):
            await near.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=(local, 0), remote_addr=(remote, 80)
            )
    with pytest.raises(ValueError, match="address"):
        Stack(RecordingLink(), [])
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        Stack(RecordingLink(), ["not an address"])
    assert not near.tcp.flows


async def test_addresses_that_are_not_ours(pair: tuple[Stack, Stack]) -> None:
    near = pair[0]
    for attempt in (
        serve(near, "10.0.0.9"), near.open_connection("10.0.0.2", 80, local_addr=("10.0.0.9", 0)),
        near.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("10.0.0.9", 5)),
        near.open_connection("10.0.0.1", 80), near.open_connection("fd00::1", 80),
    ):  # fmt: skip
        with pytest.raises(OSError) as caught:
            await attempt
        assert caught.value.errno == errno.EADDRNOTAVAIL
    async with await serve(near, "10.0.0.1"):
        with pytest.raises(OSError) as caught:
            await serve(near, "10.0.0.1")
        assert caught.value.errno == errno.EADDRINUSE


async def test_a_version_the_stack_does_not_have() -> None:
    async with Stack(RecordingLink(), ["10.0.0.1/24"]) as stack:
        for attempt in (stack.open_connection("fd00::2", 80), stack.ping("fd00::2")):
            with pytest.raises(OSError) as caught:
                await attempt
            assert caught.value.errno == errno.ENETUNREACH


async def test_the_source_is_of_the_destinations_network() -> None:
    link = RecordingLink()
    async with Stack(link, ["10.0.0.1/24", "10.9.0.1/16", "fd00::1/64"]) as stack:
        for host, source in (("10.9.3.4", "10.9.0.1"), ("10.0.0.7", "10.0.0.1"), ("192.0.2.1", "10.0.0.1")):
            opening = asyncio.ensure_future(stack.open_connection(host, 80))
            await asyncio.sleep(0)
            assert IP(link.sent.pop()[10:]).src == source
            opening.cancel()
            await asyncio.wait([opening])


# -- life


async def test_what_is_not_started_says_so() -> None:
    link = RecordingLink()
    stack = Stack(link, ["10.0.0.1/24"])
    with pytest.raises(RuntimeError, match="not started"):
        await stack.open_connection("10.0.0.2", 80)
    stack.close()
    stack.close()
    assert link.closed


async def test_what_is_closed_says_so(pair: tuple[Stack, Stack]) -> None:
    near = pair[0]
    near.close()
    for attempt in (near.open_connection("10.0.0.2", 80), serve(near)):
        with pytest.raises(OSError) as caught:
            await attempt
        assert caught.value.errno == errno.ENETDOWN


async def test_a_lost_link_ends_the_stack_and_is_told() -> None:
    one, other = memory_link()
    lost: list[Exception | None] = []
    async with Stack(one, ["10.0.0.1/24"]) as near, Stack(other, ["10.0.0.2/24"]) as far:
        near.on_lost = lost.append
        async with await serve(far):
            _reader, writer = await near.open_connection("10.0.0.2", 80)
            far.close()
            await asyncio.sleep(0.01)
            assert isinstance(lost[0], LinkError)
            assert writer.is_closing()
            with pytest.raises(ConnectionError):
                await writer.wait_closed()
            assert not near.tcp.flows


# -- datagrams


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))


@pytest.mark.parametrize("size", [0, 1, 1400, 20_000])
async def test_datagram_endpoints(pair: tuple[Stack, Stack], version: int, size: int) -> None:
    near, far = pair
    host = PEER[version]
    service, server = await far.create_datagram_endpoint(Datagrams, local_addr=(host, 53))
    question, client = await near.create_datagram_endpoint(Datagrams, remote_addr=(host, 53))
    question.sendto(b"q" * size)
    data, address = await server.received.get()
    assert data == b"q" * size
    assert address[0] == OWN[version]
    service.sendto(b"a", address)
    assert (await client.received.get())[0] == b"a"


async def test_a_datagram_endpoint_on_any_address(pair: tuple[Stack, Stack], version: int) -> None:
    near, far = pair
    anywhere = {4: "0.0.0.0", 6: "::"}[version]
    service, server = await far.create_datagram_endpoint(Datagrams, local_addr=(anywhere, 53))
    question, client = await near.create_datagram_endpoint(Datagrams, remote_addr=(PEER[version], 53))
    question.sendto(b"q")
    _, address = await server.received.get()
    service.sendto(b"a", address)
    assert (await client.received.get())[0] == b"a"


# -- what is let in


def packet4(**fields: Any) -> Any:
    return IP(**({"src": CLIENT4, "dst": GATEWAY4} | fields)) / UDP(sport=5, dport=5) / b"x"


def packet6(**fields: Any) -> Any:
    return IPv6(**({"src": CLIENT6, "dst": GATEWAY6} | fields)) / UDP(sport=5, dport=5) / b"x"


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (packet4(src="127.0.0.1"), "martian"), (packet4(src="0.0.0.0"), "martian"),
        (packet4(src="224.0.0.1"), "martian"),
        (packet4(src="255.255.255.255"), "martian"), (packet4(src=GATEWAY4), "martian"),
        (packet4(src="198.18.0.3"), "martian"),  # the network's broadcast address
        (packet4(src=SERVER4, dst=SERVER4), "martian"),
        (packet4(dst="224.0.0.251"), "group"), (packet4(dst="255.255.255.255"), "group"),
        (packet4(dst="198.18.0.3"), "group"),
        (packet4(src="198.18.0.9"), "spoofed"), (packet4(src="8.8.8.8"), "spoofed"),
        (packet6(src="::"), "martian"), (packet6(src="::1"), "martian"), (packet6(src="ff02::1"), "martian"),
        (packet6(src=GATEWAY6), "martian"), (packet6(dst="ff02::1"), "group"), (packet6(src="2001:db8::1"), "spoofed"),
        (packet6(src="fe80::1"), "spoofed"),
        (IP(bytes(packet4(ihl=4))), "malformed"), (IP(bytes(packet4(len=400))), "malformed"),
        (IP(bytes(packet4(chksum=1))), "malformed"), (IPv6(bytes(packet6(plen=400))), "malformed"),
        (bytes(packet4())[:19], "malformed"), (b"\x50" + bytes(40), "malformed"), (bytes(packet6())[:39], "malformed"),
    ],
)  # fmt: skip
async def test_what_no_unicast_packet_may_have_is_dropped_and_counted(packet: Any, counter: str) -> None:
    peer = Peer()
    peer.stack.udp.forward = lambda *_: pytest.fail("it got through")
    peer.inject(packet)
    assert getattr(peer.stack.counters, counter) == 1
    assert peer.stack.counters.packets == 1
    assert peer.stack.udp.counters.received == 0
    peer.silent()
    peer.close()


async def test_sources_can_be_named_or_left_open() -> None:
    foreign = packet4(src="8.8.8.8")
    for sources, received in ((["8.8.0.0/16"], 1), ([], 1), (["9.0.0.0/8", "2000::/3"], 0)):
        peer = Peer(sources=sources)
        peer.inject(foreign)
        assert peer.stack.udp.counters.received == received
        peer.close()


async def test_spoofers_cannot_fill_the_memory() -> None:
    peer = Peer(sources=["10.0.0.0/8"])
    for number in range(3 * KNOWN_SOURCES):
        assert peer.stack.may_arrive((0x0A000000 + number).to_bytes(4, "big"), b"\x0b\0\0\1", 9, b"")
        assert len(peer.stack._known) <= KNOWN_SOURCES
    peer.close()


async def test_hops_that_end_here_are_told(peer: Peer) -> None:
    server = SERVER4 if peer.version == 4 else SERVER6
    peer.inject(peer.ip(ttl=1) / UDP(sport=5, dport=33434) / b"traceroute")
    (answer,) = peer.heard()
    if peer.version == 4:
        assert (answer.src, answer[ICMP].type, answer[ICMP].code) == (GATEWAY4, 11, 0)
        assert IP(bytes(answer[ICMP].payload)).dst == server
    else:
        assert answer.src == GATEWAY6
        assert IPv6(bytes(answer[ICMPv6TimeExceeded].payload)).dst == server
    assert peer.stack.counters.expired == 1


# -- TCP the long way


def long_way(peer: Peer, tcp: Any) -> list[Any]:
    """A segment behind IP options, behind extension headers, and in fragments: each a list of packets."""
    whole = bytes(peer.ip() / tcp)
    if peer.version == 4:
        return [
            [IP(src=CLIENT4, dst=SERVER4, options=[IPOption_NOP()] * 4) / tcp],
            fragments(IP(whole), 68), list(reversed(fragments(IP(whole), 68))),
        ]  # fmt: skip
    head = IPv6(src=CLIENT6, dst=SERVER6)
    # The checksum does not cover the extension headers, but scapy must be told the last header's number.
    pieces = fragments(head / IPv6ExtHdrFragment(id=77) / tcp / bytes(2600), 1280)
    return [[head / IPv6ExtHdrHopByHop() / tcp], [head / IPv6ExtHdrDestOpt() / tcp], pieces, list(reversed(pieces))]


@pytest.mark.parametrize("way", range(3))
async def test_a_syn_may_come_the_long_way(peer: Peer, way: int) -> None:
    syn = TCP(sport=5000, dport=80, flags="S", seq=7, options=[("MSS", 1460), ("NOP", None), ("WScale", 7)] * 3)
    peer.inject(*long_way(peer, syn)[way])
    (request,) = peer.requests
    assert (request.seq, request.options.wscale) == (7, 7)
    request.accept(User())
    peer.hears("SA", ack=8)
    assert peer.stack.counters.malformed == 0


async def test_data_of_a_connection_may_come_in_fragments(peer: Peer) -> None:
    user = User()
    flow, isn = peer.established(user)
    data = bytes(range(256)) * 12
    seq = flow.connection.receiver.nxt
    tcp = TCP(sport=5000, dport=80, flags="A", seq=seq, ack=(isn + 1) & 0xFFFFFFFF, window=512)
    head = peer.ip() if peer.version == 4 else peer.ip() / IPv6ExtHdrFragment(id=9)
    pieces = fragments(head / tcp / data, 1280)
    assert len(pieces) > 2
    peer.inject(*reversed(pieces))
    assert user.data == data
    peer.hears("A", isn + 1, seq + len(data))
    assert peer.stack.counters.fragments == len(pieces)


async def test_a_fragmented_segment_with_a_wrong_checksum(peer: Peer) -> None:
    head = peer.ip() if peer.version == 4 else peer.ip() / IPv6ExtHdrFragment(id=9)
    packet = head / TCP(sport=5000, dport=80, flags="S", seq=7, chksum=1) / bytes(2600)
    peer.inject(*fragments(packet, 1280))
    assert peer.requests == []
    assert peer.tcp.counters.bad_checksum == 1


async def test_a_first_fragment_without_the_whole_tcp_header_is_harmless(peer: Peer) -> None:
    """RFC 1858's tiny fragment: flags in the second one. Nothing is looked at before all is there."""
    packet: Any
    if peer.version == 4:
        packet = IP(src=CLIENT4, dst=SERVER4, proto=6, flags="MF") / bytes(8)
    else:
        packet = IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(nh=6, m=1, id=3) / bytes(8)
    peer.inject(packet)
    assert peer.requests == []
    assert peer.tcp.counters.segments_in == 0


async def test_tcp_too_short_behind_options(peer: Peer) -> None:
    if peer.version == 4:
        peer.inject(IP(src=CLIENT4, dst=SERVER4, proto=6, options=[IPOption_NOP()] * 4) / bytes(19))
    else:
        peer.inject(IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrDestOpt(nh=6) / bytes(19))
    assert peer.stack.counters.malformed == 1
    assert peer.requests == []


# -- padding and offload


async def test_padding_behind_a_short_packet_is_no_data(peer: Peer) -> None:
    user = User()
    flow, isn = peer.established(user)
    seq = flow.connection.receiver.nxt
    padded = bytes(peer.segment("A", seq, isn + 1, b"data")) + bytes(30)
    peer.inject(padded)
    assert user.data == b"data"


async def test_every_packet_starts_with_a_header_of_ten_bytes() -> None:
    peer = Peer()
    for size in range(40):
        peer.stack.packet_received(memoryview(NO_OFFLOAD + bytes(size))[:size])
    peer.stack.burst_ended()
    peer.silent()
    assert peer.stack.counters.malformed == 40
    peer.close()


async def test_create_server_gives_each_connection_a_protocol(pair: tuple[Stack, Stack]) -> None:
    """And nobody but the protocol need hold the transport: a StreamWriter closes its own when it is collected."""
    near, far = pair

    class Shouts(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(data.upper())

    server = await far.create_server(Shouts, "10.0.0.2", 81)
    with pytest.raises(OSError, match="already listened on"):
        await far.create_server(Shouts, "10.0.0.2", 81)
    reader, writer = await near.open_connection("10.0.0.2", 81)
    for word in (b"one", b"two"):
        gc.collect()
        writer.write(word)
        assert await reader.readexactly(3) == word.upper()
    writer.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        await near.open_connection("10.0.0.2", 81)
