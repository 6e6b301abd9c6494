"""Running programs whose calls fail, whose limits are short, that are frozen: afterwards the same bridge works.

One bridge for all. `make faults` (NETBRIDGE_TEST_LONG) tries the whole table.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.programs import address_space, failing, limited, why_no_strace
from tests.world import Bridge, World
from tests.world.addresses import CORP, ECHO_PORT, HTTP_PORT, REDIS_PORT
from tests.world.machine import wait_until

from .conftest import TARGET, Bridges
from .programs import dig

LONG = bool(os.environ.get("NETBRIDGE_TEST_LONG"))
pytestmark = [pytest.mark.net, pytest.mark.timeout(1800 if LONG else 180)]

# Which calls fail, as strace counts them, and not for ever: a process that strace lets go in the middle of a call that
# was to fail sees ENOSYS.
HERE = """
sendto: ENOBUFS 2..15+5, ECONNRESET 2..2, EPIPE 3..3, ENOMEM 2..15+5, EINTR 1..15+2
recvfrom: ENOMEM 2..2, ECONNRESET 3..3, EINTR 1..15+2
recvmsg: ENOMEM 1..15+2, EINTR 1..15+2
connect: ENOBUFS 1..15+2, EADDRNOTAVAIL 1..15+2, ENETUNREACH 1..1
socket: EMFILE 1..15+2, ENFILE 2..15+2, ENOMEM 1..1, ENOBUFS 3..3
setsockopt: ENOBUFS 1..15+3
epoll_ctl: ENOMEM 1..15+3
epoll_wait: EINTR 1..15+2
write: EINTR 1..15+2, EAGAIN 2..15+3
writev: EAGAIN 2..15+3, EINTR 1..15+2
read: EINTR 1..15+3
readv: EINTR 1..15+2
shutdown: ENOTCONN 1..1
accept4: EMFILE 1..15+2
openat: EMFILE 1..15+2
newfstatat: ENOMEM 1..15+2
"""
"""Calls of netbridge's one busy thread on this machine."""
THERE = """
write: EAGAIN 2..15+3, EINTR 1..15+2, EIO 3..3
readv: EAGAIN 2..15+3, EINTR 1..15+2
epoll_wait: EINTR 1..15+2
socket: EMFILE 1..1, ENOBUFS 1..15+2
sendto: ENOBUFS 1..15+2
recvfrom: ENOMEM 1..1
connect: EAGAIN 1..1
epoll_ctl: ENOMEM 1..1
openat: EMFILE 1..15+2
"""
"""Calls of the agent's holder."""
SOME_HERE = {("sendto", "ENOBUFS"), ("recvfrom", "EINTR"), ("socket", "EMFILE"), ("connect", "EADDRNOTAVAIL"),
             ("epoll_wait", "EINTR"), ("epoll_ctl", "ENOMEM")}
SOME_THERE = {("write", "EINTR"), ("readv", "EAGAIN"), ("socket", "EMFILE"), ("epoll_wait", "EINTR")}
FAILS_NOTHING = {"EINTR"}
"""Errors that no user may ever see anything of; EAGAIN neither, where whoever asked looks again by himself."""


@pytest.fixture(scope="module")
def bridge(world: World, bridges: Bridges) -> Iterator[Bridge]:
    """One with a log file and a capture."""
    bridges.stop()
    folder = world.laptop.folder
    made = Bridge(
        world.laptop, TARGET, "--ssh", "openssh", "--grace", "10", "--all",
        "--log-file", str(folder / "faults.log"), "--pcap", str(folder / "faults.pcapng"),
    )
    try:
        yield made.ready()
        assert made.stop() == 0, made.said
        assert "Traceback" not in made.said, made.said
    finally:
        made.close()


@pytest.fixture(name="traced")
def may_trace() -> None:
    if why := why_no_strace():
        pytest.skip(why)


def holder(world: World) -> int:
    """The agent's process that has the TUN."""
    (pid,) = (pid for pid in world.codespace.processes() if comm(pid) == "netbridge-agent")
    return pid


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def errands(world: World, seconds: int = 8) -> dict[str, str]:
    """What a user does over there, all at once; what failed of it, and how."""
    def http() -> str:
        said = world.codespace.run("curl", "-sS", f"-m{seconds}", f"http://{CORP[4]}:{HTTP_PORT}/small", timeout=60)
        return "" if said.stdout == "netbridge\n" else said.stdout + said.stderr

    def ping() -> str:
        said = world.codespace.run("ping", "-c2", "-i0.2", "-W3", CORP[4], timeout=60)
        return "" if " 0 received" not in said.stdout else said.stdout

    def udp() -> str:
        with world.codespace.udp("0.0.0.0") as sock:
            sock.connect((CORP[4], ECHO_PORT))
            for _ in range(4):
                sock.settimeout(seconds / 4)
                try:
                    sock.send(b"hello")
                    if sock.recv(100) == b"hello":
                        return ""
                except OSError as error:
                    said = str(error)
        return said

    def name() -> str:
        said = dig(world.codespace, "www.corp.test")
        return "" if "status: NOERROR" in said.stdout else said.stdout

    with ThreadPoolExecutor(4) as pool:
        jobs = {each.__name__: pool.submit(each) for each in (http, ping, udp, name)}
        return {what: said for what, job in jobs.items() if (said := job.result())}


