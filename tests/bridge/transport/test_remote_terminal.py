"""A COMMAND over there on this terminal: its own terminal over there, keys passed raw, settings put back."""

from __future__ import annotations

import fcntl
import shutil
import signal
import struct
import termios

import pytest

from .keyboard import Keyboard
from .server import SshServer

RUN = """
import asyncio
from netbridge.bridge.transport import make_transport

async def main():
    log = lambda line: None
    transport = make_transport({target!r}, ssh={ssh!r}, log=log, interactive=True)
    await transport.connect()
    print("start", flush=True)
    status = await transport.run({argv!r})
    await transport.close()
    print("status", status, flush=True)

asyncio.run(main())
"""

WAYS = [("ssh://good", "openssh"), ("ssh://good", "asyncssh"), ("exec:sh", None)]


def resize(keyboard: Keyboard, rows: int, columns: int) -> None:
    fcntl.ioctl(keyboard.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@pytest.mark.parametrize(("target", "ssh"), WAYS)
def test_keys_status_and_settings(ssh_server: SshServer, target: str, ssh: str | None) -> None:
    script = "trap 'echo caught' INT; test -t 0 && test -t 1 && echo ready; read x; echo got $x; exit 7"
    code = RUN.format(target=target, ssh=ssh, argv=["sh", "-c", script])
    with Keyboard(code, ssh_server.environment()) as keyboard:
        before = keyboard.settings()  # at "start" they may be changed already
        resize(keyboard, 33, 77)
        keyboard.expect("ready")
        keyboard.type("\x03")
        keyboard.expect("caught")
        keyboard.type("keys\n")
        keyboard.expect("got")
        keyboard.expect("status 7")
        assert keyboard.settings() == before
        assert keyboard.end() == 0


@pytest.mark.parametrize(("target", "ssh"), WAYS[:2])
def test_the_size_follows(ssh_server: SshServer, target: str, ssh: str) -> None:
    if shutil.which("stty") is None:
        pytest.skip("stty is not installed")
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done"
    code = RUN.format(target=target, ssh=ssh, argv=["sh", "-c", script])
    with Keyboard(code, ssh_server.environment()) as keyboard:
        resize(keyboard, 33, 77)
        keyboard.expect("33 77")
        resize(keyboard, 44, 88)
        keyboard.expect("44 88")
        keyboard.type("\x03")
        # ssh has one exit status for every signal that ended the command (ssh(1), EXIT STATUS)
        keyboard.expect(f"status {255 if ssh == 'openssh' else 128 + signal.SIGINT}")
        assert keyboard.end() == 0


@pytest.mark.parametrize(("target", "ssh"), WAYS)
def test_a_login_shell(ssh_server: SshServer, target: str, ssh: str | None) -> None:
    code = RUN.format(target=target, ssh=ssh, argv=[])
    with Keyboard(code, {**ssh_server.environment(), "SHELL": "/bin/sh"}) as keyboard:
        keyboard.expect("start")
        keyboard.type("echo an''swer; exit 3\n")
        keyboard.expect("answer")
        keyboard.expect("status 3")
        assert keyboard.end() == 0
