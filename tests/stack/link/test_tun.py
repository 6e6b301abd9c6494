"""The TUN link against the kernel's own stack, in a network namespace."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP

from netbridge.stack import Stack
from netbridge.stack.link import LinkError, TunLink, open_tun, tun
from netbridge.stack.vnet import F_NEEDS_CSUM, GSO_TCPV4, NO_OFFLOAD, VNET, VNET_LEN
from tests.stack.fake import RecordingUser, dissect, raw
from tests.stack.link.test_offload import super_segment

STACK4, KERNEL4 = "198.18.77.1", "198.18.77.2"
STACK6, KERNEL6 = "fd6e:6272:77::1", "fd6e:6272:77::2"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"nbtun{secrets.token_hex(3)}"
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    run("ip", "netns", "del", name)


def plugged(namespace: str, *, offload: bool = True, mtu: int = 1500) -> TunLink:
    """A TUN of a name of its own whose kernel side is in the namespace."""
    link = open_tun(f"nb{secrets.token_hex(4)}", mtu=mtu, offload=offload)
    run("ip", "link", "set", link.name, "netns", namespace)
    for address in (f"{KERNEL4}/30", f"{KERNEL6}/64"):
        run("ip", "-n", namespace, "address", "add", address, "dev", link.name, *(["nodad"] if ":" in address else []))
    run("ip", "-n", namespace, "link", "set", link.name, "up")
    return link


async def inside(namespace: str, program: str) -> str:
    """Run Python inside the namespace; what it prints."""
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", namespace, sys.executable, "-c", program,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


@pytest.mark.net
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
async def test_the_kernel_pings_and_is_pinged(namespace: str, offload: bool) -> None:
    async with Stack(plugged(namespace, offload=offload), [f"{STACK4}/30", f"{STACK6}/64"]) as stack:
        for address in (KERNEL4, KERNEL6):
            assert await stack.ping(address, timeout=5) < 5
            assert await stack.ping(address, timeout=5, size=4000) < 5  # in fragments, both ways
        for address in (STACK4, STACK6):
            await inside(namespace, f"""
import subprocess
subprocess.run(["ping", "-c1", "-W5", "-s", "56", "{address}"], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["ping", "-c1", "-W5", "-s", "4000", "{address}"], check=True, stdout=subprocess.DEVNULL)
""")


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.transport.sendto(data, addr)


@pytest.mark.net
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
@pytest.mark.parametrize(("host", "kernel", "family"), [(STACK4, KERNEL4, "AF_INET"), (STACK6, KERNEL6, "AF_INET6")])
async def test_udp_of_all_sizes(namespace: str, offload: bool, host: str, kernel: str, family: str) -> None:
    async with Stack(plugged(namespace, offload=offload), [f"{STACK4}/30", f"{STACK6}/64"]) as stack:
        await stack.create_datagram_endpoint(Echo, (host, 7))
        answer = await inside(namespace, f"""
import errno, os, socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(("{host}", 7))
for size in (0, 1, 1400, 1473, 9000, 65000):
    data = os.urandom(size)
    s.send(data)
    assert s.recv(70000) == data, size
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(("{host}", 9))
s.send(b"nobody")
try:
    s.recv(1)
except OSError as error:
    print(errno.errorcode[error.errno])
""")
        assert answer == "ECONNREFUSED"
        # The other way round: the kernel has no listener and says so.
        refused = asyncio.get_running_loop().create_future()

        class Client(asyncio.DatagramProtocol):
            def error_received(self, exc: Exception) -> None:
                refused.set_result(exc)

        transport, _ = await stack.create_datagram_endpoint(Client, None, (kernel, 9))
        transport.sendto(b"nobody")
        assert isinstance(await asyncio.wait_for(refused, 5), ConnectionRefusedError)


@pytest.mark.net
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "plain"])
@pytest.mark.parametrize(("host", "family"), [(STACK4, "AF_INET"), (STACK6, "AF_INET6")])
async def test_tcp_megabytes_there_and_back(namespace: str, offload: bool, host: str, family: str) -> None:
    await megabytes_there_and_back(namespace, offload, host, family)


@pytest.mark.net
def test_tcp_megabytes_on_uvloop(namespace: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(megabytes_there_and_back(namespace, True, STACK4, "AF_INET"))


async def megabytes_there_and_back(namespace: str, offload: bool, host: str, family: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with Stack(plugged(namespace, offload=offload), [f"{STACK4}/30", f"{STACK6}/64"]) as stack:
        await stack.start_server(echo, host, 7)
        assert await inside(namespace, f"""
import hashlib, os, socket, threading
s = socket.create_connection(("{host}", 7), 10)
data = os.urandom(4 << 20)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = bytearray()
while piece := s.recv(1 << 16):
    got += piece
