"""Another user of the machine at every unix socket: first with the modes that the sockets have, then with the modes
opened by force, when the peer's user alone decides. (The agents' meeting place: tests/bridge/agent/test_meeting.py.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from netbridge.bridge.agent.authsocket import AuthSocket
from netbridge.bridge.control import Control, ask
from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetUnreachableError
from netbridge.bridge.joint.carriers import listening
from netbridge.bridge.joint.credentials import Credentials
from netbridge.bridge.joint.place import parse
from netbridge.bridge.runtime import Folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")

NOBODY = 65534
PYTHON = "/usr/bin/python3"
SAY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    try:
        connection.connect(sys.argv[1])
        connection.sendall(sys.argv[2].encode() + b"\\n")
        print("heard", connection.recv(1000))
    except ConnectionError:
        print("heard b''")
    except PermissionError:
        print("kept out")
"""
SERVE = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
connection, _ = listener.accept()
print("got", connection.recv(1000), flush=True)
"""


def as_nobody(script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PYTHON, "-I", "-c", script, *words], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", text=True,
        stdout=subprocess.PIPE,
    )


async def said_by_nobody(path: Path | str, text: str = '{"ask": "status"}') -> str:
    process = as_nobody(SAY, str(path), text)
    out, _ = await asyncio.to_thread(process.communicate, None, 20)
    return out.strip()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, but the tests' own not write to."""
    if not os.path.exists(PYTHON):
        pytest.skip(f"other users need {PYTHON}")
    with tempfile.TemporaryDirectory(prefix="netbridge-others-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def open_to_all(paths: Sequence[Path]) -> None:
    for path in paths:
        path.chmod(0o777)


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@contextlib.contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("bits", [0, 0o077])
async def test_the_control_socket(place: Path, bits: int) -> None:
    path = place / "run"
    with umask(bits), Folder(path, owner=0) as folder:
        reservation = folder.reserve()
        control = Control(reservation, lambda **_: {"state": "secret"}, lambda _: pytest.fail("it was stopped"))
        await control.start()
        try:
            files = [path / "0.sock", path / "0.lock"]
            assert [mode(each) for each in (path, *files)] == [0o700, 0o600, 0o600]
            assert await said_by_nobody(files[0]) == "kept out"
            open_to_all([path, *files])
            for text in ('{"ask": "status"}', '{"ask": "stop"}'):
                assert await said_by_nobody(files[0], text) == "heard b''"
            assert (await asyncio.to_thread(ask, folder, 0, "status"))["state"] == "secret"
        finally:
            await control.close()
            reservation.release()


async def test_who_puts_a_socket_of_his_in_our_folder_is_told_nothing(place: Path) -> None:
    with Folder(place / "run", owner=0) as folder:
        reservation = folder.reserve()
        (place / "run").chmod(0o777)
        process = as_nobody(SERVE, str(place / "run/0.sock"))
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "listens\n"
        with pytest.raises(TargetUnreachableError, match=f"user {NOBODY} answers there"):
            await asyncio.to_thread(ask, folder, 0, "status")
        assert await asyncio.to_thread(process.stdout.readline) == "got b''\n"
        process.wait(10)
        process.stdout.close()
        reservation.release()


@pytest.mark.parametrize("bits", [0, 0o077])
async def test_a_links_socket(place: Path, bits: int) -> None:
    reached: list[str] = []

    async def visit(who: str, _source: str, opening: object) -> None:
        with contextlib.suppress(Exception):
            await opening()  # type: ignore[operator]
            reached.append(who)

    path = place / "link.sock"
    with umask(bits):
        async with listening(parse(f"unix:{path}", "listen"), Credentials(None, None, None, None), visit):
            assert mode(path) == 0o600
            assert await said_by_nobody(path) == "kept out"
            open_to_all([path])
            assert await said_by_nobody(path) == "heard b''"
            assert reached == []
            _, writer = await asyncio.open_unix_connection(path)
            async with asyncio.timeout(5):
                while not reached:
                    await asyncio.sleep(0.01)
            writer.close()


@pytest.mark.parametrize("bits", [0, 0o077])
async def test_the_agents_socket_over_there(place: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    with umask(bits):
        made = AuthSocket(str(place / "agent"))
    try:
        assert (mode(place / "agent"), mode(Path(made.path))) == (0o700, 0o600)
        assert await said_by_nobody(made.path) == "kept out"
        open_to_all([place / "agent", Path(made.path)])
        made.listener.setblocking(True)
        talking = asyncio.create_task(said_by_nobody(made.path))
        client = (await asyncio.to_thread(made.listener.accept))[0]
        assert not made.admits(client)
        client.close()
        assert await talking == "heard b''"
        with socket.socket(socket.AF_UNIX) as mine:
            mine.connect(made.path)
            client = made.listener.accept()[0]
            assert made.admits(client)
            client.close()
    finally:
        made.close()


def test_a_runtime_folder_that_another_made_first(place: Path) -> None:
    """In a folder into which everybody writes, its name can be taken: by a folder of theirs, a link, a file."""
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    theirs, link, file = shared / "theirs", shared / "link", shared / "file"
    theirs.mkdir(0o700)
    os.chown(theirs, NOBODY, NOBODY)
    precious = place / "precious"
    precious.mkdir(0o755)
    link.symlink_to(precious)
    file.touch()
    for path, error in ((theirs, NotPermittedError), (link, BridgeError), (file, BridgeError)):
        with pytest.raises(error):
            Folder(path, owner=0)
    assert mode(precious) == 0o755
    assert list(precious.iterdir()) == []


def test_a_runtime_folder_that_is_exchanged_while_it_is_used(place: Path) -> None:
    """What was opened and checked stays in use, whatever its name leads to afterwards."""
    path, elsewhere = place / "run", place / "elsewhere"
    elsewhere.mkdir()
    with Folder(path, owner=0) as folder:
        path.rename(place / "moved")
        path.symlink_to(elsewhere)
        reservation = folder.reserve()
        assert list(elsewhere.iterdir()) == []
        assert os.listdir(place / "moved") == ["0.lock"]
        reservation.release()


def test_a_lock_that_is_a_link_is_not_followed(place: Path) -> None:
    precious = place / "precious"
    precious.write_text("kept")
    with Folder(place / "run", owner=12345) as folder:
        (place / "run/0.lock").symlink_to(precious)
        with pytest.raises(BridgeError, match="symbolic links"):
            folder.reserve()
    assert precious.read_text() == "kept"
    assert precious.stat().st_uid == 0
