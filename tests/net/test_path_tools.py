"""What ping, traceroute, tracepath and mtr show in the codespace: the laptop's path, with the bridge as one more hop.

Every program runs twice, in the codespace and on the laptop, and the two must print the same path but for the gateway
of the bridge in front. Where the laptop itself says that a host cannot be reached, the codespace hears it from that
gateway; what routers and hosts say, it hears from them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface

import pytest

from netbridge.stack.icmp.limit import BURST, RATE
from tests.world import Bridge, Output, World
from tests.world.addresses import (
    BLACK_HOLE,
    BRANCH,
    CORP,
    HTTP_PORT,
    LAPTOP_IN_CORP,
    NARROW,
    PROHIBITED,
    SILENT,
    UNREACHABLE,
)

from .conftest import CONTROL, Through

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])

DEAD_IN_BRANCH = {4: "10.97.0.77", 6: "fd97::77"}
"""Corp's neighbour, if there were such a computer."""
FILTERED_BY_CORP = {4: "10.97.0.66", 6: "fd97::66"}
LOST_IN_CORP = {4: "10.97.0.55", 6: "fd97::55"}


def gateway(bridge: Bridge | None, version: int) -> list[str]:
    """The hop that a bridge adds in front of the laptop's path; none on the laptop itself."""
    if bridge is None:
        return []
    connected = bridge.event("connected")
    assert connected is not None
    own = next(one for one in map(ip_interface, connected["addresses"]) if one.version == version)
    return [str(own.network[1])]


def path(through: Through, version: int) -> list[str]:
    """Every hop from there to the branch office."""
    return [*gateway(through.bridge, version), CORP[version], BRANCH[version]]


def in_both(through: Through, world: World, *words: str) -> tuple[Output, Output]:
    """What a program leaves there and on the laptop, run at the same time."""
    found: list[Output] = []
    beside = threading.Thread(target=lambda: found.append(world.laptop.run(*words)))
    beside.start()
    there = through.run(*words)
    beside.join()
    return there, found[0]


@pytest.fixture(scope="module", autouse=True)
def prepared(world: World) -> Iterator[None]:
    """Address resolution that is given up after a third of a second, not three; and routes of corp that refuse."""

    def patience(milliseconds: int) -> None:
        for machine in (world.laptop, world.corp):
            machine.shell(
                f"for f in /proc/sys/net/ipv[46]/neigh/eth1/retrans_time_ms; do echo {milliseconds} > $f; done"
            )

    def routes(verb: str) -> None:
        for version in (4, 6):
            world.corp.ip(
                f"route {verb} prohibit {FILTERED_BY_CORP[version]}", f"route {verb} blackhole {LOST_IN_CORP[version]}"
            )

    patience(100)
    routes("add")
    yield
    routes("del")
    patience(1000)


# --- ping -------------------------------------------------------------------------------------------------------------


def ping(through: Through, world: World, version: int, *words: str) -> tuple[Output, Output]:
    return in_both(through, world, "ping", f"-{version}", "-n", *words)


def complaints(output: Output) -> list[tuple[str, str]]:
    """Who said what instead of replying."""
    return re.findall(r"^From (\S+?):? icmp_seq=\d+ (.+)$", output.stdout, re.MULTILINE)


REPLY = re.compile(r"^(\d+) bytes from (\S+): icmp_seq=(\d+) ttl=(\d+)", re.MULTILINE)


@both
def test_ping_of_a_live_host(through: Through, world: World, version: int) -> None:
    """Every reply is the laptop's, one hop further away."""
    there, here = ping(through, world, version, "-c", "3", "-i", "0.05", "-W", "2", BRANCH[version])
    more = len(gateway(through.bridge, version))
    assert REPLY.findall(here.stdout) == [("64", BRANCH[version], str(number), "63") for number in (1, 2, 3)]
    assert REPLY.findall(there.stdout) == [("64", BRANCH[version], str(number), str(63 - more)) for number in (1, 2, 3)]


@both
@pytest.mark.parametrize("size", [0, 1240, 1280, 9000])
def test_ping_through_the_narrow_line(through: Through, world: World, version: int, size: int) -> None:
    """What does not fit is refused with the MTU or goes in fragments, as on the laptop; `ping` checks the data."""
    found = []
    for run in (world.laptop.run, through.run):
        forget_path_mtu(through.shell, world.laptop.shell)
        words = ("-c", "3", "-i", "0.05", "-W", "0.5", "-s", str(size), BRANCH[version])
        output = run("ping", f"-{version}", "-n", *words)
        assert "wrong data" not in output.stdout
        found.append(([reply[:3] for reply in REPLY.findall(output.stdout)], complaints(output)))
    assert found[0][0][-1][2] == "3"
    assert found[1] == found[0]


