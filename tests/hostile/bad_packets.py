"""Packets and connections that try to get where the policy does not let them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from .kinds import kind
from .wire import PACKET, Wire, frame_header, ipv4, tcp, udp

SYN, ACK = 2, 16
LOOPBACKS = ("127.0.0.1", "127.1.2.3", "0.0.0.0", "198.18.0.4", "169.254.169.254", "224.0.0.1", "255.255.255.255")


@kind("beyond-the-policy", "sends packets to this machine's loopback by every way there is")
def beyond_the_policy(wire: Wire) -> None:
    wire.start()
    mine, gateway = wire.addresses
    port = wire.canary
    number = 2000
    for text in (*LOOPBACKS, str(ip_address(gateway))):
        there = ip_address(text).packed
        for source in (mine, there, ip_address("127.0.0.1").packed, gateway):
            number += 1
            wire.packet(ipv4(source, there, 6, tcp(number, port, SYN)))
            wire.packet(ipv4(source, there, 6, tcp(number, port, ACK, 2, 1, b"hello")))
            wire.packet(ipv4(source, there, 17, udp(number, port, b"hello")))
    mapped = bytes(10) + b"\xff\xff" + ip_address("127.0.0.1").packed
    for six in (bytes(15) + b"\x01", mapped, bytes(12) + bytes([127, 0, 0, 1]), bytes(16)):
        source = ip_address(wire.setup["addresses"][1].partition("/")[0]).packed
        for protocol, body in ((6, tcp(number, port, SYN)), (17, udp(number, port, b"hello"))):
            wire.packet(struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source + six + body)
    # as a name would have it, and by a redirect that nobody may give
    wire.packet(ipv4(mine, gateway, 1, b"\x05\x01\x00\x00" + ip_address("127.0.0.1").packed + bytes(28)))
    wire.alive()


@kind("way-back-unasked", "connects to the way back with wrong secrets, wrong numbers and none")
def way_back_unasked(wire: Wire) -> None:
    wire.start()
    mine, gateway = wire.addresses
    secret = wire.setup["back"]["secret"]
    lines = (
        b'{"secret": "wrong", "for": 1}\n', b'{"secret": "%s", "for": 1}\n' % secret.encode(),
        b'{"secret": "%s", "for": "agent"}\n' % secret.encode(), b'{"secret": "%s", "for": -1}\n' % secret.encode(),
        b'{"secret": null}\n', b"[" * 4000, b"\x00" * 100 + b"\n", b"x" * 60000, b'{"secret": "\\ud800", "for": 1}\n',
    )  # fmt: skip
    for number, line in enumerate(lines):
        port, first = 3000 + number, 1000
        syn = bytes(10) + ipv4(mine, gateway, 6, tcp(port, wire.setup["back"]["port"], SYN, first))
        answer = wire.next_packet(frame_header(PACKET, len(syn)) + syn)
        sequence = int.from_bytes(answer[10 + 20 + 4 : 10 + 20 + 8], "big") + 1
        for place in range(0, len(line), 1400):
            data = line[place : place + 1400]
            segment = tcp(port, wire.setup["back"]["port"], ACK, first + 1 + place, sequence, data)
            wire.packet(ipv4(mine, gateway, 6, segment))
        wire.serve(0.05)
    wire.alive()


@kind("offload-lies", "sends packets whose virtio headers lie about segments and checksums")
def offload_lies(wire: Wire) -> None:
    wire.start()
    mine, gateway = wire.addresses
    packet = ipv4(mine, gateway, 17, udp(5, 53, b"x" * 40))
    for _ in range(3000):
        wire.frame(PACKET, wire.random.randbytes(10) + packet)
    wire.alive()
