"""A COMMAND that owns the terminal, on a real pseudo-terminal: keys, job control, settings, ends."""

from __future__ import annotations

import os
import signal

import pytest

from .keyboard import Keyboard
from .listener import running

RUN = """
import asyncio, os, signal, sys
from netbridge.bridge.transport.terminal import run_on_terminal
from netbridge.bridge.user import helper_user

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: print("BRIDGE GOT SIGINT", flush=True))
    task = asyncio.ensure_future(run_on_terminal({argv!r}, user=helper_user()))
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        status = await task
    except asyncio.CancelledError:
        status = "cancelled"
    print("status", status, "foreground", os.tcgetpgrp(0) == os.getpgrp(), flush=True)

asyncio.run(main())
"""


def run(*argv: str) -> Keyboard:
    return Keyboard(RUN.format(argv=list(argv)))


def test_it_reads_and_its_status_comes_back() -> None:
    with run("sh", "-c", "echo ready; read x; echo got $x; exit 7") as keyboard:
        keyboard.expect("ready")
        keyboard.given_away()  # the command may speak before it is
        keyboard.type("keys\n")
        keyboard.expect("got keys")
        keyboard.expect("status 7 foreground True")
        assert keyboard.end() == 0


def test_ctrl_c_is_the_commands() -> None:
    with run("sh", "-c", "trap 'echo caught' INT; echo ready; read x; echo end; exit 3") as keyboard:
        keyboard.expect("ready")
        keyboard.asks()
        keyboard.type("\x03")
        keyboard.expect("caught")
        keyboard.type("\n")
        before = keyboard.expect("status 3 foreground True")
        assert "BRIDGE" not in before
        assert keyboard.end() == 0


def test_ctrl_c_ends_a_command_that_does_not_catch_it() -> None:
    with run("sleep", "100") as keyboard:
        keyboard.given_away()
        keyboard._read(0.3)
        keyboard.type("\x03")
        assert "BRIDGE" not in keyboard.expect(f"status {128 + signal.SIGINT} foreground True")
        assert keyboard.end() == 0


def test_ctrl_z_stops_both_and_continuing_continues_both() -> None:
    # A shell of its own above us: a group that no shell looks after is never stopped (POSIX, orphaned groups).
    inner = RUN.format(argv=["sh", "-c", "echo ready; read x; echo got $x; exit 4"])
    code = f"""
import os, signal, sys
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", {inner!r}])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
_, status = os.waitpid(pid, os.WUNTRACED)
assert os.WIFSTOPPED(status), status
os.tcsetpgrp(0, os.getpgrp())
print("SHELL PROMPT", flush=True)
input()
os.tcsetpgrp(0, pid)
os.killpg(pid, signal.SIGCONT)
_, status = os.waitpid(pid, 0)
print("SHELL END", os.waitstatus_to_exitcode(status), flush=True)
"""
    with Keyboard(code) as keyboard:
        keyboard.expect("ready")
        keyboard.type("\x1a")
        keyboard.expect("SHELL PROMPT")
        keyboard.type("fg\n")
        keyboard._read(0.5)
        keyboard.type("again\n")
        keyboard.expect("got again")
        keyboard.expect("status 4 foreground True")
        keyboard.expect("SHELL END 0")
        assert keyboard.end() == 0


def test_the_terminals_settings_come_back() -> None:
    with run("sh", "-c", "echo ready; read x; stty raw -echo; kill -KILL $$") as keyboard:
        keyboard.expect("ready")
        before = keyboard.settings()
        keyboard.type("\n")
        keyboard.expect(f"status {128 + signal.SIGKILL} foreground True")
        assert keyboard.settings() == before
        assert keyboard.end() == 0


@pytest.mark.parametrize("command", ["exec sleep 100", "trap '' HUP TERM; while :; do sleep 1; done"])
def test_a_bridge_that_stops_ends_its_command(command: str) -> None:
    with run("sh", "-c", f"echo $$ ready; stty raw; {command}") as keyboard:
        cooked = keyboard.settings()
        pid = int(keyboard.expect(" ready").split()[-1])
        keyboard._read(0.3)
        os.kill(keyboard.pid, signal.SIGTERM)
        keyboard.expect("status cancelled foreground True")
        assert keyboard.end() == 0
        assert not running(pid)
        assert keyboard.settings() == cooked


def test_an_interactive_shell_gets_job_control() -> None:
    with run("bash", "--norc", "-i") as keyboard:
        keyboard.type("PS1='hello'' > '\n")
        keyboard.expect("hello > ")
        keyboard.type("sh -c 'echo run''ning; exec sleep 100'\n")
        keyboard.expect("running")
        keyboard.type("\x1a")
        keyboard.expect("Stopped")
        # bash does not wait for a job that it still takes for stopped, and does not exit while it has one
        keyboard.type("kill %1; while jobs %1 >/dev/null 2>&1; do sleep 0.05; done; echo still $((40+2))\n")
        keyboard.expect("still 42")
        keyboard.type("exit 5\n")
        keyboard.expect("status 5 foreground True")
        assert keyboard.end() == 0
