"""The asking end and the local listeners, against a real control socket whose bridge leads to servers of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.back.calls import answer
from netbridge.bridge.back.door import BackError, Door
from netbridge.bridge.back.ends import End, join
from netbridge.bridge.back.listening import ForwardVisitor, Listener, SocksVisitor, listen
from netbridge.bridge.control import Control
from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError
from netbridge.bridge.runtime import Folder


class Leads:
    """Stands for `WayBack`: any name leads to a local port of that number, and errors have their codes."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.why: dict[int, str] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def serve(self, request: Mapping[str, Any], asker: End) -> None:
        place = request["host"], request["port"]
        self.asked.append(place)
        if place[0] == "nowhere":
            answer(asker, {"error": "Name or service not known", "code": "EAI_NONAME"})
            return
        self.tasks.add(asyncio.get_running_loop().create_task(self._connect(len(self.asked), place[1], asker)))

    async def _connect(self, number: int, port: int, asker: End) -> None:
        end = End()
        try:
            await asyncio.get_running_loop().create_connection(lambda: end, "127.0.0.1", port)
        except OSError:
            answer(asker, {"error": "Connection refused", "code": "ECONNREFUSED"})
            return

        def over(why: str) -> None:
            self.why[number] = why

        end.on_over = over
        assert asker.transport
        asker.transport.write(b'{"connected": true, "connection": %d}\n' % number)
        join(asker, end)

    def ended(self, number: object) -> str:
        return self.why.get(number, "") if isinstance(number, int) else ""


class Bridge:
    """A control socket in a runtime folder of the test's own."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder = Folder(folder, owner=os.geteuid())
        self.reservation = self.folder.reserve()
        self.leads = Leads()
        self.control = Control(self.reservation, lambda: {"target": target}, lambda reason: None, self.leads)

    async def __aenter__(self) -> Bridge:
        await self.control.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.control.close()
        await asyncio.gather(*self.leads.tasks)
        self.reservation.release()
        self.folder.close()
        await asyncio.sleep(0.02)


@pytest.fixture(name="runtime", autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
async def bridge(runtime: Path) -> AsyncIterator[Bridge]:
    async with Bridge(runtime, "ssh://dev") as made:
        yield made


@contextlib.asynccontextmanager
async def server(handle: Any) -> AsyncIterator[int]:
    made = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with made:
        yield made.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"end")
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"half")
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


# --- which bridge ---------------------------------------------------------------------------------------------------


async def test_the_bridge_that_is_meant(runtime: Path) -> None:
    with pytest.raises(TargetUnreachableError, match="No bridge is running"):
        Door(None)
    async with Bridge(runtime, "ssh://one"):
        Door(None).close()
        async with Bridge(runtime, "ssh://two"):
            def choose() -> None:
                with pytest.raises(UsageError, match="2 bridges could be meant"):
                    Door(None)
                with pytest.raises(TargetUnreachableError, match="No bridge to ssh://three"):
                    Door("ssh://three")
                for name, number in (("ssh://two", 1), ("1", 1), ("ssh://one", 0)):
                    with Door(name) as door:
                        assert door._number == number

            await asyncio.to_thread(choose)


# --- blocking: netbridge connect --------------------------------------------------------------------------------------


async def test_open(bridge: Bridge) -> None:
    async with server(echo) as port:
        def visit() -> None:
            with Door(None) as door:
                connection, number = door.open("localhost", port)
                with connection:
                    connection.sendall(b"question")
                    connection.shutdown(socket.SHUT_WR)
                    assert b"".join(iter(lambda: connection.recv(100), b"")) == b"questionend"
                assert door.broken(number) == ""

        await asyncio.to_thread(visit)
    assert bridge.leads.asked == [("localhost", port)]


async def test_open_tells_what_it_was_told(bridge: Bridge) -> None:
    def visit() -> None:
        with Door(None) as door:
            with pytest.raises(BackError, match="nowhere port 80 was not reached") as told:
                door.open("nowhere", 80)
            assert (told.value.code, told.value.exit_code) == ("EAI_NONAME", 1)
            assert told.value.why == "Name or service not known."

    await asyncio.to_thread(visit)


async def test_cut_off_is_told_from_ended(bridge: Bridge) -> None:
    async with server(resets) as port:
        def visit() -> None:
            with Door(None) as door:
                connection, number = door.open("localhost", port)
                with connection:
                    connection.sendall(b"x")
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(100):
                        pass
                assert door.broken(number) == "Connection reset by peer"

        await asyncio.to_thread(visit)


async def test_the_end_of_the_bridge_is_told_too(runtime: Path) -> None:
    async with server(echo) as port:
        async with Bridge(runtime, "ssh://dev"):
            with Door(None) as door:
                connection, number = await asyncio.to_thread(door.open, "localhost", port)
                waiting = asyncio.create_task(asyncio.to_thread(connection.recv, 1))
                await asyncio.sleep(0.05)
        assert await waiting == b""
        connection.close()
        with Door.__new__(Door) as late:
            late._folders = []
            late._folder, late._number = Folder(runtime, owner=os.geteuid()), 0
            assert await asyncio.to_thread(late.broken, number) == "The bridge ended."
            late._folder.close()


async def test_an_asker_that_goes_is_a_reset(bridge: Bridge) -> None:
    seen: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.set_result(await reader.read(1))
        except ConnectionError as error:
            seen.set_result(error)
        writer.close()

    async with server(watch) as port:
        def visit() -> None:
            with Door(None) as door:
                door.open("localhost", port)[0].close()

        await asyncio.to_thread(visit)
        async with asyncio.timeout(5):
            await seen
            while not bridge.leads.why:
                await asyncio.sleep(0.01)
    assert bridge.leads.why == {1: "The asker went away."}


# --- listeners: forward and socks -------------------------------------------------------------------------------------


class Local:
    """A listener of ours on a free port."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.door = Door(None)
        self.listener = Listener(self.door, self.said.append)
        self.port = 0

    async def open(self, visitor: Any) -> Local:
        sockets = listen(("127.0.0.1",), 0)
        self.port = sockets[0].getsockname()[1]
        await self.listener.serve(sockets, visitor)
        return self

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(5):
            return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def local(bridge: Bridge) -> AsyncIterator[Local]:
    made = Local()
    yield made
    made.listener.close()
    made.door.close()
    await asyncio.sleep(0.02)


