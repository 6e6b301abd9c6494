"""The control socket and the folder of running bridges, each end real, in one process or in several."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import netbridge
from netbridge.bridge import control
from netbridge.bridge.agent.peers import peer_uid
from netbridge.bridge.back.ends import End, join
from netbridge.bridge.control import Control, Streams, Trace, ask, statuses
from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetUnreachableError
from netbridge.bridge.runtime import Folder, place


@pytest.fixture(name="folder")
def open_folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder(tmp_path / "run", owner=os.geteuid()) as opened:
        yield opened


class Watches:
    """One who watches."""

    all: ClassVar[list[Watches]] = []

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self.closed = False
        self.all.append(self)
        send(b"{}\n")

    def change(self, request: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Bridge:
    """A control socket with a bridge that only remembers what it was told."""

    def __init__(self, folder: Folder, streams: Streams | None = None, trace: Trace | None = None) -> None:
        self.reservation = folder.reserve()
        self.stopped: list[str] = []
        self.state: dict[str, Any] = {"target": "t", "flows": []}
        self.asked = 0
        self.control = Control(
            self.reservation, self.status, self.stopped.append, streams, trace, watch=lambda _, send: Watches(send))

    def status(self) -> dict[str, Any]:
        self.asked += 1
        return self.state

    async def __aenter__(self) -> Bridge:
        await self.control.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.control.close()
        self.reservation.release()


async def exchange(folder: Folder, number: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(folder.address(f"{number}.sock"))
    try:
        writer.write(sent)
        async with asyncio.timeout(5):
            return await reader.readline()
    except ConnectionError:  # hung up on before the request was read
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_status_is_answered_and_the_socket_is_private(folder: Folder) -> None:
    async with Bridge(folder) as bridge:
        answer = await asyncio.to_thread(ask, folder, bridge.reservation.number, "status")
        assert answer == {"target": "t", "flows": []}
        assert await asyncio.to_thread(statuses, folder) == [{"number": 0, "target": "t", "flows": []}]
        assert stat.S_IMODE(os.stat(folder.path / "0.sock").st_mode) == 0o600
        assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert os.listdir(folder.path) == []


async def test_stop_is_told_and_the_asker_sees_the_end(folder: Folder) -> None:
    async with Bridge(folder) as bridge:
        asking = asyncio.create_task(asyncio.to_thread(ask, folder, 0, "stop", until_gone=5))
        while not bridge.stopped:
            await asyncio.sleep(0.01)
        assert not asking.done()
    assert await asking == {"stopping": True}


async def test_a_bridge_that_does_not_end_is_told_to_the_asker(folder: Folder) -> None:
    async with Bridge(folder):
        with pytest.raises(BridgeError, match="still there"):
            await asyncio.to_thread(ask, folder, 0, "stop", until_gone=0.2)


@pytest.mark.parametrize("sent", [
    b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"ask": 1}\n', b'{"ask": "status"\n', b"\xff\xfe\n", b"[" * 4000 + b"\n",
])
async def test_nonsense_is_answered_by_an_error_and_hurts_nobody(folder: Folder, sent: bytes) -> None:
    async with Bridge(folder) as bridge:
        assert "error" in json.loads(await exchange(folder, 0, sent))
        assert b'"target"' in await exchange(folder, 0, b'{"ask": "status"}\n')
        assert bridge.stopped == []


async def test_a_request_without_end_is_hung_up_on(folder: Folder) -> None:
    async with Bridge(folder):
        assert await exchange(folder, 0, b"x" * (control.REQUEST_MAX + 1)) == b""


async def test_silent_and_too_many_askers_are_hung_up_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS", 0.2)
    async with Bridge(folder):
        silent = [await asyncio.open_unix_connection(folder.address("0.sock")) for _ in range(control.CONNECTIONS_MAX)]
        await asyncio.sleep(0.05)
        assert await exchange(folder, 0, b'{"ask": "status"}\n') == b""
        for reader, writer in silent:
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert b'"target"' in await exchange(folder, 0, b'{"ask": "status"}\n')


async def test_an_asker_that_reads_nothing_is_answered_no_more_and_let_go(
    folder: Folder, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS", 0.3)
    async with Bridge(folder) as bridge:
        bridge.state["flows"] = ["x" * (1 << 20)]
        reader, writer = await asyncio.open_unix_connection(folder.address("0.sock"), limit=1024)
        writer.write(b'{"ask": "status"}\n' * 200)
        async with asyncio.timeout(5):
            while not bridge.asked or bridge.control._connections:
                await asyncio.sleep(0.01)
        assert bridge.asked == 1
        writer.close()
        del reader


async def test_an_asker_that_reads_is_answered_however_much_he_asks(folder: Folder) -> None:
    async with Bridge(folder) as bridge:
        bridge.state["flows"] = ["x" * (1 << 20)]
        reader, writer = await asyncio.open_unix_connection(folder.address("0.sock"), limit=1 << 22)
        writer.write(b'{"ask": "status"}\n' * 20)
        async with asyncio.timeout(20):
            for _ in range(20):
                assert len(await reader.readline()) > 1 << 20
        writer.close()


async def test_those_who_watch_leave_room_for_one_who_stops_the_bridge(folder: Folder) -> None:
    async with Bridge(folder) as bridge:
        watching = [await asyncio.open_unix_connection(folder.address("0.sock")) for _ in range(control.WATCHERS_MAX)]
        for reader, writer in watching:
            writer.write(b'{"ask": "watch"}\n')
            assert await reader.readline() == b"{}\n"
        assert json.loads(await exchange(folder, 0, b'{"ask": "watch"}\n'))["code"] == "EBUSY"
        await asyncio.to_thread(ask, folder, 0, "stop")
        assert bridge.stopped
        for _, writer in watching:
            writer.close()


async def test_one_who_watched_and_then_wants_bytes_watches_no_more(folder: Folder) -> None:
    async with Bridge(folder, Echoes()):
        _, writer = await asyncio.open_unix_connection(folder.address("0.sock"))
        writer.write(b'{"ask": "watch"}\n{"ask": "connect"}\n')
        before = len(Watches.all)
        async with asyncio.timeout(5):
            while len(Watches.all) == before:
                await asyncio.sleep(0.01)
        assert Watches.all[-1].closed
        writer.close()


async def test_strangers_are_not_heard(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda connection: os.geteuid() + 12345)
    async with Bridge(folder):
        assert await exchange(folder, 0, b'{"ask": "status"}\n') == b""


class Echoes:
    """Carries a connection to nowhere: answers, and sends back what comes."""

    def __init__(self) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.gone: list[str] = []

    def serve(self, request: Mapping[str, Any], asker: End) -> None:
        self.requests.append(request)
        asker.on_over = self.gone.append
        assert asker.transport
        asker.transport.write(b"yes\n")
        join(asker, Mirror(asker))

    def ended(self, number: object) -> str:
        return f"{number} broke"


class Mirror(End):
    """A partner that is no transport but the asker's own."""

    def __init__(self, asker: End) -> None:
        super().__init__()
        self.transport = asker.transport


