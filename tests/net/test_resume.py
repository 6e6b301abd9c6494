"""A bridge outlives its connection: ssh is killed, frozen, cut; flows go on (known failures 13 and 14).

`make survive` runs this with NETBRIDGE_TEST_LONG: 2 GB and twenty kills, a minute of frost, three minutes of silence.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pty
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, SSH_PORT, url
from tests.world.bridge import NETBRIDGE
from tests.world.machine import Program, wait_until
from tests.world.servers import make_big_file
from tests.world.snapshot import Snapshot
from tests.world.sshd import serve

from .conftest import TARGET
from .test_traces import assert_restored

LONG = bool(os.environ.get("NETBRIDGE_TEST_LONG"))
pytestmark = [pytest.mark.net, pytest.mark.timeout(900 if LONG else 180)]

SSHES = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
SOON_ENOUGH = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"] if LONG else ["openssh"])
"""What takes its time, and looks at this side of the link."""
SIZE = 2_000_000_000 if LONG else 150_000_000
KILLS = 20 if LONG else 3
FROZEN = 60.0 if LONG else 12.0
CUT = 180.0 if LONG else 15.0


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
    """The processes of the codespace's SSH servers that serve a connection each."""
    found = world.codespace.processes()
    return [pid for pid, words in found.items() if words.startswith("sshd: ") and "listener" not in words]


def resumed(bridge: Bridge) -> int:
    """How often the bridge went on after its connection broke."""
    return sum(event["event"] == "resumed" for event in bridge.events)


def tried(bridge: Bridge, times: int) -> dict[str, Any] | None:
    """The word of the try with this number, when that failed."""
    last = bridge.event("reconnecting")
    return last if last and last["tries"] >= times else None


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


class Shell:
    """An interactive ssh, from the codespace through the bridge to corp, on a terminal."""

    def __init__(self, world: World) -> None:
        key = world.laptop.folder / "home/.ssh/id_ed25519"
        self._terminal, theirs = pty.openpty()
        self._program = world.codespace.start(
            "ssh", "-tt", "-i", key, "-p", str(SSH_PORT), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", f"root@{CORP[4]}", "sh", stdin=theirs, stdout=theirs,
        )  # fmt: skip
        os.close(theirs)
        self._said = b""
        self._count = 0
        self.ask()

    def ask(self) -> None:
        """A command, and what it prints; not what the terminal echoes."""
        self._count += 1
        os.write(self._terminal, f"echo answer $((1000 + {self._count}))\n".encode())
        wanted = f"answer {1000 + self._count}\r\n".encode()
        deadline = time.monotonic() + 30
        while wanted not in self._said:
            assert time.monotonic() < deadline, self._said
            self._said += os.read(self._terminal, 65536)

    def end(self) -> None:
        os.write(self._terminal, b"exit\n")
        assert self._program.wait(10) == 0
        os.close(self._terminal)


@pytest.fixture(scope="module")
def corps_sshd(world: World) -> None:
    serve(world.corp, world.laptop.folder / "home/.ssh/id_ed25519.pub", CORP[4])
    wait_until(functools.partial(world.corp.listens, SSH_PORT), "corp's sshd")


class Work:
    """What goes on while the connection breaks: files each way, a database transaction, an interactive ssh."""

    def __init__(self, world: World, file: Path, digest: str, seconds: float) -> None:
        """`seconds`: how long the files take at least."""
        self._digest = digest
        self._sums, self._got = world.corp.folder / "sum-resumed", world.codespace.folder / "got-resumed"
        self._receiver = world.corp.start("sh", "-c", f"nc -l {CORP[4]} 9020 | sha256sum > {self._sums}")
        wait_until(functools.partial(world.corp.listens, 9020), "nc")
        self.psql = Psql(world)
        self.shell = Shell(world)
        rate = int(SIZE / seconds)
        fetch = f"curl -sS --limit-rate {rate} http://{url(CORP[4])}/{file.name} | sha256sum > {self._got}"
        self._down = world.codespace.start("sh", "-c", fetch)
        self._up = world.codespace.start("sh", "-c", f"pv -qL {rate} {file} | nc -N {CORP[4]} 9020")
        self._steps = 0

    def goes_on(self) -> None:
        """The transaction and the shell answer."""
        self._steps += 1
        self.psql.ask(f"INSERT INTO kept VALUES ({self._steps});")
        self.shell.ask()

    def ends_well(self) -> None:
        """Everything arrives, once and whole."""
        for program in (self._down, self._up, self._receiver):
            assert program.wait(300) == 0
        assert self._got.read_text().split()[0] == self._digest
        assert self._sums.read_text().split()[0] == self._digest
        assert f"\n{self._steps}\n" in self.psql.end()
        self.shell.end()