@both
@pytest.mark.parametrize("ttl", [1, 2, 3])
def test_ping_with_few_hops(through: Through, version: int, ttl: int) -> None:
    """The gateway of the bridge ends the first, corp the second, and the third arrives."""
    printed = through.run("ping", "-n", f"-{version}", "-c1", "-W2", "-t", str(ttl), BRANCH[version]).stdout
    hops = path(through, version)
    reached = hops[min(ttl, len(hops)) - 1]
    if reached == BRANCH[version]:
        assert f"bytes from {reached}" in printed
    else:
        expired = {4: "Time to live exceeded", 6: "Time exceeded: Hop limit"}[version]
        assert re.search(rf"^From {reached} icmp_seq=1 {expired}$", printed, re.MULTILINE), printed


@both
def test_ping_of_a_dead_neighbour(through: Through, world: World, version: int) -> None:
    """The laptop finds out that nobody is there, and says so itself; the codespace hears it from the bridge."""
    there, here = ping(through, world, version, "-c", "2", "-i", "0.1", "-W", "3", SILENT[version])
    says = {4: "Destination Host Unreachable", 6: "Destination unreachable: Address unreachable"}[version]
    assert set(complaints(here)) == {(LAPTOP_IN_CORP[version], says)}, here.stdout
    assert set(complaints(there)) == {((gateway(through.bridge, version) or [LAPTOP_IN_CORP[version]])[0], says)}, (
        there.stdout
    )
    assert there.code == here.code == 1


@both
@pytest.mark.parametrize("host", [DEAD_IN_BRANCH, FILTERED_BY_CORP], ids=["dead", "filtered"])
def test_ping_of_a_host_that_a_router_gives_up(
    through: Through, world: World, version: int, host: dict[int, str]
) -> None:
    """Word for word what the laptop hears, and from the same router."""
    there, here = ping(through, world, version, "-c", "2", "-i", "0.1", "-W", "3", host[version])
    assert complaints(here)
    assert set(complaints(there)) == set(complaints(here))
    assert there.code == here.code == 1


@both
@pytest.mark.parametrize("host", [BLACK_HOLE, LOST_IN_CORP], ids=["at corp", "behind corp"])
def test_ping_into_a_black_hole(through: Through, world: World, version: int, host: dict[int, str]) -> None:
    """Nobody answers and nobody complains: neither does the bridge."""
    for output in ping(through, world, version, "-c", "2", "-i", "0.1", "-W", "0.3", host[version]):
        assert "2 packets transmitted, 0 received, 100% packet loss" in output.stdout
        assert "From" not in output.stdout
        assert output.code == 1


PROHIBITED_WORDS = {4: "Packet filtered", 6: "Destination unreachable: Administratively prohibited"}
UNREACHABLE_WORDS = {4: "Destination Host Unreachable", 6: "Destination unreachable: Address unreachable"}


@both
@pytest.mark.parametrize(
    ("host", "words"),
    [(PROHIBITED, PROHIBITED_WORDS), (UNREACHABLE, UNREACHABLE_WORDS)],
    ids=["prohibited", "unreachable"],
)
def test_ping_of_a_host_that_the_laptop_has_no_way_to(
    through: Through, version: int, host: dict[int, str], words: dict[int, str]
) -> None:
    """On the laptop the very call fails; to the codespace the laptop is a router, and says it as routers do."""
    output = through.run("ping", f"-{version}", "-n", "-c", "1", "-W", "1", host[version])
    if through.transport == CONTROL:
        assert output.code == 2
    else:
        assert complaints(output) == [(gateway(through.bridge, version)[0], words[version])]
        assert output.code == 1


# --- traceroute -------------------------------------------------------------------------------------------------------

WAYS = {
    "udp": (),
    "dns": ("-U",),
    "icmp": ("-I",),
    "tcp": ("-T",),
    "closed": ("-T", "-p", "81"),
}