async def test_forward(local: Local) -> None:
    async with server(echo) as port:
        await local.open(lambda listener: ForwardVisitor(listener, "db", port))
        for _ in range(3):
            reader, writer = await local.connect()
            writer.write(b"early")
            writer.write_eof()
            async with asyncio.timeout(5):
                assert await reader.read() == b"earlyend"
            writer.close()
    assert local.said == []
    await asyncio.sleep(0.02)
    assert local.listener.visitors == set()


async def test_forward_passes_refusals_and_resets_on(local: Local, bridge: Bridge) -> None:
    async with server(resets) as port:
        place = {"port": 1}
        await local.open(lambda listener: ForwardVisitor(listener, "db", place["port"]))
        reader, writer = await local.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert local.said == ["db port 1 was not reached from the codespace. Connection refused."]
        place["port"] = port
        reader, writer = await local.connect()
        assert await reader.readexactly(4) == b"half"
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_bridge_started_anew_is_found(runtime: Path) -> None:
    async with server(echo) as port:
        async with Bridge(runtime, "ssh://dev"):
            local = await Local().open(lambda listener: ForwardVisitor(listener, "db", port))
        reader, writer = await local.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert local.said[0].startswith("The bridge does not answer.")
        with Folder(runtime, owner=os.geteuid()) as folder:
            held = folder.reserve()  # another number is free first
            async with Bridge(runtime, "ssh://dev"):
                held.release()
                reader, writer = await local.connect()
                writer.write(b"again")
                writer.write_eof()
                async with asyncio.timeout(5):
                    assert await reader.read() == b"againend"
                writer.close()
        local.listener.close()
        local.door.close()
        await asyncio.sleep(0.02)


async def test_socks(local: Local, bridge: Bridge) -> None:
    await local.open(SocksVisitor)
    async with server(echo) as port:
        reader, writer = await local.connect()
        writer.write(b"\x05\x01\x00\x05\x01\x00\x03\x02db" + port.to_bytes(2, "big") + b"with it")
        async with asyncio.timeout(5):
            assert await reader.readexactly(2) == b"\x05\x00"
            assert (await reader.readexactly(10))[1] == 0
            assert await reader.readexactly(7) == b"with it"
            writer.write_eof()
            assert await reader.read() == b"end"
        writer.close()
    for name, port, code in ((b"nowhere", 80, 4), (b"db", 1, 5), (b"a b", 80, 1)):
        reader, writer = await local.connect()
        writer.write(b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big"))
        async with asyncio.timeout(5):
            assert (await reader.read())[3] == code
        writer.close()


async def test_who_says_nothing_or_nonsense_is_hung_up_on(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.bridge.back.listening.HANDSHAKE_SECONDS", 0.1)
    await local.open(SocksVisitor)
    reader, writer = await local.connect()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    reader, writer = await local.connect()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


def test_ports_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BridgeError, match=f"Port {port} of 127.0.0.1 and ::1 cannot be listened on"):
            listen(("127.0.0.1", "::1"), port)
    with pytest.raises(BridgeError, match="cannot be listened on"):
        listen(("192.0.2.1",), 0)
    found = listen(("127.0.0.1", "2001:db8::1"), 0)
    assert [it.getsockname()[0] for it in found] == ["127.0.0.1"]
    found[0].close()
