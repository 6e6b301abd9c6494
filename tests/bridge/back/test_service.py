"""The service on the stack, with a stack that plays the codespace's kernel and a test that plays the agent."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.addresses import Addresses
from netbridge.bridge.agent.peers import peer_uid
from netbridge.bridge.back import calls
from netbridge.bridge.back.ends import End
from netbridge.bridge.back.service import PORT, WayBack
from netbridge.bridge.user import helper_user
from netbridge.stack import Stack, memory_link

ADDRESSES = Addresses(5)
GATEWAY = ADDRESSES.gateways[0]


class Asker:
    """Who asks over the control socket: `line` is the answer, then bytes."""

    def __init__(self) -> None:
        self.socket, self._inner = socket.socketpair()
        self.end = End()
        self.socket.setblocking(False)

    async def open(self) -> Asker:
        self._inner.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.end, sock=self._inner)
        return self

    async def read(self, size: int = 65536) -> bytes:
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.socket, size)

    async def line(self) -> dict[str, Any]:
        found = b""
        while not found.endswith(b"\n"):
            found += await self.read(1)
        message: dict[str, Any] = json.loads(found)
        return message

    def close(self) -> None:
        self.socket.close()
        if self.end.transport:
            self.end.transport.abort()


class There:
    """The bridge's way back, and the place it leads to."""

    def __init__(self, back: WayBack) -> None:
        self.back = back
        self.told: list[dict[str, Any]] = []
        self.fails: OSError | None = None
        near, far = memory_link()
        self.stack = Stack(near, ADDRESSES.stack)
        self.kernel = Stack(far, ADDRESSES.tun)
        self.askers: list[Asker] = []
        self.writers: list[asyncio.StreamWriter] = []
        """A writer that nobody holds closes its transport."""

    def send(self, message: dict[str, Any]) -> None:
        if self.fails:
            raise self.fails
        self.told.append(message)

    async def ask(self, host: str = "db", port: Any = 5432) -> Asker:
        asker = await Asker().open()
        self.askers.append(asker)
        self.back.serve({"ask": "connect", "host": host, "port": port}, asker.end)
        return asker

    @property
    def secret(self) -> str:
        return str(self.back.setup(ADDRESSES, 8)["secret"])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.kernel.open_connection(GATEWAY, PORT)
        self.writers.append(writer)
        return reader, writer

    async def come(
        self, what: object, *, secret: str | None = None, rest: bytes = b"", **more: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect()
        line = {"secret": self.secret if secret is None else secret, "for": what, **more}
        writer.write(json.dumps(line).encode() + b"\n" + rest)
        return reader, writer


@pytest.fixture
async def there() -> AsyncIterator[There]:
    made = There(WayBack())
    async with made.stack, made.kernel:
        await made.back.open(made.stack, made.send, 8)
        yield made
        made.back.close()
        for writer in made.writers:
            writer.transport.abort()
        for asker in made.askers:
            asker.close()
        await asyncio.sleep(0.01)


async def test_asked_for_dialled_and_joined(there: There) -> None:
    asker = await there.ask("db.internal", 5432)
    assert there.told == [{"type": "dial", "number": 1, "host": "db.internal", "port": 5432}]
    reader, writer = await there.come(1, rest=b"greeting")
    assert await asker.line() == {"connected": True, "connection": 1}
    assert await asker.read() == b"greeting"
    asker.socket.sendall(b"question")
    asker.socket.shutdown(socket.SHUT_WR)
    assert await reader.read() == b"question"
    writer.write(b"answer")
    writer.write_eof()
    assert await asker.read() == b"answer"
    assert await asker.read() == b""
    assert there.back.ended(1) == ""
    assert (there.back.counters.opened, there.back.counters.refused, there.back.open_now) == (1, 0, 0)


async def test_errors_of_the_place_are_told(there: There) -> None:
    asker = await there.ask()
    await there.come(1, error="Connection refused\x1b[2J", code="ECONNREFUSED")
    assert await asker.line() == {"error": "Connection refused\\x1b[2J", "code": "ECONNREFUSED"}
    assert await asker.read() == b""


async def test_a_reset_is_remembered(there: There) -> None:
    asker = await there.ask()
    _, writer = await there.come(1)
    await asker.line()
    writer.transport.abort()
    assert await asker.read() == b""
    assert there.back.ended(1) == "Connection reset by peer"
    assert there.back.ended(2) == there.back.ended("x") == ""


async def test_a_message_that_was_lost_is_sent_again(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REPEAT_SECONDS", 0.05)
    there.fails = OSError("the link is down")
    asker = await there.ask()
    await asyncio.sleep(0.1)
    there.fails = None
    async with asyncio.timeout(5):
        while not there.told:
            await asyncio.sleep(0.01)
    await there.come(1)
    assert (await asker.line())["connected"]
    sent = len(there.told)
    await asyncio.sleep(0.15)
    assert len(there.told) == sent


async def test_nothing_heard_is_a_time_out(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REPEAT_SECONDS", 0.02)
    monkeypatch.setattr(calls, "ANSWER_SECONDS", 0.1)
    asker = await there.ask()
    assert (await asker.line())["code"] == "ETIMEDOUT"


async def test_who_left_is_not_waited_for(there: There) -> None:
    asker = await there.ask()
    asker.end.fail("it left")
    async with asyncio.timeout(5):
        while there.told[-1] != {"type": "hang_up", "number": 1}:
            await asyncio.sleep(0.01)
    reader, _ = await there.come(1)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert there.back.counters.opened == 0


@pytest.mark.parametrize("what", [
    {"what": 1, "secret": "wrong"}, {"what": "agent"}, {"what": 7}, {"what": None}, {"what": [1]}, {"what": "1"},
    {"what": 1, "secret": ""},
])
async def test_strangers_are_reset(there: There, what: dict[str, Any]) -> None:
    """Who does not know the secret, and what was not asked for."""
    await there.ask()
    reader, _ = await there.come(**what)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert there.back.counters.opened == 0


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b"[" * 900 + b"\n", b"\xff\n", b"x" * 2000])
async def test_noise_is_reset(there: There, line: bytes) -> None:
    reader, writer = await there.connect()
    writer.write(line)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert there.back.counters.strangers == 1


async def test_the_silent_give_way(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "GREETINGS", 3)
    silent = [await there.connect() for _ in range(3)]
    asker = await there.ask()
    await there.come(1)
    assert (await asker.line())["connected"]
    with pytest.raises(ConnectionResetError):
        await silent[0][0].read()
    for reader, _ in silent[1:]:
        assert not reader.at_eof()
    monkeypatch.setattr(calls, "GREETING_SECONDS", 0.05)
    late, _ = await there.connect()
    with pytest.raises(ConnectionResetError):
        await late.read()


@pytest.mark.parametrize(("host", "port"), [
    ("", 80), ("a b", 80), ("a\n", 80), ("ü", 80), ("x" * 254, 80), (5, 80), ("db", 0), ("db", 65536), ("db", "80"),
    ("db", None),
])
async def test_nonsense_is_not_dialled(there: There, host: Any, port: Any) -> None:
    asker = await there.ask(host, port)
    assert (await asker.line())["code"] == "EINVAL"
    assert there.told == []


async def test_not_too_many(there: There) -> None:
    for _ in range(8):
        await there.ask()
    assert (await (await there.ask()).line())["code"] == "EMFILE"


async def test_before_and_after_it_stands() -> None:
    back = WayBack()
    asker = await Asker().open()
    back.serve({"host": "db", "port": 80}, asker.end)
    assert (await asker.line())["code"] == "EAGAIN"
    asker.close()
    await asyncio.sleep(0.01)


async def test_the_end_of_the_bridge_ends_all(there: There) -> None:
    waiting, open_ = await there.ask(), await there.ask()
    await there.come(2)
    await open_.line()
    there.back.close()
    assert (await waiting.line())["code"] == "ESHUTDOWN"
    assert await open_.read() == b""
    assert there.back.ended(2) == "The bridge ended."


async def test_the_ssh_agent(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    there = There(WayBack(path))
    assert there.back.setup(ADDRESSES, 8)["agent"] is True
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        async with there.stack, there.kernel:
            await there.back.open(there.stack, there.send, 8)
            reader, writer = await there.come("agent", rest=b"sign this")
            async with asyncio.timeout(5):
                agent, _ = await asyncio.get_running_loop().sock_accept(listener)
            with agent:
                agent.setblocking(True)
                agent.settimeout(5)
                assert await asyncio.to_thread(agent.recv, 100) == b"sign this"
                agent.sendall(b"signature")
                assert await reader.readexactly(9) == b"signature"
                writer.write_eof()
                assert await asyncio.to_thread(agent.recv, 100) == b""
            there.back.close()
            await asyncio.sleep(0.01)
    assert there.back.counters.agent == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="plays sudo, which needs root")
async def test_the_ssh_agent_is_asked_as_its_user(tmp_path: Path) -> None:
    """Under sudo: an agent may listen only to its own user, and its socket may lie where root has no rights."""
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    path = str(tmp_path / "agent.sock")
    there = There(WayBack(path, replace(helper_user(), uid=54399, gid=54398, groups=(), differs=True)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        listener.setblocking(False)
        async with there.stack, there.kernel:
            await there.back.open(there.stack, there.send, 8)
            await there.come("agent")
            async with asyncio.timeout(5):
                agent, _ = await asyncio.get_running_loop().sock_accept(listener)
            with agent:
                assert peer_uid(agent) == 54399
            assert os.geteuid() == 0
            there.back.close()
            await asyncio.sleep(0.01)


async def test_an_ssh_agent_that_is_gone(tmp_path: Path) -> None:
    there = There(WayBack(str(tmp_path / "nothing")))
    async with there.stack, there.kernel:
        await there.back.open(there.stack, there.send, 8)
        reader, _ = await there.come("agent")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        there.back.close()