async def test_a_connection_is_handed_over_with_all_that_came(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_SECONDS", 0.2)
    echoes = Echoes()
    async with Bridge(folder, echoes):
        reader, writer = await asyncio.open_unix_connection(folder.address("0.sock"))
        writer.write(b'{"ask": "connect", "host": "h", "port": 1}\nearly')
        async with asyncio.timeout(5):
            assert await reader.readexactly(9) == b"yes\nearly"
            await asyncio.sleep(0.4)  # bytes may be silent for longer than a request
            writer.write(b'{"ask": "stop"}\n' * 1000)
            assert await reader.readexactly(16_000) == b'{"ask": "stop"}\n' * 1000
        assert echoes.requests == [{"ask": "connect", "host": "h", "port": 1}]
        assert await exchange(folder, 0, b'{"ask": "ended", "connection": 3}\n') == b'{"broken": "3 broke"}\n'
        ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(5):
        assert await ended == b""  # with the bridge
    assert echoes.gone == ["The bridge ended."]
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_carried_connections_are_no_askers(folder: Folder) -> None:
    echoes = Echoes()
    async with Bridge(folder, echoes):
        held = []
        for _ in range(control.CONNECTIONS_MAX + 5):
            reader, writer = await asyncio.open_unix_connection(folder.address("0.sock"))
            writer.write(b'{"ask": "connect"}\n')
            async with asyncio.timeout(5):
                assert await reader.readline() == b"yes\n"
            held.append(writer)
        assert b'"target"' in await exchange(folder, 0, b'{"ask": "status"}\n')
        for writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while len(echoes.gone) < len(held):
                await asyncio.sleep(0.01)
    assert set(echoes.gone) == {"The asker went away."}


async def test_without_a_way_back_there_is_none(folder: Folder) -> None:
    async with Bridge(folder):
        assert b"error" in await exchange(folder, 0, b'{"ask": "connect", "host": "h", "port": 1}\n')


def test_peer_uid_is_that_of_the_other_end() -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        assert peer_uid(left) == os.geteuid()


def test_nobody_answers(folder: Folder) -> None:
    with pytest.raises(TargetUnreachableError, match="does not answer"):
        ask(folder, 7, "status")


def test_numbers_are_held_by_one_bridge_each(folder: Folder) -> None:
    first, second, third = folder.reserve(), folder.reserve(), folder.reserve(lambda number: number % 7 == 6)
    assert (first.number, second.number, third.number) == (0, 1, 6)
    first.release()
    again = folder.reserve()
    assert again.number == 0
    with pytest.raises(BridgeError, match="No number is free"):
        folder.reserve(lambda number: False)
    for one in (again, second, third):
        one.release()


DIES = """
import os, sys, socket
from pathlib import Path
from netbridge.bridge.runtime import Folder
folder = Folder(Path(sys.argv[1]), owner=os.geteuid())
held = folder.reserve()
listener = socket.socket(socket.AF_UNIX)
listener.bind(folder.address(held.socket_name))
listener.listen()
print(held.number, flush=True)
sys.stdin.read()
"""


def test_the_remains_of_a_killed_bridge_are_healed(folder: Folder) -> None:
    source = str(Path(netbridge.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", DIES, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"0\n"
        assert folder.running() == [0]
        beside = folder.reserve()
        assert beside.number == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder.path / "0.sock").exists()
    assert statuses(folder) == []
    assert not (folder.path / "0.sock").exists()
    healed = folder.reserve()
    assert healed.number == 0
    for one in (beside, healed):
        one.release()


def test_a_folder_of_someone_else_or_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(BridgeError):
        Folder(tmp_path / "link", owner=os.geteuid())
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(NotPermittedError, match="belongs to user"):
        Folder(tmp_path / "theirs", owner=54321)


def test_an_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o777)
    os.chmod(tmp_path / "run", 0o777)
    with Folder(tmp_path / "run", owner=os.geteuid()):
        assert stat.S_IMODE(os.stat(tmp_path / "run").st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="plays sudo, which needs root")
def test_under_sudo_the_files_belong_to_the_caller(tmp_path: Path) -> None:
    with Folder(tmp_path / "run", owner=12345, group=23456) as folder:
        held = folder.reserve()
        for file in (tmp_path / "run", tmp_path / "run" / "0.lock"):
            assert (os.stat(file).st_uid, os.stat(file).st_gid) == (12345, 23456)
        held.release()


def test_places() -> None:
    assert place({"NETBRIDGE_RUNTIME_DIR": "/x"}, owner=5) == Path("/x")
    assert place({"XDG_RUNTIME_DIR": "/y"}, owner=0) == Path("/run/netbridge")
    assert place({"XDG_RUNTIME_DIR": "/y"}, owner=54321) == Path("/y/netbridge")
    assert place({}, owner=54321).name == "netbridge-54321"


async def test_a_trace_is_answered_later_and_others_meanwhile(folder: Folder) -> None:
    go_on = asyncio.Event()

    async def trace(request: Mapping[str, Any]) -> Mapping[str, Any]:
        await go_on.wait()
        if request["host"] == "bad":
            raise OSError("it broke")
        return {"host": request["host"]}

    async with Bridge(folder, trace=trace) as bridge:
        number = bridge.reservation.number
        slow = asyncio.create_task(asyncio.to_thread(ask, folder, number, "trace", host="db", port=80))
        bad = asyncio.create_task(asyncio.to_thread(ask, folder, number, "trace", host="bad", port=80))
        assert (await asyncio.to_thread(ask, folder, number, "status"))["target"] == "t"
        go_on.set()
        assert await slow == {"host": "db"}
        assert await bad == {"error": "OSError: it broke"}


async def test_who_went_away_is_traced_no_more(folder: Folder) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def trace(request: Mapping[str, Any]) -> Mapping[str, Any]:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return {}

    async with Bridge(folder, trace=trace) as bridge:
        _, writer = await asyncio.open_unix_connection(folder.address(f"{bridge.reservation.number}.sock"))
        writer.write(b'{"ask": "trace", "host": "db"}\n{"ask": "trace", "host": "two at once"}\n')
        async with asyncio.timeout(5):
            await begun.wait()
            writer.close()
            await ended.wait()


async def test_without_a_tracer_a_trace_is_unknown(folder: Folder) -> None:
    async with Bridge(folder) as bridge:
        answer = await asyncio.to_thread(ask, folder, bridge.reservation.number, "trace", host="db", port=1)
    assert "nothing is known" in answer["error"]
