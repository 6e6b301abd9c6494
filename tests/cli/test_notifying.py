"""What a service manager hears of the real program; a datagram socket plays the manager."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbridge.bridge.notify import VARIABLES
from netbridge.bridge.user import parse_environment

from .program import Machine

pytestmark = pytest.mark.net


@pytest.fixture(name="machine")
def own_machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        assert machine.pids() == [], "a process was left behind"


@pytest.fixture(name="manager")
def service_manager(machine: Machine) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(machine.folder / "notify")
        manager.bind(path)
        manager.settimeout(20)
        machine.environment |= {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "500000"}
        yield manager


def until(manager: socket.socket, word: str) -> list[str]:
    """What it hears until a datagram has `word` in it, that one included."""
    heard: list[str] = []
    while not heard or word not in heard[-1].splitlines():
        heard.append(manager.recv(65536).decode())
    return heard


def test_from_the_start_to_the_end(machine: Machine, manager: socket.socket) -> None:
    with machine.running("up", "sandbox", "--", "sleep", "1000") as program:
        heard = until(manager, "READY=1")
        assert heard[0] == "WATCHDOG=1", "it beats from the first moment of the event loop"
        stages = [word for word in heard if word != "WATCHDOG=1"]
        assert stages[:3] == [
            "STATUS=reaching the target …", "STATUS=starting the agent …", "STATUS=setting up TUN, routes and names …",
        ]
        assert stages[3].startswith("STATUS=connected to ")
        assert stages[4:] == ["READY=1\nSTATUS=ready"]
        assert until(manager, "WATCHDOG=1") == ["WATCHDOG=1"]
        program.until(b"running sleep")
        processes = [program.process.pid, *(pid for pid, _ in program.descendants())]
        assert len(processes) > 2
        for pid in processes[1:]:  # its own, as the kernel shows it, is the one it was started with
            environment = parse_environment(Path(f"/proc/{pid}/environ").read_bytes())
            assert not set(environment) & set(VARIABLES), f"process {pid} could speak in our name"
        program.signal(signal.SIGTERM)
        heard = [word for word in until(manager, "STOPPING=1") if word != "WATCHDOG=1"]
        assert heard == ["STOPPING=1\nSTATUS=stopping: SIGTERM came"]
        assert program.ended() == 143
        last = manager.recv(65536).decode()
        while last == "WATCHDOG=1":
            last = manager.recv(65536).decode()
        assert last.startswith("STATUS=stopped after ")


def test_a_failure_is_its_last_word(machine: Machine, manager: socket.socket) -> None:
    assert machine.netbridge("up", "exec:no-such-program").returncode == 5
    manager.setblocking(False)
    heard = []
    try:
        while True:
            heard.append(manager.recv(65536).decode())
    except BlockingIOError:
        pass
    assert "no-such-program" in heard[-1]
    assert not [word for word in heard if "READY" in word]


def test_a_bridge_that_is_stopped_does_not_beat(machine: Machine, manager: socket.socket) -> None:
    """SIGSTOP stands for a loop that hangs."""
    with machine.running("up", "sandbox", "--", "sleep", "1000") as program:
        until(manager, "READY=1")
        os.kill(program.process.pid, signal.SIGSTOP)
        manager.settimeout(1)  # twice the watchdog's time
        with pytest.raises(TimeoutError):
            while True:
                manager.recv(65536)
        os.kill(program.process.pid, signal.SIGCONT)
        manager.settimeout(10)
        assert until(manager, "WATCHDOG=1")
        program.signal(signal.SIGTERM)
        assert program.ended() == 143
