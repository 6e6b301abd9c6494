"""Questions on the terminal."""

from __future__ import annotations

import pytest

from netbridge.bridge.transport.ssh_settings import CAN_UNLOCK

from .keyboard import Keyboard
from .server import SshServer

ASK = """
import asyncio, signal
from netbridge.bridge.transport.ask import ask

async def main():
    signal.signal(signal.SIGINT, lambda *_: print("SIGINT", flush=True))
    print("answer", repr(await ask("Secret? ", echo={echo})), flush=True)

asyncio.run(main())
"""


def test_an_answer_that_is_not_shown() -> None:
    with Keyboard(ASK.format(echo=False)) as keyboard:
        keyboard.expect("Secret? ")
        keyboard.type("open sesame\n")
        assert "sesame" not in keyboard.expect("answer '")
        keyboard.expect("open sesame'")
        assert keyboard.end() == 0


def test_an_answer_that_is_shown() -> None:
    with Keyboard(ASK.format(echo=True)) as keyboard:
        keyboard.expect("Secret? ")
        keyboard.type("yes\n")
        assert "yes" in keyboard.expect("answer 'yes'")


def test_ctrl_c_ends_the_question_and_is_then_a_signal() -> None:
    with Keyboard(ASK.format(echo=False)) as keyboard:
        keyboard.expect("Secret? ")
        before = keyboard.settings()
        keyboard.type("\x03")
        keyboard.expect("SIGINT")
        keyboard.expect("answer None")
        assert keyboard.settings() != before  # echo is on again
        assert keyboard.end() == 0


def test_no_terminal_no_question() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
    with Keyboard(code.replace("sys.argv[1]", repr(ASK.format(echo=True)))) as keyboard:
        keyboard.expect("answer None")
        assert keyboard.end() == 0


LOG_IN = """
import asyncio, sys
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.transport import make_transport

async def main():
    log = lambda line: print("LOG", line, flush=True)
    transport = make_transport("ssh://{host}", ssh="{ssh}", log=log, interactive=True)
    try:
        await transport.connect()
        channel = await transport.open("cat")
        print("LOGGED IN", flush=True)
        channel.close()
        await channel.wait_closed()
    except BridgeError as error:
        print("FAILED", type(error).__name__, error, flush=True)
    finally:
        await transport.close()

asyncio.run(main())
"""


def log_in(host: str, ssh: str, server: SshServer) -> Keyboard:
    return Keyboard(LOG_IN.format(host=host, ssh=ssh), {**server.environment(), "SSH_AUTH_SOCK": ""})


def test_an_unknown_host_key_is_asked_about_and_remembered(ssh_server: SshServer) -> None:
    for ssh in ("asyncssh", "openssh"):
        known = ssh_server.ssh / "known_asked"
        known.unlink(missing_ok=True)
        with log_in("asking", ssh, ssh_server) as keyboard:
            assert "SHA256:" in keyboard.expect("continue connecting")
            keyboard.type("yes\n")
            keyboard.expect("LOGGED IN")
            assert keyboard.end() == 0
        assert f"[127.0.0.1]:{ssh_server.port} ssh-ed25519 " in known.read_text()
        with log_in("asking", ssh, ssh_server) as keyboard:
            assert "continue connecting" not in keyboard.expect("LOGGED IN")
            assert keyboard.end() == 0


def test_an_unknown_host_key_that_is_not_taken(ssh_server: SshServer) -> None:
    for ssh in ("asyncssh", "openssh"):
        known = ssh_server.ssh / "known_asked"
        known.unlink(missing_ok=True)
        with log_in("asking", ssh, ssh_server) as keyboard:
            keyboard.expect("continue connecting")
            keyboard.type("no\n")
            keyboard.expect("FAILED NotPermittedError")
            assert keyboard.end() == 0
        assert not known.exists() or not known.read_text()


@pytest.mark.parametrize("ssh", ["asyncssh", "openssh"])
def test_a_locked_key_asks_for_its_passphrase(ssh_server: SshServer, ssh: str) -> None:
    if ssh == "asyncssh" and not CAN_UNLOCK:
        with log_in("locked", ssh, ssh_server) as keyboard:
            keyboard.expect("bcrypt is missing")
        pytest.skip("asyncssh cannot unlock keys: the Python package bcrypt is not installed")
    with log_in("locked", ssh, ssh_server) as keyboard:
        keyboard.expect("assphrase for")
        keyboard.type("open sesame\n")
        assert "sesame" not in keyboard.expect("LOGGED IN")
        assert keyboard.end() == 0


def test_ctrl_c_does_not_end_an_ssh_that_is_logged_in(ssh_server: SshServer) -> None:
    code = LOG_IN.format(host="good", ssh="openssh").replace(
        "        channel.close()",
        "        import signal\n"
        "        signal.signal(signal.SIGINT, lambda *_: print('SIGINT', flush=True))\n"
        "        print('HANDLED', flush=True)\n"
        "        await asyncio.sleep(1)\n"
        "        print('ALIVE', channel.child.status, flush=True)\n"
        "        channel.close()",
    )
    with Keyboard(code, {**ssh_server.environment(), "SSH_AUTH_SOCK": ""}) as keyboard:
        keyboard.expect("HANDLED")
        keyboard.type("\x03")
        keyboard.expect("SIGINT")
        keyboard.expect("ALIVE None")
        assert keyboard.end() == 0