print(bytes(got) == data)
""") == "True"
        link = stack.link
        assert isinstance(link, TunLink)
        assert link.dropped == link.resegmented == 0


@pytest.mark.net
async def test_a_super_segment_the_kernel_refuses_is_cut(namespace: str) -> None:
    link = plugged(namespace)
    link.start(RecordingUser())
    good = super_segment(4, bytes(5000), 1448)
    link.send(good[:50], good[50:])
    assert (link.resegmented, link.dropped) == (0, 0)
    # A checksum field that lies beyond the packet is what newer kernels refuse; the rest of it is in order.
    bad = VNET.pack(F_NEEDS_CSUM, GSO_TCPV4, 0, 1448, 20, 60_000) + good[VNET_LEN:]
    link.send(bad)
    assert (link.resegmented, link.dropped) == (1, 0)
    link.send(NO_OFFLOAD + b"\x10 no packet at all")
    assert link.dropped == 1
    link.close()


@pytest.mark.net
async def test_the_kernel_takes_super_segments_with_cwr_whole(namespace: str) -> None:
    """VIRTIO_NET_HDR_GSO_ECN: the first of their segments alone bears it (RFC 3168, section 6.1.2)."""
    link = plugged(namespace)
    link.start(RecordingUser())
    for version in (4, 6):
        whole = super_segment(version, bytes(5000), 1448, flags="AC")
        link.send(whole[:50], whole[50:])
    assert (link.resegmented, link.dropped) == (0, 0)
    link.close()


@pytest.mark.net
async def test_a_device_taken_away_is_a_lost_link(namespace: str) -> None:
    link = plugged(namespace)
    user = RecordingUser()
    link.start(user)
    run("ip", "-n", namespace, "link", "del", link.name)
    async with asyncio.timeout(5):
        while not user.lost:
            await asyncio.sleep(0.01)
    (error,) = user.lost
    assert isinstance(error, LinkError)
    assert link.name in str(error)


@pytest.mark.net
async def test_a_device_that_is_down_drops(namespace: str) -> None:
    link = plugged(namespace)
    link.start(RecordingUser())
    run("ip", "-n", namespace, "link", "set", link.name, "down")
    link.send(NO_OFFLOAD + raw(IP(src=STACK4, dst=KERNEL4) / UDP()))
    assert link.dropped == 1
    link.close()


@pytest.mark.net
async def test_a_name_already_taken_or_too_long_is_a_link_error() -> None:
    link = open_tun(f"nb{secrets.token_hex(4)}")
    with pytest.raises(LinkError, match=link.name):
        open_tun(link.name)
    with pytest.raises(LinkError):
        open_tun("lo")
    link.close()
    link.close()


class Pipe:
    """A datagram socket pair in place of a device, for what needs no kernel on the other side."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.setblocking(False)
        self.link = TunLink(ours.detach(), name="pipe")

    def close(self) -> None:
        self.link.close()
        self.theirs.close()


async def test_bursts_read_into_one_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "BURST", 40 * (tun.PACKET_COST + VNET_LEN + 28))
    pipe, user = Pipe(), RecordingUser()
    packets = [NO_OFFLOAD + raw(IP(src=STACK4, dst=KERNEL4, id=index) / UDP()) for index in range(50)]
    for packet in packets:
        pipe.theirs.send(packet)
    pipe.link.start(user)
    await asyncio.sleep(0.05)
    assert user.packets == packets
    assert user.bursts == 2
    pipe.close()
    await asyncio.sleep(0)
    assert user.lost == [None]


async def test_a_full_device_drops_and_says_when_it_has_room() -> None:
    pipe, user = Pipe(), RecordingUser()
    pipe.link.start(user)
    sent = 0
    while pipe.link.ready:
        pipe.link.send(NO_OFFLOAD, bytes(30_000))
        sent += 1
    assert pipe.link.dropped == 1
    assert user.readies == 0
    for _ in range(sent - 1):
        pipe.theirs.recv(65536)
    await asyncio.sleep(0.05)
    assert pipe.link.ready
    assert user.readies == 1
    pipe.close()
    await asyncio.sleep(0)


async def test_an_end_in_place_of_a_packet_is_a_lost_link() -> None:
    pipe, user = Pipe(), RecordingUser()
    pipe.link.start(user)
    pipe.theirs.close()
    await asyncio.sleep(0.05)
    (error,) = user.lost
    assert isinstance(error, LinkError)
    assert "closed" in str(error)


async def test_closing_from_inside_a_delivery() -> None:
    pipe = Pipe()

    class Closer(RecordingUser):
        def packet_received(self, packet: memoryview) -> None:
            super().packet_received(packet)
            pipe.link.close()

    user = Closer()
    pipe.theirs.send(NO_OFFLOAD + bytes(20))
    pipe.theirs.send(NO_OFFLOAD + bytes(20))
    pipe.link.start(user)
    await asyncio.sleep(0.05)
    assert len(user.packets) == 1
    assert user.lost == [None]
    pipe.close()


async def test_without_offload_super_segments_are_cut() -> None:
    pipe = Pipe()
    pipe.link.offload = False
    pipe.link.start(RecordingUser())
    pipe.link.send(super_segment(6, bytes(3000), 1428))
    pieces = [pipe.theirs.recv(65536) for _ in range(3)]
    assert [len(dissect(piece[VNET_LEN:]).payload.payload) for piece in pieces] == [1428, 1428, 144]
    pipe.link.send(VNET.pack(1, GSO_TCPV4, 0, 1, 0, 0) + bytes(40))
    assert pipe.link.dropped == 1
    pipe.close()
    await asyncio.sleep(0)
