"""A packet capture by itself, in a network namespace: a host with eth0, a default route, and a silent gateway."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from netbridge.bridge.agent import packet as module
from netbridge.bridge.agent.netlink import Netlink, Network
from netbridge.bridge.agent.packet import PacketCapture
from netbridge.bridge.agent.packetinject import summed
from netbridge.bridge.agent.packetring import BLOCKS, FRAMES_PER_BLOCK
from netbridge.bridge.agent.routes import Plan, plan
from netbridge.bridge.agent.tun import TunError

pytestmark = pytest.mark.net

HOST = """
ip link set lo up
ip link add eth0 type veth peer name far
ip link add docker0 type bridge
ip addr add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip addr add 172.30.7.2/24 dev eth0
ip addr add fd30:7::2/64 dev eth0 nodad
ip link set far up
ip link set eth0 up
"""
ROUTES = """
ip route add default via 172.30.7.1
ip route add 10.50.0.0/16 via 172.30.7.9
ip route add ::/0 via fd30:7::1
ip neigh add 172.30.7.1 lladdr 02:00:00:00:00:01 dev eth0
ip neigh add 172.30.7.9 lladdr 02:00:00:00:00:01 dev eth0
ip neigh add fd30:7::1 lladdr 02:00:00:00:00:01 dev eth0
"""
ROOM = memoryview(bytearray(1 << 17))


def sh(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True)


def networks(*texts: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


@contextlib.contextmanager
def capture(*captured: str, always: tuple[str, ...] = ()) -> Iterator[PacketCapture]:
    """An open capture in the thread's namespace, which becomes the host above first."""
    sh(HOST + ROUTES)
    with opening(*always) as opened:
        opened.apply(Plan(networks(*captured), []))
        yield opened


@contextlib.contextmanager
def opening(*always: str) -> Iterator[PacketCapture]:
    """A capture in the thread's namespace as it is."""
    with contextlib.closing(Netlink()) as netlink:
        with contextlib.closing(PacketCapture(netlink, networks(*always))) as opened:
            yield opened


def packets(opened: PacketCapture, patience: float = 0.3) -> list[bytes]:
    """What was captured, without the kernel's own (router solicitations and the like are not addressed there)."""
    found = []
    waiting = select.poll()
    waiting.register(opened.fileno(), select.POLLIN)
    while waiting.poll(patience * 1000):
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(bytes(ROOM[: opened.read(-1, [ROOM])]))
    return found