def bytes_arrived(world: World) -> int:
    """Bytes of packets that came out of the TUN over there."""
    return int(world.codespace.shell("cat /sys/class/net/nb0/statistics/rx_bytes").check().stdout)


def retransmitted(bridge: Bridge, world: World) -> int:
    """Segments sent again, by the bridge's stack and by the codespace's kernel."""
    counters = world.codespace.shell("cat /proc/net/snmp").check().stdout.splitlines()
    names, values = (line.split() for line in counters if line.startswith("Tcp:"))
    return int(bridge.status()["counters"]["tcp"]["retransmitted"]) + int(values[names.index("RetransSegs")])


@SSHES
def test_killed_again_and_again(
    start: Callable[..., Bridge], world: World, big: tuple[Path, str], corps_sshd: None, ssh: str
) -> None:
    """Downloads, uploads, a database transaction and a shell know nothing of it."""
    bridge = start(TARGET, "--ssh", ssh).ready()
    work = Work(world, *big, seconds=2.5 * KILLS)
    seeds = random.Random(7)
    for kill in range(KILLS):
        time.sleep(seeds.uniform(0.3, 1.5))  # any moment will do
        break_it(world)
        wait_until(lambda: resumed(bridge) == kill + 1, "the bridge goes on", 20)  # noqa: B023
        work.goes_on()
    work.ends_well()
    assert bridge.event("lost") is None
    assert bridge.stop() == 0


@SOON_ENOUGH
def test_frozen(
    start: Callable[..., Bridge], world: World, big: tuple[Path, str], corps_sshd: None, ssh: str
) -> None:
    """sshd stands still and closes nothing: noticed within 10 s, and another connection takes over."""
    bridge = start(TARGET, "--ssh", ssh).ready()
    work = Work(world, *big, seconds=FROZEN)
    work.goes_on()
    before, begun = ssh_sessions(world), time.monotonic()
    break_it(world, signal.SIGSTOP)
    try:
        wait_until(lambda: bridge.event("interrupted"), "the silence to be noticed", 12)
        assert time.monotonic() - begun < 10.5
        wait_until(lambda: resumed(bridge) == 1, "the bridge goes on", 10)
        work.goes_on()
        time.sleep(max(0.0, begun + FROZEN - time.monotonic()))
        work.goes_on()
    finally:
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    work.ends_well()
    assert resumed(bridge) == 1
    assert bridge.stop() == 0


@contextlib.contextmanager
def no_way(world: World, how: str = "DROP") -> Iterator[None]:
    """The path between laptop and codespace is gone; what enters it is dropped, or refused."""
    rules = [
        f"{program} -{{}} {chain} -p tcp -m multiport --ports {SSH_PORT} -j {how}"
        for program in ("iptables", "ip6tables") for chain in ("INPUT", "OUTPUT")
    ]
    probe = world.codespace.shell("iptables -S && ip6tables -S")
    if probe.code:
        pytest.skip(f"no iptables: {probe.stderr}")
    world.codespace.shell(" && ".join(rules).format(*"AAAA")).check()
    try:
        yield
    finally:
        world.codespace.shell(" && ".join(rules).format(*"DDDD")).check()


