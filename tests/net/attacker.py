"""Root in the codespace who means harm: raw packets on the bridge's TUN, and TCP connections made by hand.

An attack happens inside `Scene.survived`, with an honest connection beside it whose bytes are compared. Afterwards the
bridge must live, take new connections, have said nothing like a traceback, use no more memory than a bounded attack may
cost, and have counted what it dropped.

Connections made by hand come from an IPv6 address of the TUN's prefix that the kernel over there does not know, so that
it neither answers nor resets them.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tests.hostile.raw import BAD, PACKET_OUTGOING, PACKET_VNET_HDR, SOL_PACKET, VNET_HDR, checksum
from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT

from .conftest import TARGET, Bridges
from .watch import drain, resident

Condition = Callable[[Packet], bool]


class Wire:
    """A raw socket on the TUN: everything the bridge sends is heard, everything sent reaches the bridge as it is."""

    def __init__(self, world: World, tun: str) -> None:
        self._tun = tun
        self._socket = world.codespace.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.bind((tun, 0x0003))  # ETH_P_ALL
        self.gso_size = 0
        """Of the packet heard last: its segments' payload; 0 for an ordinary packet."""

    def close(self) -> None:
        self._socket.close()

    def send(self, *packets: Packet | bytes) -> None:
        """Send, as fast as the kernel takes them; the device drops what its queue does not hold."""
        for packet in packets:
            data = bytes(packet)
            protocol = 0x86DD if data and data[0] >> 4 == 6 else 0x0800
            while True:
                try:
                    self._socket.sendto(bytes(VNET_HDR.size) + data, (self._tun, protocol))
                    break
                except (BlockingIOError, TimeoutError):
                    time.sleep(0.001)
                except OSError as error:
                    if error.errno != 105:  # ENOBUFS: the device's queue is full
                        raise
                    time.sleep(0.001)

    def hear(self, wanted: Condition, timeout: float = 3.0, *, to: str = "") -> Packet | None:
        """The next packet from the bridge that is `wanted`, or None. `to`: only look at those to this address."""
        packed = socket.inet_pton(socket.AF_INET6 if ":" in to else socket.AF_INET, to) if to else b""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data, (_, _, kind, *_) = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                return None
            if kind == PACKET_OUTGOING:
                continue
            self.gso_size = VNET_HDR.unpack_from(data)[3]
            data = data[VNET_HDR.size :]
            version = data[0] >> 4
            if packed and (data[24:40] if version == 6 else data[16:20]) != packed:
                continue
            packet = (IPv6 if version == 6 else IP)(data)
            if wanted(packet):
                return packet
        return None

    def deafen(self) -> None:
        """Forget what was not heard yet."""
        self._socket.settimeout(0)
        try:
            while True:
                self._socket.recv(64)
        except BlockingIOError:
            pass


class Conversation:
    """A TCP connection made by hand, by IPv6. Positions count from 0, the first byte of data; so do the peer's."""

    ISN = 7_000_000

    def __init__(self, scene: Scene, port: int, options: list[tuple[str, object]] | bytes = b"", **syn: int) -> None:
        self.wire = scene.wire
        self.source, self.port = scene.stranger(), 20_000 + int.from_bytes(os.urandom(2), "big") // 4
        self.head = IPv6(src=self.source, dst=CORP[6]) / TCP(sport=self.port, dport=port)
        opening = self.head.copy()
        opening[TCP].flags, opening[TCP].seq = "S", self.ISN - 1
        for field, value in {"window": 65535, **syn}.items():
            setattr(opening[TCP], field, value)
        if isinstance(options, bytes):
            self.wire.send(self.with_options(opening, options))
        else:
            opening[TCP].options = options
            self.wire.send(opening)
        answer = self.wire.hear(lambda packet: self.mine(packet) and bool(packet[TCP].flags.S), to=self.source)
        assert answer is not None, "no SYN-ACK"
        assert answer[TCP].ack == self.ISN
        self.irs = answer[TCP].seq + 1
        self.answer = answer
        self.received = 0
        self.smallest = 1 << 16
        """Payload of the smallest full segment heard."""
        self.send(b"", 0)

    @staticmethod
    def with_options(packet: Packet, options: bytes) -> bytes:
        """`packet` with raw option bytes, scapy's own being well-formed."""
        packet[TCP].dataofs = 5 + len(options) // 4
        plain = IPv6(bytes(packet))
        head = packet[IPv6].copy()
        segment = bytes(plain)[40:60] + options
        head.remove_payload()
        head.plen, head.nh = len(segment), 6
        rebuilt = bytearray(bytes(head) + segment)
        rebuilt[56:58] = b"\0\0"
        rebuilt[56:58] = checksum(bytes(rebuilt[8:40]) + struct.pack("!II", len(segment), 6) + bytes(rebuilt[40:]))
        return bytes(rebuilt)

    def mine(self, packet: Packet) -> bool:
        return TCP in packet and packet[TCP].dport == self.port

    def segment(self, data: bytes, at: int, flags: str = "PA", **fields: object) -> Packet:
        """A segment whose data stand at `at`."""
        made = self.head / data
        made[TCP].flags, made[TCP].seq, made[TCP].ack = flags, self.ISN + at, self.irs + self.received
        for field, value in {"window": 65535, **fields}.items():
            setattr(made[TCP], field, value)
        return made

    def send(self, data: bytes, at: int, flags: str = "PA", **fields: object) -> None:
        self.wire.send(self.segment(data, at, flags, **fields))

    def receive(self, size: int, *, sent: int, timeout: float = 10.0) -> bytes:
        """The peer's next `size` bytes, each segment acknowledged. `sent`: bytes of ours that are acknowledged."""
        data = b""
        deadline = time.monotonic() + timeout
        while len(data) < size and time.monotonic() < deadline:
            packet = self.wire.hear(self.mine, 0.5, to=self.source)
            if packet is None:
                continue
            assert not packet[TCP].flags.R, "reset"
            payload = bytes(packet[TCP].payload)
            if payload and packet[TCP].seq == self.irs + self.received:
                data += payload
                self.received += len(payload)
                if self.wire.gso_size or len(data) < size:  # the last one may be as short as what is left
                    self.smallest = min(self.smallest, self.wire.gso_size or len(payload))
                self.send(b"", sent, "A")
        return data

    def abort(self, at: int) -> None:
        self.send(b"", at, "RA")


