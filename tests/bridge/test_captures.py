"""Who looks at a bridge's packets: the file of --pcap, which rolls, and those who ask at the control socket."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from netbridge.bridge import captures, capturing
from netbridge.bridge.capturefile import KEPT, CaptureFile
from netbridge.bridge.errors import UsageError
from netbridge.bridge.runtime import Folder
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def packets(data: bytes, folder: Path) -> list[bytes]:
    """The packets of a capture."""
    path = folder / "read.pcapng"
    path.write_bytes(data)
    with RawPcapNgReader(str(path)) as reader:
        return [packet for packet, _ in reader]


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and content of each whole block of a stream."""
    while len(data) >= 8 and (length := int.from_bytes(data[4:8], "little")) <= len(data):
        yield int.from_bytes(data[:4], "little"), data[8:length - 4]
        data = data[length:]


@pytest.fixture(name="life")
def life_of_one_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    return Life(FakeTarget(), pcap=tmp_path / "all.pcapng", pcap_size=6000)


@asynccontextmanager
async def asked(folder: Path, wanted: str = "") -> AsyncIterator[tuple[dict[str, Any], asyncio.StreamReader]]:
    """One who asks bridge 0 for its packets; the answer, and the stream behind it."""
    with Folder(folder / "run", owner=os.geteuid()) as opened:
        reader, writer = await asyncio.open_unix_connection(opened.address("0.sock"))
        writer.write(json.dumps({"ask": "capture", "filter": wanted}).encode() + b"\n")
        try:
            async with asyncio.timeout(10):
                yield json.loads(await reader.readline()), reader
        finally:
            writer.close()


async def test_the_file_and_those_who_ask(life: Life, tmp_path: Path) -> None:
    async def look(life: Life) -> None:
        session = life.session
        assert session.engine
        assert session.engine.stack
        assert session.addresses
        gateway = session.addresses.gateways[0]
        async with life.target.kernel() as kernel:
            async with asked(tmp_path, "icmp") as (answer, everything), asked(tmp_path, "port 7") as (_, nothing):
                assert answer == {"capturing": True}
                for _ in range(4):
                    await kernel.ping(gateway, timeout=5, size=1000)
                data = b""
                while data.count(b"\x45\0\x04\x04") < 8:  # four questions, four answers
                    data += await everything.read(1 << 16)
                assert len(packets(data, tmp_path)) == 8
                assert packets(await nothing.read(1 << 16), tmp_path) == []
            while session.captures._askers:
                await asyncio.sleep(0.01)
            await kernel.ping(gateway, timeout=5, size=1000)

    await life.during(look)
    files = [tmp_path / "all.pcapng.1", tmp_path / "all.pcapng"]
    kept = [packets(path.read_bytes(), tmp_path) for path in files]
    assert [len(found) for found in kept] == [5, 5]
    assert all(path.stat().st_size <= 6000 and path.stat().st_mode & 0o777 == 0o600 for path in files)


async def test_nothing_stands_in_between_while_nobody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)

    async def look(life: Life) -> None:
        engine, agent = life.session.engine, life.session.agent
        assert engine
        assert engine.stack
        assert agent
        assert engine.stack.link is agent.link
        async with asked(tmp_path) as (answer, _):
            assert answer == {"capturing": True}
            assert engine.stack.link is not agent.link
        while life.session.captures._askers:
            await asyncio.sleep(0.01)
        assert engine.stack.link is agent.link

    await Life(FakeTarget()).during(look)


@pytest.mark.parametrize(("most", "wanted", "code"), [(0, "", "EBUSY"), (4, "tpc", "EINVAL")])
async def test_who_is_refused(
    most: int, wanted: str, code: str, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captures, "MOST", most)

    async def look(_: Life) -> None:
        async with asked(tmp_path, wanted) as (answer, stream):
            assert answer["code"] == code
            assert answer["error"]
            assert await stream.read() == b""

    await life.during(look)


async def test_who_reads_too_slowly_misses_packets_and_is_told(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captures, "QUEUED", 100_000)

    async def look(life: Life) -> None:
        session = life.session
        assert session.addresses
        gateway = session.addresses.gateways[0]
        async with life.target.kernel() as kernel, asked(tmp_path) as (_, stream):
            (asker,) = session.captures._askers
            while not asker._missed:
                await kernel.ping(gateway, timeout=5, size=60_000)
            data, told = b"", b""
            while not told:  # once there is room again
                await kernel.ping(gateway, timeout=5, size=8)
                data += await stream.read(1 << 20)
                told = next((block for kind, block in blocks(data) if kind == 5), b"")
            assert int.from_bytes(told[16:24], "little") == asker._told_missed > 0

    await life.during(look)


def test_old_files_are_counted_and_no_link_is_followed(tmp_path: Path) -> None:
    path, said = tmp_path / "file", list[str]()
    file = CaptureFile(path, 100, b"begin", said.append)
    for number in range(12):
        file.write([b"%02d" % number, bytes(58)])
    file.close()
    assert sorted(it.name for it in tmp_path.iterdir()) == ["file", *(f"file.{number + 1}" for number in range(KEPT))]
    assert [it.read_bytes()[:7] for it in (path, tmp_path / "file.1", tmp_path / "file.3")] == [
        b"begin11", b"begin10", b"begin08",
    ]
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.unlink()
    file = CaptureFile(path, 100, b"begin", said.append)
    path.unlink()
    path.symlink_to(victim)  # somebody else may write this folder
    for _ in range(3):
        file.write([bytes(60)])
    file.close()
    assert victim.read_text() == "precious"
    assert not said


def test_where_a_link_leads_nothing_is_rolled(tmp_path: Path) -> None:
    there, path = tmp_path / "there", tmp_path / "link"
    path.symlink_to(there)
    file = CaptureFile(path, 100, b"", pytest.fail)
    for _ in range(4):
        file.write([bytes(60)])
    file.close()
    assert there.stat().st_size == 240
    with pytest.raises(UsageError, match="cannot be written"):
        CaptureFile(tmp_path / "none" / "file", 0, b"", pytest.fail)


def test_a_file_that_cannot_be_moved_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    path = tmp_path / "file"
    file = CaptureFile(path, 100, b"", said.append)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    for _ in range(3):
        file.write([bytes(60)])
    file.close()
    assert path.stat().st_size == 180
    assert said == [f"the capture {path} cannot be moved to make room: Permission denied; it grows"]