def say(text: bytes, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(text, (host, 9))


@pytest.fixture(params=["ring", "queue"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both places where packets wait."""
    def no_ring(*_arguments: object) -> None:
        raise OSError(errno.ENOMEM, "no ring")

    if request.param == "queue":
        monkeypatch.setattr(module, "Ring", no_ring)
    return str(request.param)


def test_what_leaves_for_captured_networks(in_network: Callable[..., Any], waiting: str) -> None:
    def told() -> list[bytes]:
        with capture("10.20.0.0/16", "fd09::/16", always=("198.18.0.1/32",)) as opened:
            for host in ("10.20.1.1", "10.21.0.1", "198.18.0.1", "198.18.0.2", "fd09::1", "fd0a::1", "172.30.7.2"):
                say(host.encode(), host)
            return packets(opened)

    found = in_network(told)
    assert [packet[10] >> 4 for packet in found] == [4, 4, 6]
    for packet, host in zip(found, (b"10.20.1.1", b"198.18.0.1", b"fd09::1"), strict=True):
        header = 20 if packet[10] >> 4 == 4 else 40
        assert packet[10 + header + 8 :] == host
        flags, _gso, _header, _size, start, offset = struct.unpack_from("=BBHHHH", packet)
        assert (flags, start, offset) in {(1, header, 6), (0, 0, 0)}


def test_a_super_segment_is_whole(in_network: Callable[..., Any], waiting: str) -> None:
    """TCP's first flight after a handshake in which the test is the other end."""
    def first_flight(opened: PacketCapture) -> list[bytes]:
        with socket.socket() as client:
            client.setblocking(False)
            client.connect_ex(("10.20.0.5", 80))
            syn = packets(opened, 0)[0]  # at once: a slow path is not sent super-segments (tcp_tso_rtt_log)
            port, sequence = struct.unpack_from("!HxxI", syn, 30)
            acknowledge(opened, syn[22:26], port, sequence + 1)
            select.select([], [client], [], 2)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            client.send(bytes(20000))
            return packets(opened)

    def told() -> bytes:
        with capture("10.20.0.0/16") as opened:
            # On a busy machine the path is slow for a moment: then another connection shows it.
            return max((max(first_flight(opened), key=len) for _ in range(5)), key=len)

    longest = in_network(told)
    flags, gso, _header, size, start, offset = struct.unpack_from("=BBHHHH", longest)
    assert len(longest) > 5 * 1448
    assert (flags, gso, size, start, offset) == (1, 1, 1448, 20, 16)


@pytest.mark.parametrize("host", ["10.20.0.5", "fd09::5"])
def test_a_train_of_datagrams_is_cut(in_network: Callable[..., Any], waiting: str, host: str) -> None:
    def told() -> list[bytes]:
        with capture("10.20.0.0/16", "fd09::/16") as opened:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
                sender.sendto(bytes(index // 1000 for index in range(5300)), (host, 9))
            return packets(opened)

    found = in_network(told)
    assert len(found) == 6
    for number, packet in enumerate(found):
        _flags, gso, _header, _size, start, _offset = struct.unpack_from("=BBHHHH", packet)
        parsed = (IP if "." in host else IPv6)(packet[10:])
        assert (gso, start) == (0, 20 if "." in host else 40)
        assert bytes(parsed[UDP].payload) == bytes([number]) * (1000 if number < 5 else 300)
        assert parsed[UDP].len == len(packet) - 10 - start
        whole = bytearray(packet[10:])
        summed(whole, start, 6)
        again = (IP if "." in host else IPv6)(bytes(parsed))
        for layer in again, again[UDP]:  # both sums as an independent program makes them
            if layer.fields.get("chksum") is not None:
                del layer.chksum
        assert bytes(whole) == bytes(again)


def acknowledge(opened: PacketCapture, client: bytes, port: int, number: int) -> None:
    """Inject the SYN-ACK that opens the connection wide."""
    options = struct.pack("!BBHBBBBIIBBBB", 2, 4, 1460, 4, 2, 8, 10, 1, 0, 1, 3, 3, 7)  # MSS, SACK, times, scale
    server = socket.inet_aton("10.20.0.5")
    length = 20 + len(options)
    partial = int.from_bytes(server + client + struct.pack("!BBH", 0, 6, length), "big") % 0xFFFF
    tcp = struct.pack("!HHIIBBHHH", 80, port, 1000, number, length // 4 << 4, 0x12, 65535, partial, 0) + options
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 6, 0) + server + client)
    ip[10:12] = (0xFFFF - int.from_bytes(ip, "big") % 0xFFFF).to_bytes(2, "big")
    opened.write(-1, memoryview(struct.pack("=BBHHHH", 1, 0, 0, 0, 20, 16) + bytes(ip) + tcp))


def datagram(source: str, destination: str) -> memoryview:
    """A complete UDP packet without a checksum (IPv4), or with one left to be finished (IPv6), behind its header."""
    a, b = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    udp = struct.pack("!HHHH", 53, 5000, 11, 0) + b"abc"
    if len(a) == 4:
        ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 31, 0, 0, 64, 17, 0) + a + b)
        ip[10:12] = (0xFFFF - int.from_bytes(ip, "big") % 0xFFFF).to_bytes(2, "big")
        return memoryview(bytes(10) + bytes(ip) + udp)
    partial = int.from_bytes(a + b + struct.pack("!II", 11, 17), "big") % 0xFFFF
    udp = struct.pack("!HHHH", 53, 5000, 11, partial) + b"abc"
    ip6 = struct.pack("!IHBB", 6 << 28, 11, 17, 64) + a + b
    return memoryview(struct.pack("=BBHHHH", 1, 0, 0, 0, 40, 6) + ip6 + udp)


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize(("source", "destination"), [("10.20.0.5", "172.30.7.2"), ("fd09::5", "fd30:7::2")])
def test_injected_packets_come_in(
    in_network: Callable[..., Any], rp_filter: int, source: str, destination: str
) -> None:
    def told() -> tuple[bytes, str]:
        sh(f"echo {rp_filter} > /proc/sys/net/ipv4/conf/all/rp_filter")
        with capture("10.20.0.0/16") as opened:
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as taking:
                taking.bind(("", 5000))
                taking.settimeout(2)
                opened.write(-1, datagram(source, destination))
                data, address = taking.recvfrom(100)
                return data, address[0]

    assert in_network(told) == (b"abc", source)


@pytest.mark.parametrize(("source", "destination"), [
    ("10.20.0.5", "172.30.7.3"),  # another host's: it would go out, or be forwarded
    ("172.30.7.2", "172.30.7.2"),  # in the name of this host
    ("172.17.0.1", "172.30.7.2"),
    ("127.0.0.1", "172.30.7.2"),
    ("::1", "fd30:7::2"),
    ("fd30:7::2", "fd30:7::2"),
    ("fd09::5", "ff02::1"),
])  # fmt: skip
def test_what_is_not_injected(in_network: Callable[..., Any], source: str, destination: str) -> None:
    def told() -> None:
        with capture("10.20.0.0/16") as opened:
            with pytest.raises(OSError, match="no packet for this host"):
                opened.write(-1, datagram(source, destination))
            for short in (b"", bytes(10), bytes(10) + b"\x45" + bytes(18), bytes(10) + b"\x60" + bytes(30)):
                with pytest.raises(OSError, match="no packet for this host"):
                    opened.write(-1, memoryview(short))

    in_network(told)


def test_longer_routes_keep_theirs(in_network: Callable[..., Any]) -> None:
    """As with a TUN, where the kernel takes the longest prefix."""
    def told() -> Any:
        with capture() as opened:
            wanted = ["10.50.0.0/15", "10.50.0.0/16", "10.50.3.0/24", "172.16.0.0/12", "10.20.0.0/16"]
            return opened.apply(plan(wanted[:1], [], [], [])), opened.apply(plan(wanted[1:], [], [], []))

    (first, nothing), (second, skipped) = in_network(told)
    assert (first, nothing) == (["10.51.0.0/16"], [])
    assert "10.20.0.0/16" in second
    assert {item["route"] for item in skipped} == {"10.50.0.0/16"}  # the other is inside it
    covered = [ipaddress.ip_network(text) for text in second]
    assert not any(it.overlaps(ipaddress.ip_network("172.17.0.0/16")) for it in covered if it.version == 4)
    assert any(ipaddress.ip_address("172.18.0.1") in it for it in covered)


def test_single_hosts_are_told_one_by_one(in_network: Callable[..., Any]) -> None:
    """Hosts side by side are no network: who asked for them looks for each in the answer."""
    def told() -> Any:
        with capture() as opened:
            return opened.apply(Plan(networks(
                "10.20.0.0/16", "10.51.0.4/32", "10.51.0.5/32", "172.30.7.4/32", "172.30.7.5/32", "10.20.0.9/32",
            ), []))

    installed, skipped = in_network(told)
    assert {"10.20.0.0/16", "10.51.0.4/32", "10.51.0.5/32", "10.20.0.9/32"} == set(installed)
    assert [item["route"] for item in skipped] == ["172.30.7.4/32", "172.30.7.5/32"]
    assert {item["reason"] for item in skipped} == {"the target has a route to it"}


def test_public_networks_only_when_named(in_network: Callable[..., Any]) -> None:
    """With --all, say: everything is asked for, and what nobody answers for out there is captured."""
    def told() -> Any:
        sh(HOST + ROUTES)
        with contextlib.closing(Netlink()) as netlink:
            with contextlib.closing(PacketCapture(netlink, [], networks("93.184.216.0/24"))) as opened:
                everything = opened.apply(plan(["0.0.0.0/0"], [], [], [], ["93.184.216.0/24"]))
                return everything, opened.apply(plan(["20.0.0.0/8", "9.0.0.0/8"], [], [], []))

    (installed, skipped), (nothing, both) = in_network(told)
    covered = [ipaddress.ip_network(text) for text in installed]

    def is_captured(text: str) -> bool:
        return any(ipaddress.ip_address(text) in it for it in covered)

    assert all(map(is_captured, ("10.0.0.1", "192.168.1.1", "100.64.0.1", "93.184.216.34")))
    assert not any(map(is_captured, ("8.8.8.8", "93.184.217.1", "172.17.0.2", "10.50.0.1")))
    assert "only a TUN captures public addresses" in skipped[-1]["reason"]
    assert nothing == []
    assert "and 1 more like it" in both[-1]["reason"]
    assert len(both) == 1


def test_too_many_networks_are_told(in_network: Callable[..., Any]) -> None:
    def told() -> Any:
        with capture() as opened:
            return opened.apply(Plan(networks(*(f"10.{i // 128}.{i % 128 * 2}.0/24" for i in range(1100))), []))

    installed, skipped = in_network(told)
    assert len(installed) + len(skipped) == 1100
    assert 1000 < len(installed) < 1100
    assert "more networks" in skipped[0]["reason"]


def test_an_interface_that_goes_down_and_comes_up(in_network: Callable[..., Any], waiting: str) -> None:
    def told() -> list[bytes]:
        with capture("10.20.0.0/16") as opened:
            sh("ip link set eth0 down")
            assert packets(opened, 0.05) == []
            sh("ip link set eth0 up; ip route add default via 172.30.7.1")
            sh("ip neigh replace 172.30.7.1 lladdr 02:00:00:00:00:01 dev eth0")
            say(b"again", "10.20.0.1")
            return packets(opened)

    assert in_network(told)[-1].endswith(b"again")


def test_an_interface_that_vanishes(in_network: Callable[..., Any], waiting: str) -> None:
    def told() -> None:
        with capture("10.20.0.0/16") as opened:
            sh("ip link del eth0")
            with pytest.raises(OSError, match="down"):
                opened.read(-1, [ROOM])

    in_network(told)


def test_a_full_ring_loses_and_goes_on(in_network: Callable[..., Any]) -> None:
    frames = BLOCKS[0] * FRAMES_PER_BLOCK

    def told() -> tuple[list[bytes], list[bytes]]:
        with capture("10.20.0.0/16") as opened:
            for number in range(frames + 100):
                say(b"%d" % number, "10.20.0.1")
            first = packets(opened)
            for number in range(frames):
                say(b"%d" % number, "10.20.0.1")
            return first, packets(opened)

    first, second = in_network(told)
    wanted = [b"%d" % number for number in range(frames)]
    assert [packet[38:] for packet in first] == wanted
    assert [packet[38:] for packet in second] == wanted


@pytest.mark.parametrize(("script", "code", "why"), [
    ("", "no_packet", "no default route"), (ROUTES, "packets_held", "only one"),
])  # fmt: skip
def test_where_it_cannot_be(in_network: Callable[..., Any], script: str, code: str, why: str) -> None:
    def told() -> TunError:
        sh(HOST + script)
        with contextlib.ExitStack() as exits:
            if script:
                exits.enter_context(opening())
            with pytest.raises(TunError) as caught:
                exits.enter_context(opening())
            return caught.value

    error = in_network(told)
    assert error.code == code
    assert why in error.detail


def test_sources_and_closing(in_network: Callable[..., Any]) -> None:
    def told() -> list[str]:
        with capture() as opened:
            first = opened.sources()
        with opening():  # the place is free
            return first

    begun = time.monotonic()
    assert in_network(told) == ["172.30.7.0/24", "fd30:7::/64"]
    assert time.monotonic() - begun < 5