@SOON_ENOUGH
def test_no_way_for_a_while(
    start: Callable[..., Bridge], world: World, big: tuple[Path, str], corps_sshd: None, ssh: str
) -> None:
    """The network is gone and comes back: all goes on within 3 s of its return, and hardly anything is sent twice."""
    bridge = start(TARGET, "--ssh", ssh).ready()
    work = Work(world, *big, seconds=12)
    work.goes_on()
    sent_twice = retransmitted(bridge, world)
    with no_way(world):
        wait_until(lambda: bridge.event("interrupted"), "the silence to be noticed", 12)
        time.sleep(CUT)
    back, carried = time.monotonic(), bytes_arrived(world)
    wait_until(lambda: resumed(bridge) == 1, "the bridge goes on", 10)
    work.goes_on()
    seconds = time.monotonic() - back
    wait_until(lambda: bytes_arrived(world) - carried > SIZE / 120, "a tenth of a second's worth of bytes", 10, 0.05)
    print(f"psql and the shell answer after {seconds:.1f} s, the download after {time.monotonic() - back:.1f} s")
    assert time.monotonic() - back < 3, bridge.said
    again = retransmitted(bridge, world) - sent_twice
    print(f"{again} segments were sent again")
    assert again < 200
    work.ends_well()
    assert bridge.stop() == 0


def test_another_network_is_tried_at_once(start: Callable[..., Bridge], world: World) -> None:
    """An address that comes (another Wi-Fi) ends the wait for the next try."""
    bridge = start("ssh://proxied", "--ssh", "openssh").ready()  # by a proxy, so nobody knocks
    with no_way(world, "REJECT"):
        break_it(world)
        last = wait_until(functools.partial(tried, bridge, 3), "tries that fail", 60)
    assert last
    world.laptop.ip("addr add 10.123.0.1/24 dev eth0")
    try:
        begun = time.monotonic()
        wait_until(lambda: resumed(bridge) == 1, "the bridge goes on", 10)
        assert time.monotonic() - begun < last["wait"]
    finally:
        world.laptop.ip("addr del 10.123.0.1/24 dev eth0")
    assert bridge.stop() == 0


def test_the_grace_is_over(start: Callable[..., Bridge], world: World) -> None:
    """Both ends give up: flows are reset on both sides, and everything is as before, with no process left."""
    before, here = Snapshot.of(world.codespace), Snapshot.of(world.laptop)
    bridge = start(TARGET, "--ssh", "openssh", "--grace", "3").ready()
    flows: list[tuple[socket.socket, socket.socket]] = []
    with contextlib.ExitStack() as sockets:
        for host in CORP.values():
            listener = sockets.enter_context(world.corp.listen(host))
            client = sockets.enter_context(world.codespace.connect(host, listener.getsockname()[1]))
            flows.append((client, sockets.enter_context(listener.accept()[0])))
        with no_way(world):
            break_it(world)
            assert bridge.ended(30) == 3, bridge.said
            for pair in flows:
                for end in pair:
                    end.settimeout(5)
                    with pytest.raises(ConnectionResetError):
                        end.recv(1)
            assert_restored(before, world.codespace)
    failed = bridge.event("failed")
    assert failed and "within 3 s" in failed["what"], bridge.said
    assert_restored(here, world.laptop)


PLACES = {
    "by sudo": f"ssh://codespace@{CODESPACE[4]}:{SSH_PORT}",
    "by a command": f"exec:ssh -T -p {SSH_PORT} root@{CODESPACE[4]} sh",
}


@pytest.mark.parametrize("place", PLACES)
def test_every_way_to_an_agent_is_resumed(start: Callable[..., Bridge], world: World, place: str) -> None:
    before = Snapshot.of(world.codespace)
    bridge = start(PLACES[place]).ready()
    with world.corp.listen(CORP[4]) as listener:
        with world.codespace.connect(CORP[4], listener.getsockname()[1]) as client, listener.accept()[0] as server:
            break_it(world)
            wait_until(lambda: resumed(bridge) == 1, "the bridge goes on", 20)
            client.sendall(b"still here")
            server.settimeout(5)
            assert server.recv(100) == b"still here"
    assert bridge.stop() == 0
    stopped = bridge.event("stopped")
    assert stopped and stopped["clean"]
    assert_restored(before, world.codespace, 2)


