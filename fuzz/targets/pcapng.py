"""Whatever packet is captured, the file is read to its end: lengths agree, the packet is whole; and filters decide."""

from __future__ import annotations

import struct

from fuzz.prefixes import prefixes
from netbridge.bridge.capturefilter import parse_filter
from netbridge.stack.link import pcapng
from netbridge.stack.vnet import VNET_LEN

FILTERS = [
    found for text in ("tcp host 10.0.0.0/8 port 1,443", "host fd6e:6272::/32", "udp port 53", "icmp")
    if (found := parse_filter(text)) is not None
]


def _blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each block; what a reader does."""
    found, at = [], 0
    while at < len(data):
        kind, total = struct.unpack_from("<II", data, at)
        assert total >= 12
        assert total % 4 == 0
        assert struct.unpack_from("<I", data, at + total - 4) == (total,)
        found.append((kind, data[at + 8 : at + total - 4]))
        at += total
    assert at == len(data)
    return found


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while True:
        code, length = struct.unpack_from("<HH", data, at)
        if not code:
            assert at + 4 == len(data)
            return found
        found[code] = data[at + 4 : at + 4 + length]
        at += 4 + length + (-length & 3)


def run(data: bytes) -> object:
    """The first byte says where header and rest are cut, the next eight the time; then virtio_net_hdr and packet."""
    if len(data) < 9 + VNET_LEN:
        return "too short"
    for takes in FILTERS:
        assert takes(data[9:]) in {True, False}
        for prefix in prefixes(data[9 + VNET_LEN :]):
            takes(bytes(VNET_LEN) + prefix)
    now, packet = int.from_bytes(data[1:9], "big"), data[9:]
    cut = VNET_LEN + data[0] % (len(packet) - VNET_LEN + 1)
    name = packet[VNET_LEN:][:300].decode("latin-1")
    direction = (pcapng.INBOUND, pcapng.OUTBOUND)[data[0] & 1]
    file = pcapng.section("netbridge", name, "a link")
    file += b"".join(bytes(piece) for piece in pcapng.packet(now, direction, packet[:cut], packet[cut:]))
    file += pcapng.dropped(now, data[0])
    (section, _), (interface, about), (kind, body), (statistics, lost) = _blocks(file)
    assert (section, interface, kind, statistics) == (0x0A0D0D0A, 1, 6, 5)
    assert _options(about[8:])[2] == name.encode()[:1000]
    assert _options(lost[12:])[5] == struct.pack("<Q", data[0])
    _, high, low, held, length = struct.unpack_from("<IIIII", body)
    assert high << 32 | low == now
    assert held == length == len(packet) - VNET_LEN
    assert body[20 : 20 + held] == packet[VNET_LEN:]
    options = _options(body[20 + held + (-held & 3) :])
    assert struct.unpack("<I", options[2])[0] & 3 == direction
    told = options.get(1, b"").decode()
    return told.split(":")[0][:20], held & 3
