"""What befalls a bridge besides lost packets: frozen and killed processes, a full disk, nonsense from its own user.

One at a time, by seed; each is over when its step returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.world import Bridge, World
from tests.world.bridge import NETBRIDGE, environment
from tests.world.machine import Output

from .gate import CONNECTS
from .trouble import Trouble
from .watch import Watch

EVERY = 10.0, 25.0
"""Seconds from the end of one misfortune to the next."""
FROZEN = 0.5, 3.0
"""Seconds a process stands still."""
GONE_ON = 60.0
"""Seconds within which a bridge has gone on after its connection was killed."""
SMALL_DISK = "/run/small"
SMALL = 24 << 20
"""Bytes of the disk that the log and the packet capture are on."""
NONSENSE = (
    b"", b"\n", b"{", b"[]\n", b'{"ask": "fly"}\n', b'{"ask": "status", "flows": -1}\n', b"\xff" * 4000,
    b'{"ask": "watch"}\n', b'{"ask": "trace", "host": "' + b"a" * 3000 + b'"}\n', b'{"ask": "status"}\n' * 50,
)  # fmt: skip


class Misfortunes(Trouble[Callable[[], None]]):
    """One after another happens."""

    name = "misfortunes"
    pause = EVERY
    longest = GONE_ON + 30

    def __init__(self, world: World, bridge: Bridge, watch: Watch, seed: int) -> None:
        super().__init__(seed)
        self.happened: Counter[str] = Counter()
        self._world = world
        self._bridge = bridge
        self._watch = watch

    def table(self) -> list[str]:
        return [f"{count:>6} times {name}" for name, count in sorted(self.happened.items())]

    def things(self) -> list[Callable[[], None]]:
        return [
            self._netbridge_stands_still, self._ssh_stands_still, self._agent_stands_still, self._connection_is_killed,
            self._disk_is_full, self._nonsense_is_asked, self._watcher_is_killed,
        ]  # fmt: skip

    def do(self, thing: Callable[[], None]) -> None:
        name = thing.__name__.strip("_").replace("_", " ")
        try:
            thing()
            self.happened[name] += 1
        except Exception as error:  # whatever it is, it is told in the end, and the next comes
            self.wrong.append(f"{name}: {error!r}"[:1000])

    def _still(self, *processes: int) -> None:
        """The processes stand still for a while."""
        try:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
            time.sleep(self.random.uniform(*FROZEN))
        finally:
            for process in processes:
                for one in (process, *_nsenter(process)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, signal.SIGCONT)

    def _netbridge_stands_still(self) -> None:
        self._still(self._bridge.pid)

    def _ssh_stands_still(self) -> None:
        self._still(*self._connections())

    def _agent_stands_still(self) -> None:
        self._still(*self._watch.agents)

    def _connection_is_killed(self) -> None:
        before = self._count("resumed")
        with CONNECTS.shut():
            for process in self._connections():
                os.kill(process, signal.SIGKILL)
            deadline = time.monotonic() + GONE_ON
            while self._count("resumed") == before:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not resumed after {GONE_ON:g} s")
                time.sleep(0.2)

    def _connections(self) -> list[int]:
        """The codespace's processes that serve an SSH connection each."""
        found = self._world.codespace.processes()
        return [pid for pid, words in found.items() if words.startswith("sshd: ") and "listener" not in words]

    def _count(self, event: str) -> int:
        return sum(record["event"] == event for record in self._bridge.events)

    def _disk_is_full(self) -> None:
        self._shell(f"head -c {SMALL} /dev/zero >{SMALL_DISK}/ballast 2>/dev/null; true").check()
        time.sleep(self.random.uniform(*FROZEN))
        self._shell(f"rm -f {SMALL_DISK}/ballast").check()

    def _nonsense_is_asked(self) -> None:
        """By who may ask: the control socket's other end is root's or the user's own."""
        for path in self._shell("ls -1 /run/netbridge/*.sock 2>/dev/null; true").stdout.split():
            for words in self.random.choices(NONSENSE, k=40):
                with socket.socket(socket.AF_UNIX) as asker:
                    asker.settimeout(1)
                    with contextlib.suppress(OSError):
                        asker.connect(f"/proc/{self._world.laptop.init}/root{path}")
                        asker.sendall(words)
                        asker.recv(100)

    def _watcher_is_killed(self) -> None:
        watcher = self._world.laptop.start(*NETBRIDGE, "status", "--watch", environment=environment())
        time.sleep(self.random.uniform(*FROZEN))
        watcher.kill()

    def _shell(self, script: str) -> Output:
        return self._world.laptop.run("sh", "-c", script)


def _nsenter(process: int) -> list[int]:
    """The nsenter that waits for the process: it stops itself when its child is stopped, and stays so."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        parent = next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))
        return [parent] if Path(f"/proc/{parent}/comm").read_text() == "nsenter\n" else []
    except (OSError, StopIteration):
        return []


def small_disk(world: World) -> list[str]:
    """Mount it on the laptop; the options of `up` that use it."""
    world.laptop.run("sh", "-c", f"mkdir -p {SMALL_DISK} && mount -t tmpfs -o size={SMALL} tmpfs {SMALL_DISK}").check()
    return ["--log-file", f"{SMALL_DISK}/log", "--pcap", f"{SMALL_DISK}/packets.pcapng", "--pcap-size", "8MiB"]
