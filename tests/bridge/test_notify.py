"""What a service manager hears, on a real datagram socket that plays systemd's."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from netbridge.bridge import user as user_module
from netbridge.bridge.notify import VARIABLES, Notify
from netbridge.bridge.user import helper_user


class Listener:
    """The manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.settimeout(5)

    def environment(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "KEPT": "yes", **more}

    def heard(self) -> str:
        return self.socket.recv(65536).decode()

    async def hears(self) -> str:
        """The next word, while the event loop goes on."""
        return await asyncio.to_thread(self.heard)


@pytest.fixture(name="manager", params=["path", "abstract"])
def service_manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@netbridge-test-{os.getpid()}"
    listener = Listener(address)
    yield listener
    listener.socket.close()


def test_words_arrive_and_the_variables_are_gone(manager: Listener) -> None:
    environment = manager.environment(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))
    with closing(Notify(environment)) as notify:
        assert environment == {"KEPT": "yes"}
        assert notify.watchdog == 30
        notify.tell(READY="1", STATUS="ready")
        notify.tell()
        notify.tell(STOPPING="1")
    assert manager.heard() == "READY=1\nSTATUS=ready"
    assert manager.heard() == "STOPPING=1"


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon", "²"])
def test_without_a_time_there_is_no_watchdog(tmp_path: Path, usec: str) -> None:
    with closing(Notify({"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": usec})) as notify:
        assert notify.watchdog == 0


def test_a_watchdog_of_another_process_is_not_ours(tmp_path: Path) -> None:
    other = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getppid())}
    with closing(Notify(other)) as notify:
        assert notify.watchdog == 0
    assert other == {}


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
async def test_without_a_socket_of_ours_nothing_is_done(address: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Notify({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"}) as notify:
        notify.tell(READY="1")
        assert notify.watchdog == 0
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_manager_that_went_away_is_no_failure(tmp_path: Path) -> None:
    with closing(Notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")})) as notify:
        notify.tell(READY="1")


async def test_it_beats_at_half_the_time(manager: Listener) -> None:
    with closing(Notify(manager.environment(WATCHDOG_USEC="400000"))) as notify, notify:
        began = time.monotonic()
        for _ in range(3):
            assert await manager.hears() == "WATCHDOG=1"
        assert 0.4 <= time.monotonic() - began < 2, "at once, and twice after 0.2 s"


async def test_a_loop_that_hangs_does_not_beat(manager: Listener) -> None:
    with closing(Notify(manager.environment(WATCHDOG_USEC="20000"))) as notify, notify:
        assert manager.heard() == "WATCHDOG=1"
        manager.socket.settimeout(0.2)  # ten times the watchdog; the wait itself is what hangs the loop
        with pytest.raises(TimeoutError):
            manager.heard()
        manager.socket.settimeout(5)
        assert await manager.hears() == "WATCHDOG=1", "and it goes on with the loop"


async def test_no_beat_after_the_loop(manager: Listener) -> None:
    with closing(Notify(manager.environment(WATCHDOG_USEC="20000"))) as notify:
        with notify:
            assert await manager.hears() == "WATCHDOG=1"
        manager.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                manager.heard()
        manager.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            await manager.hears()


async def test_a_manager_that_is_busy_gets_it_later(manager: Listener) -> None:
    with closing(Notify(manager.environment())) as notify, notify:
        crowd = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            try:
                while crowd < 100_000:
                    other.sendto(b"crowd", manager.address.replace("@", "\0", 1))
                    crowd += 1
            except BlockingIOError:
                pass
        notify.tell(READY="1")
        for _ in range(crowd):
            assert manager.heard() == "crowd"
        assert await manager.hears() == "READY=1"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")
def test_sudos_own_variables_go_to_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that runs `sudo netbridge`: the helpers' environment is taken from the sudo process."""
    monkeypatch.setattr(user_module, "_environment_of_sudo", lambda: dict.fromkeys(VARIABLES, "x") | {"A": "b"})
    environment = helper_user({"SUDO_UID": "65534", "SUDO_GID": "65534"}).environment
    assert environment["A"] == "b"
    assert not set(VARIABLES) & set(environment)