class Scene:
    """One bridge, the attacker's wire, and corp behind them."""

    def __init__(self, world: World, bridge: Bridge) -> None:
        self.world = world
        self.bridge = bridge
        connected = bridge.event("connected")
        assert connected is not None
        self.tun: str = connected["tun"]
        self.own = {6 if ":" in it else 4: it.partition("/")[0] for it in connected["addresses"]}
        """The codespace's addresses on the TUN."""
        self.gateway = {6 if ":" in it else 4: it for it in bridge.status()["network"]["gateways"]}
        self.wire = Wire(world, self.tun)
        self._prefix = socket.inet_pton(socket.AF_INET6, self.own[6])[:8]
        self.counters = bridge.status()["counters"]

    def stranger(self) -> str:
        """A fresh IPv6 address of the TUN's prefix."""
        return socket.inet_ntop(socket.AF_INET6, self.stranger_packed())

    def stranger_packed(self) -> bytes:
        return self._prefix + BAD + os.urandom(6)

    @contextmanager
    def survived(self, *moved: str, growth: float = 25.0) -> Iterator[None]:
        """An attack: what is inside. `moved` counters ("ip.malformed") have grown after it; `growth` in MB may be."""
        before, known = resident(self.bridge), self.counters
        self.wire.deafen()
        with honest(self.world):
            yield
        assert self.bridge.program.running, self.bridge.said
        for version in (4, 6):
            begun = time.monotonic()
            self.world.codespace.connect(CORP[version], HTTP_PORT).close()
            assert time.monotonic() - begun < 2
        assert "Traceback" not in self.bridge.said, self.bridge.said
        grown = resident(self.bridge) - before
        assert grown < growth, f"{grown:.1f} MB more"
        self.counters = self.bridge.status()["counters"]
        for name in moved:
            room, _, which = name.partition(".")
            assert self.counters[room][which] > known[room][which], f"{name} did not move: {self.counters[room]}"


@contextmanager
def scene(bridges: Bridges, world: World, *options: str) -> Iterator[Scene]:
    """A bridge to be attacked, warmed up so that memory measures the attack."""
    bridges.stop()
    bridge = Bridge(world.laptop, TARGET, "--ssh", "openssh", *options)
    made = None
    try:
        bridge.ready()
        with honest(world):
            time.sleep(0.2)
        made = Scene(world, bridge)
        yield made
    finally:
        if made is not None:
            made.wire.close()
        bridge.close()


@contextmanager
def honest(world: World) -> Iterator[None]:
    """A connection that sends and compares what comes back, all the time and at least three times."""
    with world.corp.listen(CORP[4]) as listener:
        client = world.codespace.connect(CORP[4], listener.getsockname()[1])
        server, _peer = listener.accept()
    over = threading.Event()
    faults: list[str] = []

    def echo() -> None:
        try:
            while data := server.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError as error:
            faults.append(f"server: {error}")

    def compare() -> None:
        rounds = 0
        try:
            while not over.is_set() or rounds < 3:
                block = os.urandom(20_000)
                client.sendall(block)
                got = b""
                while len(got) < len(block) and (data := client.recv(1 << 16)):
                    got += data
                if got != block:
                    faults.append(f"round {rounds}: {len(got)} bytes, and not those sent")
                    return
                rounds += 1
                time.sleep(0.002)
            client.shutdown(socket.SHUT_WR)
            if drain(client):
                faults.append("more came than was sent")
        except OSError as error:
            faults.append(f"client, round {rounds}: {error}")

    with client, server:
        client.settimeout(10)
        server.settimeout(10)
        threads = [threading.Thread(target=target) for target in (echo, compare)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(15)
    assert not faults, f"the honest connection suffered: {faults}"