def traced(output: Output) -> list[str]:
    """The address of each hop; each must have answered every probe, from that address."""
    lines = output.stdout.splitlines()[1:]
    assert not any("*" in line or "!" in line for line in lines), output.stdout
    found = [re.fullmatch(r"\s*(\d+)  (\S+)(  [\d.]+ ms)+", line) for line in lines]
    assert all(found), output.stdout
    assert [int(line[1]) for line in found if line] == list(range(1, len(lines) + 1))
    return [line[2] for line in found if line]


@both
@pytest.mark.parametrize("way", WAYS)
def test_traceroute(through: Through, world: World, version: int, way: str) -> None:
    there, here = in_both(through, world, "traceroute", f"-{version}", "-n", "-w", "3,0,0", *WAYS[way], BRANCH[version])
    assert traced(here) == [CORP[version], BRANCH[version]]
    assert traced(there) == [*gateway(through.bridge, version), *traced(here)]
    assert there.stdout.count(" ms") == 3 * len(traced(there))
    assert there.seconds < here.seconds + 1


REFILLED = 2 * BURST / RATE
"""Seconds after which the tests before have no part in the allowance of ICMP errors any more."""


@both
@pytest.mark.parametrize("way", ["udp", "icmp", "tcp"])
def test_traceroute_with_many_probes_at_once(through: Through, version: int, way: str) -> None:
    """Ten for each of twelve hops, all under way together: no hop's answer is lost to a limit."""
    time.sleep(REFILLED)
    words = ("-q", "10", "-N", "120", "-m", "12", "-w", "3,0,0", *WAYS[way])
    output = through.run("traceroute", f"-{version}", "-n", *words, BRANCH[version])
    assert traced(output) == path(through, version)
    assert output.stdout.count(" ms") == 10 * len(path(through, version))


def test_tenth_traceroute_in_a_row(through: Through) -> None:
    """An allowance of errors that fills too slowly would show after a while."""
    time.sleep(REFILLED)
    for _number in range(10):
        assert traced(through.run("traceroute", "-n", "-w", "3,0,0", BRANCH[4])) == path(through, 4)


# --- tracepath --------------------------------------------------------------------------------------------------------


def forget_path_mtu(*places: Callable[[str], Output]) -> None:
    for shell in places:
        shell("ip route flush cache; ip -6 route flush cache").check()


def steps(output: Output) -> list[tuple[int, str, str]]:
    """Hop, address and remark of tracepath's lines, but for the first, which is about nobody else."""
    found = re.findall(r"^\s*(\d+):\s+(\S+)\s+[\d.]+ms ?(.*?)\s*$", output.stdout, re.MULTILINE)
    return [(int(hop), address, " ".join(remark.split())) for hop, address, remark in dict.fromkeys(found)]


@both
def test_tracepath(through: Through, world: World, version: int) -> None:
    """The narrow line between corp and the branch is found, and the way back is as long as the way there."""
    forget_path_mtu(through.shell, world.laptop.shell)
    here = world.laptop.run("tracepath", f"-{version}", "-n", BRANCH[version]).check()
    assert steps(here) == [
        (1, CORP[version], ""), (2, CORP[version], f"pmtu {NARROW}"), (2, BRANCH[version], "reached"),
    ]  # fmt: skip
    forget_path_mtu(through.shell, world.laptop.shell)
    there = through.run("tracepath", f"-{version}", "-n", BRANCH[version]).check()
    more = gateway(through.bridge, version)
    assert steps(there) == [
        *((1, address, "") for address in more), *((hop + len(more), *rest) for hop, *rest in steps(here))
    ]  # fmt: skip
    assert f"Resume: pmtu {NARROW} hops {2 + len(more)} back {2 + len(more)}" in there.stdout


# --- mtr --------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("way", [(), ("--udp",), ("--tcp", "-P", str(HTTP_PORT))], ids=["icmp", "udp", "tcp"])
def test_mtr(through: Through, world: World, version: int, way: tuple[str, ...]) -> None:
    """No loss on any hop."""
    there, here = in_both(
        through, world, "mtr", f"-{version}", "-n", "-r", "-c", "2", "-i", "0.1", "-G", "0.4", *way, BRANCH[version]
    )
    seen = [re.findall(r"\|--\s+(\S+)\s+([\d.]+)%\s+(\d+)", output.stdout) for output in (there, here)]
    assert seen[1] == [(address, "0.0", "2") for address in (CORP[version], BRANCH[version])], here.stdout
    assert seen[0] == [*((address, "0.0", "2") for address in gateway(through.bridge, version)), *seen[1]], there.stdout
