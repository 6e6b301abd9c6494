"""Both SSHes against a real sshd: what they carry, whom they trust, and how each failure is told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError, UsageError
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.base import Channel, Transport

from .listener import Listener, echo, gone, running
from .server import SshServer

SSHES = ("openssh", "asyncssh")


@pytest.fixture(params=SSHES)
def ssh(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def at_home(ssh_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ssh_server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("SSH_AUTH_SOCK", "SUDO_UID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)


async def reach(target: str, ssh: str, lines: list[str], command: str = "cat") -> tuple[Transport, Channel]:
    transport = make_transport(target, ssh=ssh, log=lines.append, interactive=False)
    await transport.connect()
    return transport, await transport.open(command)


async def failure(target: str, ssh: str, lines: list[str]) -> BridgeError:
    """How the attempt fails, in either of the two steps; and it leaves no child behind."""
    transport = make_transport(target, ssh=ssh, log=lines.append, interactive=False)
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(20):
            await transport.connect()
            await transport.open("cat")
    await transport.close()
    assert caught.value.what
    assert caught.value.todo
    assert str(caught.value).isprintable()
    return caught.value


async def test_two_hundred_megabytes_come_back_equal(ssh: str, lines: list[str]) -> None:
    transport, channel = await reach("ssh://good", ssh, lines)
    assert transport.peer_address == "127.0.0.1"
    await echo(channel, 200_000_000)
    channel.close()
    async with asyncio.timeout(5):
        await channel.wait_closed()
        await transport.close()


async def test_several_channels_and_exit_statuses(ssh: str, lines: list[str]) -> None:
    transport, channel = await reach("ssh://good", ssh, lines)
    other = await transport.open("echo out; echo err >&2; exit 7")
    listener = Listener(other)
    assert await listener.lost is None
    assert bytes(listener.data) == b"out\n"
    assert await other.wait_closed() == 7
    assert "err" in other.diagnostics()
    assert "err" in lines
    await echo(channel, 100_000)
    channel.close()
    await channel.wait_closed()
    await transport.close()


async def test_the_command_over_there_sees_the_end(ssh: str, lines: list[str], tmp_path: Path) -> None:
    transport, channel = await reach("ssh://good", ssh, lines, f"echo $$; cat; touch {tmp_path}/ended")
    listener = Listener(channel)
    await listener.until(2)
    channel.close()
    await channel.wait_closed()
    await transport.close()
    for _ in range(200):
        if (tmp_path / "ended").exists():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the command did not see the end of its input")


async def test_noise_before_the_command_is_for_the_log(ssh: str, lines: list[str]) -> None:
    transport, channel = await reach("ssh://noisy", ssh, lines, "echo pure; cat")
    listener = Listener(channel)
    if ssh == "openssh":  # asyncssh's user scans for the agent's own greeting
        assert await listener.until(5) == b"pure\n"
        assert "Welcome to this machine!" in lines
        assert any("It has 3 updates." in line for line in lines)
    else:
        while b"pure\n" not in listener.data:
            await listener.news()
    assert "Authorised use only" in lines
    assert all(line.isprintable() for line in lines)
    channel.close()
    await channel.wait_closed()
    await transport.close()


@pytest.mark.parametrize("host", ["proxied", "jumped"])
async def test_through_another_host(ssh: str, lines: list[str], host: str) -> None:
    transport, channel = await reach(f"ssh://{host}", ssh, lines)
    await echo(channel, 3_000_000)
    channel.close()
    await channel.wait_closed()
    await transport.close()


async def test_a_key_that_only_the_agent_can_use(ssh: str, lines: list[str], ssh_server: SshServer) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", ssh_server.agent], stdout=subprocess.DEVNULL)
    try:
        while not ssh_server.agent.exists():
            await asyncio.sleep(0.02)
        answer = ssh_server.folder / "answer"
        answer.write_text("#!/bin/sh\necho open sesame\n")
        answer.chmod(0o755)
        asked = {"SSH_AUTH_SOCK": str(ssh_server.agent), "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
        add = ["ssh-add", "-q", str(ssh_server.ssh / "locked")]
        subprocess.run(add, env={**os.environ, **asked}, check=True, stdin=subprocess.DEVNULL)
        transport, channel = await reach("ssh://agent", ssh, lines)
        await echo(channel, 10_000)
        channel.close()
        await channel.wait_closed()
        await transport.close()
    finally:
        agent.terminate()
        agent.wait()
        ssh_server.agent.unlink(missing_ok=True)


async def test_a_connection_that_dies_is_told_as_lost(ssh: str, lines: list[str], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    transport, channel = await reach("ssh://good", ssh, lines, f"echo $PPID >{pid_file}; cat")
    listener = Listener(channel)
    while not pid_file.exists() or not pid_file.read_text():
        await asyncio.sleep(0.02)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    async with asyncio.timeout(10):
        error = await listener.lost
    assert isinstance(error, TargetUnreachableError)
    assert "was lost" in error.what
    channel.close()
    await channel.wait_closed()
    await transport.close()


@pytest.mark.parametrize(
    ("host", "kind", "words"),
    [
        ("wrongkey", NotPermittedError, "does not let you in"),
        ("locked", NotPermittedError, "does not let you in"),
        ("unknown", NotPermittedError, "is not known"),
        ("changed", NotPermittedError, "is not the one that is known"),
        ("refused", TargetUnreachableError, "does not accept connections"),
        ("closes", TargetUnreachableError, "closed the connection before"),
        ("silent", TargetUnreachableError, ""),
        ("nowhere", TargetUnreachableError, "There is no host"),
        ("badproxy", TargetUnreachableError, "closed the connection before"),
    ],
)
async def test_failures(
    ssh: str, lines: list[str], host: str, kind: type[BridgeError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netbridge.bridge.transport.ssh_settings.LOGIN_PATIENCE", 2)
    before = set(os.listdir("/proc"))
    error = await failure(f"ssh://{host}", ssh, lines)
    assert type(error) is kind
    assert words in error.what
    left = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit() and _parent(int(pid)) == os.getpid()]
    assert not [pid for pid in left if running(int(pid))]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def test_what_to_do_about_an_unknown_key_names_the_commands(
    ssh: str, lines: list[str], ssh_server: SshServer
) -> None:
    error = await failure(f"ssh://me@unknown:{ssh_server.port}", ssh, lines)
    assert f"`ssh -p {ssh_server.port} me@unknown`" in error.todo
    assert "ssh-keyscan" in error.todo
    assert (ssh_server.ssh / "known_nobody").read_text() == ""


async def test_a_changed_key_is_never_overwritten(ssh: str, lines: list[str], ssh_server: SshServer) -> None:
    before = (ssh_server.ssh / "known_other").read_text()
    error = await failure("ssh://changed", ssh, lines)
    assert "ssh-keygen -R" in error.todo
    assert (ssh_server.ssh / "known_other").read_text() == before


async def test_strict_host_key_checking_is_the_users_choice(ssh: str, lines: list[str], ssh_server: SshServer) -> None:
    remembered = ssh_server.ssh / "known_trusting"
    remembered.unlink(missing_ok=True)
    for host in ("trusting", "careless", "trusting"):
        transport, channel = await reach(f"ssh://{host}", ssh, lines)
        channel.close()
        await channel.wait_closed()
        await transport.close()
    key = " ".join((ssh_server.folder / "host.pub").read_text().split()[:2])
    assert remembered.read_text().count("\n") == 1
    assert f"[127.0.0.1]:{ssh_server.port} {key}" in remembered.read_text()


async def test_run_gives_the_exit_status(ssh: str, lines: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    transport = make_transport("ssh://good", ssh=ssh, log=lines.append, interactive=False)
    await transport.connect()
    status = await transport.run(["sh", "-c", 'echo "$1" $#; echo wrong >&2; exit 5', "sh", "a 'b  c"])
    await transport.close()
    out, err = capfd.readouterr()
    assert status == 5
    assert out == "a 'b  c 1\n"
    assert "wrong" in err


async def test_a_cancelled_login_leaves_nothing(ssh: str, lines: list[str]) -> None:
    transport = make_transport("ssh://silent", ssh=ssh, log=lines.append, interactive=False)

    async def log_in() -> None:
        await transport.connect()
        await transport.open("cat")

    before = {pid for pid in os.listdir("/proc") if pid.isdigit()}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await log_in()
    await transport.close()
    for pid in {pid for pid in os.listdir("/proc") if pid.isdigit()} - before:
        if _parent(int(pid)) == os.getpid():
            assert await gone(int(pid))


async def test_configuration_that_is_broken(
    ssh: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host x\n  Port many\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/.ssh/config "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert isinstance(await failure("ssh://x", ssh, lines), UsageError)


async def test_no_ssh_program(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = await failure("ssh://good", "openssh", lines)
    assert isinstance(error, TargetLacksError)
    assert "--ssh asyncssh" in error.todo


async def test_proxy_jump_in_a_circle(lines: list[str]) -> None:
    assert isinstance(await failure("ssh://round", "asyncssh", lines), UsageError)
