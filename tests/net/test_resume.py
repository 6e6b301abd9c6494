"""A bridge outlives its connection: ssh is killed, frozen, cut; flows go on (known failures 13 and 14)."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, url
from tests.world.machine import Program, children, wait_until
from tests.world.servers import make_big_file

from .conftest import TARGET

pytestmark = [pytest.mark.net, pytest.mark.timeout(180)]

SSHES = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
SIZE = 200_000_000
KILLS = 3


@pytest.fixture(scope="module")
def big(world: World) -> Iterator[tuple[Path, str]]:
    """A file in corp's web folder, and its SHA-256."""
    path = world.web / "resumed"
    make_big_file(path, SIZE)
    with open(path, "rb") as stream:
        yield path, hashlib.file_digest(stream, "sha256").hexdigest()
    path.unlink()


def break_it(world: World, number: int = signal.SIGKILL) -> None:
    """Signal the codespace's end of every SSH connection: the server processes of the sessions."""
    sessions = ssh_sessions(world)
    assert sessions
    for pid in sessions:
        os.kill(pid, number)


def ssh_sessions(world: World) -> list[int]:
    """The processes of the codespace's sshd that serve a connection each."""
    (server,) = [pid for pid, words in world.codespace.processes().items() if "sshd: " in words and "listener" in words]
    return children(server)


def resumed(bridge: Bridge) -> int:
    """How often the bridge went on after its connection broke."""
    return sum(event["event"] == "resumed" for event in bridge.events)


class Psql:
    """An open transaction, from the codespace to corp's database."""

    def __init__(self, world: World) -> None:
        self._out = world.codespace.folder / "psql.out"
        words = ("psql", "-X", "-h", CORP[4], "-U", "postgres", "-At", "-v", "ON_ERROR_STOP=1")
        reading, self._writing = os.pipe()
        with open(self._out, "wb") as sink:
            self._program: Program = world.codespace.start(*words, stdin=reading, stdout=sink)
        os.close(reading)
        self._said = 0
        self.ask("BEGIN; CREATE TEMPORARY TABLE kept (n int) ON COMMIT DROP;")

    def ask(self, statement: str) -> None:
        """One more statement of the transaction, and its answer."""
        self._said += 1
        os.write(self._writing, f"{statement} SELECT 'answer {self._said}';\n".encode())
        wait_until(lambda: f"answer {self._said}\n" in self._out.read_text(), f"psql's answer {self._said}", 30)

    def end(self) -> str:
        """Commit; all that it printed."""
        os.write(self._writing, b"SELECT count(*) FROM kept; COMMIT;\n")
        os.close(self._writing)
        assert self._program.wait(30) == 0
        return self._out.read_text()


@SSHES
def test_killed_again_and_again(
    start: Callable[..., Bridge], world: World, big: tuple[Path, str], ssh: str
) -> None:
    """A download, an upload and a database transaction know nothing of it."""
    path, digest = big
    bridge = start(TARGET, "--ssh", ssh).ready()
    sums, got = world.corp.folder / "sum-resumed", world.codespace.folder / "got-resumed"
    receiver = world.corp.start("sh", "-c", f"nc -l {CORP[4]} 9020 | sha256sum > {sums}")
    wait_until(functools.partial(world.corp.listens, 9020), "nc")
    psql = Psql(world)
    rate = SIZE // 8
    down = world.codespace.start(
        "sh", "-c", f"curl -sS -m 120 --limit-rate {rate} http://{url(CORP[4])}/{path.name} | sha256sum > {got}"
    )
    up = world.codespace.start("sh", "-c", f"pv -qL {rate} {path} | nc -N {CORP[4]} 9020")
    seeds = random.Random(7)
    for kill in range(KILLS):
        time.sleep(seeds.uniform(0.3, 1.5))  # any moment will do
        break_it(world)
        wait_until(lambda: resumed(bridge) == kill + 1, "the bridge goes on", 20)  # noqa: B023
        psql.ask(f"INSERT INTO kept VALUES ({kill});")
    assert down.wait(120) == 0
    assert up.wait(120) == 0
    assert receiver.wait(60) == 0
    assert got.read_text().split()[0] == digest
    assert sums.read_text().split()[0] == digest
    assert f"\n{KILLS}\n" in psql.end()
    assert bridge.event("lost") is None
    assert bridge.stop() == 0
