"""Links to a program at the other end of pipes and of SSH sessions: a child of ours, and one of a real sshd's."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from netbridge.stack import Stack
from netbridge.stack.link import Greeting, LinkError, ssh_link, stream_link
from tests.stack.link.pairs import LOOPBACK, hang_up, tcp_streams
from tests.stack.link.test_links import FAR4

ROOT = Path(__file__).resolve().parents[3]
FAR_END = (sys.executable, "-m", "tests.stack.link.far_end")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
COMMAND = f"cd {ROOT} && PYTHONPATH={ROOT}/src:{ROOT} {' '.join(FAR_END)}"


@asynccontextmanager
async def child(*argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        process._transport.close()  # type: ignore[attr-defined]


async def test_a_child_over_its_pipes() -> None:
    async with child(*FAR_END) as process:
        assert process.stdout and process.stdin and process.stderr
        link = await stream_link(process.stdout, process.stdin, timeout=15)
        async with Stack(link, ["10.0.0.1/24", "fd00::1/64"]) as stack:
            await talk(stack)
        await link.wait_closed()
        assert await process.wait() == 0
        said = (await process.stderr.read()).decode().splitlines()
        assert said == ["what is printed goes to standard error", "this as well, or the link would break"]


async def talk(stack: Stack) -> None:
    """With the far end, whose server is already there."""
    assert await stack.ping(FAR4, timeout=10) < 10
    reader, writer = await stack.open_connection(FAR4, 7)
    data = os.urandom(500_000)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        assert await reader.read() == data
    writer.close()


async def test_a_child_that_is_killed() -> None:
    async with child(*FAR_END) as process:
        assert process.stdout and process.stdin
        link = await stream_link(process.stdout, process.stdin, timeout=15)
        stack = Stack(link, ["10.0.0.1/24"])
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        stack.on_lost = lost.set_result
        async with stack:
            process.kill()
            assert isinstance(await lost, LinkError)
        await link.wait_closed()


@pytest.mark.parametrize(("argv", "what"), [
    (("cat",), "is an echo"),
    (("echo", "hello there"), "it said 'hello there\\\\n'"),
    (("true",), "before"),
])
async def test_children_that_are_no_far_end(argv: tuple[str, ...], what: str) -> None:
    async with child(*argv) as process:
        assert process.stdout and process.stdin
        with pytest.raises(LinkError, match=what):
            await stream_link(process.stdout, process.stdin, timeout=5)


async def test_the_far_end_says_of_a_stranger_what_it_is() -> None:
    async with child(*FAR_END) as process:
        _, said = await process.communicate(b"GET / HTTP/1.1\r\n\r\n")
        assert process.returncode == 1
        assert b"far end: the other end is an HTTP client, not a link" in said


async def test_a_writer_without_a_buffer_to_ask() -> None:
    class Writer:
        def write(self, data: bytes) -> None: ...
        async def drain(self) -> None: ...
        def close(self) -> None: ...

    near, far = await tcp_streams()
    far[1].write(Greeting().emit())
    with pytest.raises(TypeError, match="neither a transport nor a channel: use call_link"):
        await stream_link(near[0], Writer())  # type: ignore[arg-type]
    await hang_up(near, far)


# -- OpenSSH

sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a real sshd on loopback for this very user, and the key that it takes."""
    if sshd is None:
        pytest.skip("no sshd here")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
    (folder / "config").write_text(
        f"Port {port}\nListenAddress {LOOPBACK}\nHostKey {folder}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/client.pub\nPermitRootLogin yes\nUseDNS no\n"
        f"Subsystem netbridge-link /bin/sh -c '{COMMAND}'\n"
    )
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((LOOPBACK, port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.02)
        yield port, folder
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def connected(server: tuple[int, Path]) -> AsyncIterator[asyncssh.SSHClientConnection]:
    port, folder = server
    async with asyncssh.connect(
        LOOPBACK, port, config=None, client_keys=[str(folder / "client")], agent_path=None,
        known_hosts=([asyncssh.read_public_key(str(folder / "host.pub"))], [], []),
    ) as connection:
        yield connection


@pytest.mark.parametrize("way", ["command", "subsystem"])
async def test_a_stack_behind_a_real_sshd(server: tuple[int, Path], way: str) -> None:
    async with connected(server) as connection:
        if way == "command":
            link = await ssh_link(connection, COMMAND, timeout=15)
        else:
            link = await ssh_link(connection, subsystem="netbridge-link", timeout=15)
        async with Stack(link, ["10.0.0.1/24", "fd00::1/64"]) as stack:
            await talk(stack)
        await link.wait_closed()


async def test_commands_that_are_no_far_end(server: tuple[int, Path]) -> None:
    async with connected(server) as connection:
        with pytest.raises(LinkError, match=r"closed the connection before it greeted; .*not found"):
            await ssh_link(connection, "no-such-program --link")
        with pytest.raises(LinkError, match="is an echo"):
            await ssh_link(connection, "cat")
        with pytest.raises(LinkError, match="it said 'Welcome!"):
            await ssh_link(connection, "echo Welcome!; sleep 1")
        with pytest.raises(LinkError, match="the SSH server refuses it"):
            await ssh_link(connection, subsystem="no-such-subsystem")
        with pytest.raises(ValueError, match="a command or a subsystem"):
            await ssh_link(connection)


async def test_the_connection_breaks_under_the_link(server: tuple[int, Path]) -> None:
    async with connected(server) as connection:
        link = await ssh_link(connection, COMMAND, timeout=15)
        stack = Stack(link, ["10.0.0.1/24"])
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        stack.on_lost = lost.set_result
        async with stack:
            connection.abort()
            assert isinstance(await lost, LinkError)
        await link.wait_closed()