def test_what_a_killed_bridge_left_gives_way(start: Callable[..., Bridge], world: World) -> None:
    """kill -9 of netbridge: the target would keep everything for the grace, but the next `up` of this machine comes."""
    before = Snapshot.of(world.codespace)
    bridge = start(TARGET, "--ssh", "openssh").ready()
    os.kill(bridge.pid, signal.SIGKILL)
    bridge.ended()
    again = start(TARGET, "--ssh", "openssh").ready()
    assert world.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").check().stdout
    assert again.stop() == 0
    assert_restored(before, world.codespace, 2)


def test_a_second_bridge_of_this_machine(start: Callable[..., Bridge], world: World) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    second = start(TARGET, "--ssh", "openssh", "--take-over")
    assert second.ended() == 1
    failed = second.event("failed")
    assert failed and failed["what"] == f"This machine bridges {TARGET} already."
    assert "netbridge down" in failed["todo"]
    assert bridge.stop() == 0


def test_another_machine_takes_over_only_when_told(start: Callable[..., Bridge], world: World) -> None:
    """Another home folder is another machine as far as anybody over there can tell."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    folder = world.laptop.folder / "elsewhere"
    elsewhere = ("env", f"XDG_STATE_HOME={folder}", f"NETBRIDGE_RUNTIME_DIR={folder}/run", *NETBRIDGE)
    second = start(TARGET, "--ssh", "openssh", prefix=elsewhere)
    assert second.ended() == 1
    failed = second.event("failed")
    assert failed and failed["what"].startswith(f"{TARGET} is bridged by "), second.said
    assert "--take-over" in failed["todo"]
    assert bridge.program.running
    third = start(TARGET, "--ssh", "openssh", "--take-over", prefix=elsewhere).ready()
    assert bridge.ended() == 1
    failed = bridge.event("failed")
    assert failed and failed["what"] == "Another bridge took this target over."
    assert world.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").check().stdout
    assert third.stop() == 0


@contextlib.contextmanager
def counted(world: World) -> Iterator[Callable[[], int]]:
    """How many packets of SSH connections left the codespace."""
    rule = f"OUTPUT -p tcp --sport {SSH_PORT}"
    if (made := world.codespace.shell(f"iptables -I {rule}")).code:
        pytest.skip(f"no iptables: {made.stderr}")
    try:
        yield lambda: int(world.codespace.shell("iptables -vxL OUTPUT 1 -n").check().stdout.split()[0])
    finally:
        world.codespace.shell(f"iptables -D {rule}").check()


@SSHES
def test_an_idle_codespace_may_fall_asleep(start: Callable[..., Bridge], world: World, ssh: str) -> None:
    """--keep-awake no: not a byte while nothing is carried; but a change of this machine's network makes it ask, and a
    path that is dead since is noticed."""
    bridge = start(TARGET, "--ssh", ssh, "--keep-awake", "no").ready()
    fetch = ("curl", "-sS", "-m20", f"http://{CORP[4]}/")
    world.codespace.run(*fetch).check()
    with counted(world) as packets:
        time.sleep(1)  # what still travels from before
        before = packets()
        time.sleep(7)
        assert packets() == before
    frozen = ssh_sessions(world)
    break_it(world, signal.SIGSTOP)
    try:
        world.laptop.ip("addr add 10.123.0.1/24 dev eth0")
        wait_until(lambda: resumed(bridge) == 1, "another connection", 10)
    finally:
        world.laptop.ip("addr del 10.123.0.1/24 dev eth0")
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert world.codespace.run(*fetch).check().stdout
    assert bridge.stop() == 0


def test_an_idle_bridge_asks_every_few_seconds(start: Callable[..., Bridge], world: World) -> None:
    """The default, and what the test above is compared with: some packets, and a round trip that status shows."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    with counted(world) as packets:
        before = packets()
        wait_until(lambda: packets() - before >= 2, "two questions", 10, 0.2)
    assert 0 < wait_until(lambda: bridge.status()["connection"]["rtt"], "its answer") < 1
    assert bridge.stop() == 0