def all_well(world: World, bridge: Bridge, after: object) -> None:
    """Everything works again, within a moment in which a resolver may have to give up first."""
    assert bridge.program.running, (after, bridge.said)
    wait_until(lambda: not errands(world), f"all to be well after {after}: {bridge.said[-1500:]}", 30, 0.1)
    assert "Traceback" not in bridge.said, (after, bridge.said)


def rows(table: str) -> list[tuple[str, str, str]]:
    """Call, error, which of the calls."""
    found = []
    for line in table.strip().splitlines():
        call, _, rest = line.partition(": ")
        for each in rest.split(", "):
            error, when = each.split()
            found.append((call, error, when))
    return found


def inject(world: World, bridge: Bridge, pid: int, table: list[tuple[str, str, str]]) -> None:
    for call, error, when in table:
        began = time.monotonic()
        with failing(pid, call, error, when, world.laptop.folder) as injection:
            failed = errands(world, 3)
            errands(world, 3)  # until the last call was made to fail, see HERE
            count = injection.failed
        print(f"{call:11} {error:14} when={when:7} {count:5} failed; errands: {', '.join(failed) or 'all well'}; "
              f"{time.monotonic() - began:.1f} s")
        if error in FAILS_NOTHING:
            assert not failed, (call, error, failed)
        all_well(world, bridge, (call, error))


@pytest.mark.usefixtures("traced")
def test_calls_of_netbridge_that_fail(world: World, bridge: Bridge) -> None:
    table = [row for row in rows(HERE) if LONG or row[:2] in SOME_HERE]
    inject(world, bridge, bridge.pid, table)


@pytest.mark.usefixtures("traced")
def test_calls_of_the_agent_that_fail(world: World, bridge: Bridge) -> None:
    table = [row for row in rows(THERE) if LONG or row[:2] in SOME_THERE]
    inject(world, bridge, holder(world), table)


def test_no_descriptor_is_left(world: World, bridge: Bridge) -> None:
    """The kernel's own EMFILE, for netbridge and then for the agent."""
    for pid in (bridge.pid, holder(world)):
        with limited(pid, resource.RLIMIT_NOFILE, 4):  # what is open stays open
            assert errands(world, 2), "new flows or names want descriptors"
        all_well(world, bridge, "EMFILE")


def test_files_may_not_grow(world: World, bridge: Bridge) -> None:
    """The kernel's own EFBIG (and SIGXFSZ), for log, capture and standard error: the capture ends, traffic does not."""
    pcap = world.laptop.folder / "faults.pcapng"
    ping = ("ping", "-q", "-c30", "-i0.01", "-s1400", "-W5", CORP[4])
    with limited(bridge.pid, resource.RLIMIT_FSIZE, 1000):
        world.codespace.run(*ping).check()
        assert not errands(world)
    size = pcap.stat().st_size
    world.codespace.run(*ping).check()
    all_well(world, bridge, "EFBIG")
    assert pcap.stat().st_size == size, "it goes on with a hole in it"


@pytest.mark.skipif(not LONG, reason="a minute; set NETBRIDGE_TEST_LONG (make faults)")
def test_no_memory_is_left(world: World, bridge: Bridge) -> None:
    """The kernel's own ENOMEM: not a byte more of address space."""
    for pid in (bridge.pid, holder(world)):
        with limited(pid, resource.RLIMIT_AS, address_space(pid) + 4096):
            print("without memory:", errands(world, 3) or "all well")
        all_well(world, bridge, "ENOMEM")


FROZEN = 20.0 if LONG else 2.0


@pytest.mark.parametrize("who", ["netbridge", "ssh", "agent"])
def test_frozen_for_a_while(world: World, bridge: Bridge, who: str) -> None:
    """SIGSTOP, with a flow under way: for the process time jumps; what was sent meanwhile arrives."""
    pid = {
        "netbridge": lambda: bridge.pid,
        "ssh": lambda: next(pid for pid in world.laptop.processes() if comm(pid) == "ssh"),
        "agent": lambda: holder(world),
    }[who]()
    with world.codespace.connect(CORP[4], REDIS_PORT) as flow:
        flow.settimeout(30)
        flow.sendall(b"ECHO before\r\n")
        assert flow.recv(100) == b"$6\r\nbefore\r\n"
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the frost")
            flow.sendall(b"ECHO meanwhile\r\n")
            flow.settimeout(FROZEN)
            with pytest.raises(TimeoutError):
                flow.recv(100)
        finally:
            os.kill(pid, signal.SIGCONT)
            bridge.program.popen.send_signal(signal.SIGCONT)  # nsenter stops with its child
        flow.settimeout(30)
        assert flow.recv(100) == b"$9\r\nmeanwhile\r\n"
    all_well(world, bridge, f"SIGSTOP of {who}")
