"""`exec:COMMAND`: every shell that a command may reach, and every way it may not reach one."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netbridge.bridge.errors import BridgeError, TargetLacksError, TargetUnreachableError, UsageError
from netbridge.bridge.transport import greeting, make_transport
from netbridge.bridge.transport.base import Channel, Transport

from .listener import Listener, echo, gone


async def reach(target: str, command: str = "cat") -> tuple[Transport, Channel, list[str]]:
    lines: list[str] = []
    transport = make_transport(target, ssh=None, log=lines.append, interactive=False)
    await transport.connect()
    return transport, await transport.open(command), lines


async def failure(target: str) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(10):
            await reach(target)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "bash -l", "busybox sh", "zsh", "ksh", "csh"])
async def test_shells(shell: str) -> None:
    if shutil.which(shell.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{shell} is not installed")
    quoted = shlex.quote('it\'s $HOME "quoted"')
    transport, channel, _ = await reach(f"exec:{shell}", f"printf %s {quoted}; exec cat")
    listener = Listener(channel)
    sent = b"what follows is not the shell's\nexit 3\n"
    channel.write([sent])
    expected = b'it\'s $HOME "quoted"' + sent
    assert await listener.until(len(expected)) == expected
    channel.close()
    await channel.wait_closed()
    await transport.close()


async def test_megabytes_come_back_equal_although_the_shell_read_the_first_line() -> None:
    _, channel, _ = await reach("exec:sh")
    await echo(channel, 20_000_000)
    channel.close()
    await channel.wait_closed()


async def test_noise_is_for_the_log() -> None:
    target = "exec:sh -c 'echo Welcome; printf \"half a line\"; echo warned >&2; exec sh'"
    _, channel, lines = await reach(target, "echo pure")
    listener = Listener(channel)
    assert await listener.lost is None
    assert bytes(listener.data) == b"pure\n"
    assert "Welcome" in lines
    assert "half a line" in lines
    assert "warned" in lines


async def test_an_exit_status_after_the_greeting_is_the_commands_own() -> None:
    _, channel, _ = await reach("exec:sh", "exit 42")
    assert await Listener(channel).lost is None
    assert await channel.wait_closed() == 42


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("exec:true", TargetUnreachableError, "ended before a shell answered"),
        ("exec:sh -c 'echo no such box >&2; exit 1'", TargetUnreachableError, "no such box"),
        ("exec:no-such-program-here", TargetLacksError, "no program"),
        ("exec:sh -c 'exec no-such-program-here'", TargetLacksError, "did not find"),
    ],
)
async def test_failures(target: str, kind: type[BridgeError], words: str) -> None:
    error = await failure(target)
    assert type(error) is kind
    assert words in str(error)


async def test_a_terminal_in_between_is_refused() -> None:
    if shutil.which("script") is None:
        pytest.skip("script is not installed")
    error = await failure("exec:script -qec sh /dev/null")
    assert isinstance(error, UsageError)
    assert "-t" in error.todo


async def test_what_only_echoes_is_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "PATIENCE", 0.5)
    error = await failure("exec:cat")
    assert isinstance(error, TargetUnreachableError)
    assert "No shell answered" in error.what


async def test_endless_noise_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No shell answered" in (await failure("exec:yes")).what


async def test_a_shell_that_reads_in_blocks_loses_nothing(tmp_path: Path) -> None:
    """A shell that takes as much of its stdin as there is, as dash before 0.5.13: nothing more may be there yet."""
    greedy = tmp_path / "greedy"
    greedy.write_text(
        f"#!{sys.executable} -I\nimport os\n"
        "line = os.read(0, 65536)\nassert line.count(b'\\n') == 1, line\nos.execvp('sh', ['sh', '-c', line.decode()])\n"
    )
    greedy.chmod(0o755)
    _, channel, _ = await reach(f"exec:{greedy}")
    await echo(channel, 1_000_000)
    channel.close()
    await channel.wait_closed()


async def test_run_relays_stdin_stdout_and_status() -> None:
    script = (
        "import asyncio\n"
        "from netbridge.bridge.transport import make_transport\n"
        "async def main():\n"
        "    transport = make_transport('exec:sh', ssh=None, log=print, interactive=False)\n"
        "    await transport.connect()\n"
        "    return await transport.run(['sh', '-c', 'tr a-z A-Z; echo bad >&2; exit 6'])\n"
        "raise SystemExit(asyncio.run(main()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.join(os.getcwd(), "src")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(b"hello " * 50_000)
    assert process.returncode == 6
    assert out == b"HELLO " * 50_000
    assert err == b"bad\n"


async def test_a_cancelled_open_ends_the_command() -> None:
    lines: list[str] = []
    target = "exec:sh -c 'echo $$ >&2; exec sleep 100'"
    transport = make_transport(target, ssh=None, log=lines.append, interactive=False)
    await transport.connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await transport.open("cat")
    assert await gone(int(lines[0]))
