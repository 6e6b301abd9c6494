"""Capture files as the real tshark reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP

from netbridge.stack.link import MemoryLink, Tap, memory_link, pcapng
from netbridge.stack.stack import Stack
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import CLIENT4, SERVER4, RecordingLink, RecordingUser, raw
from tests.stack.link.test_offload import super_segment

NOW = 1_700_000_000_123_456_789
QUERY = NO_OFFLOAD + raw(IP(src=CLIENT4, dst=SERVER4) / UDP(sport=5000, dport=53) / b"query")
real_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: scripts/system-packages test")


def tshark(data: bytes, folder: Path, *fields: str) -> tuple[list[list[str]], str]:
    """The fields of each packet, and what tshark said besides."""
    path = folder / "capture"
    path.write_bytes(data)
    words = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=|", *(f"-e{field}" for field in fields)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()], done.stderr


def written(*packets: tuple[int, bytes], cut: int = 64) -> bytes:
    """A file of these packets, each given in two parts."""
    pieces = [pcapng.section("netbridge 1.0", "nb0", "netbridge to ssh://dev")]
    for number, (direction, packet) in enumerate(packets):
        pieces += map(bytes, pcapng.packet(NOW + number, direction, packet[:cut], packet[cut:]))
    return b"".join(pieces)


@real_tshark
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("length", "count"), [(64_000, 45), (1449, 2)])
def test_a_super_segment_is_one_whole_packet_and_says_what_it_is(
    version: int, length: int, count: int, tmp_path: Path,
) -> None:
    segment = super_segment(version, bytes(length), 1448)
    found, said = tshark(
        written((pcapng.OUTBOUND, segment), cut=10 + (20 if version == 4 else 40) + 20), tmp_path,
        "frame.len", "frame.cap_len", "tcp.len", "frame.comment", "_ws.malformed", "frame.packet_flags_direction",
    )
    whole = str(len(segment) - 10)
    comment = f"super-segment: {count} TCP segments of 1448 bytes in one"
    assert found == [[whole, whole, str(length), comment, "", "0x00000002"]]
    assert "cut short" not in said
    assert "damaged" not in said


@real_tshark
def test_directions_times_and_the_interface(tmp_path: Path) -> None:
    odd = NO_OFFLOAD + raw(IP(src=SERVER4, dst=CLIENT4) / TCP(sport=80, dport=5000, flags="SA"))
    found, _ = tshark(
        written((pcapng.INBOUND, QUERY), (pcapng.OUTBOUND, odd)), tmp_path,
        "frame.time_epoch", "frame.packet_flags_direction", "frame.interface_name", "frame.interface_description",
        "frame.protocols", "frame.comment",
    )
    assert [row[:4] for row in found] == [
        ["1700000000.123456789", "0x00000001", "nb0", "netbridge to ssh://dev"],
        ["1700000000.123456790", "0x00000002", "nb0", "netbridge to ssh://dev"],
    ]
    assert found[0][4].startswith("raw:ip:udp")
    assert found[1][4:] == ["raw:ip:tcp", ""]


@real_tshark
@pytest.mark.parametrize("length", range(4))
def test_any_length_is_padded(length: int, tmp_path: Path) -> None:
    packet = NO_OFFLOAD + raw(IP(src=CLIENT4, dst=SERVER4) / UDP(sport=1, dport=2) / bytes(length))
    found, _ = tshark(written(*[(pcapng.INBOUND, packet)] * 3, cut=14), tmp_path, "frame.len")
    assert found == [[str(28 + length)]] * 3


@pytest.mark.skipif(shutil.which("capinfos") is None, reason="needs capinfos: scripts/system-packages test")
def test_what_was_missed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(written((pcapng.INBOUND, QUERY)) + pcapng.dropped(NOW, 7))
    said = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Number of stat entries = 1" in said
    assert "Capture application: netbridge 1.0" in said


def test_headers_that_lie_are_described_all_the_same() -> None:
    """The codespace writes them."""
    for header in (b"\x01\x01\0\0\0\0\xff\xff\0\0", b"\x01\x04\0\0\xa8\x05\xff\xff\0\0", b"\xff\xff" + b"\xff" * 8):
        pieces = b"".join(pcapng.packet(NOW, pcapng.INBOUND, header + b"\x45" + bytes(30)))
        assert len(pieces) % 4 == 0
        assert pieces[4:8] == pieces[-4:]


def test_a_tap_stands_between_and_leaves() -> None:
    inner, user = RecordingLink(mtu=1300, offload=True), RecordingUser()
    inner.start(user)
    seen: list[Any] = []
    tap = Tap(inner, lambda direction, header, rest: seen.append((direction, bytes(header) + bytes(rest))))
    tap.put_in(user)
    assert inner.user is tap
    tap.send(QUERY[:30], QUERY[30:])
    inner.user.packet_received(memoryview(QUERY))
    assert seen == [(pcapng.OUTBOUND, QUERY), (pcapng.INBOUND, QUERY)]
    tap.take_out()
    inner.user.packet_received(memoryview(QUERY))
    assert len(seen) == 2
    assert (inner.sent, user.packets) == ([QUERY], [QUERY, QUERY])


async def test_a_stack_that_is_tapped_loses_nothing() -> None:
    left_link, right_link = memory_link()
    seen: list[int] = []

    async with Stack(left_link, ["10.0.0.1/24"]) as left, Stack(right_link, ["10.0.0.2/24"]) as right:
        async def echo(reader: Any, writer: Any) -> None:
            writer.write(await reader.read())
            writer.write_eof()
            await writer.drain()
            writer.close()

        await right.start_server(echo, "10.0.0.2", 7)
        reader, writer = await left.open_connection("10.0.0.2", 7)
        data = json.dumps(list(range(50_000))).encode()
        writer.write(data[:100_000])
        tap = Tap(left.link, lambda direction, header, rest: seen.append(direction))
        tap.put_in(left)
        left.stand_on(tap)
        await writer.drain()
        assert isinstance(tap.inner, MemoryLink)
        writer.write(data[100_000:200_000])
        await left.ping("10.0.0.2")
        count = len(seen)
        tap.take_out()
        left.stand_on(tap.inner)
        writer.write(data[200_000:])
        writer.write_eof()
        assert await reader.read() == data
        assert len(seen) == count > 2
        assert set(seen) == {pcapng.INBOUND, pcapng.OUTBOUND}
        writer.close()
