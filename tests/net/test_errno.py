"""Errno equality: the same calls in the codespace and on the laptop end in the same errno, and as soon.

One probe program (tests/world/probe.py) runs at both places at the same time, once for each transport, each case in a
thread of its own, and each test here looks at the answers of one group of cases: TCP by a blocking connect, by a
non-blocking one with SO_ERROR and in mid-stream, UDP connected and unconnected with IP_RECVERR, over IPv4 and IPv6.
What makes the errors: the laptop's routes, computers that are not there, and filters and servers on corp, behind a
line on which an answer takes some milliseconds (tests/world/slowline.py says why).

An errno must be the same at the first look. A time may differ by TOLERANCE; whoever differs by more is asked again, as
others use this machine too, and the fastest answers of both places are compared.

Each difference that remains has its reason in EXPLAINED and is expected: when it vanishes the test fails as well.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.world import World, probe
from tests.world.addresses import BLACK_HOLE, PROHIBITED, UNREACHABLE
from tests.world.machine import Output, wait_until
from tests.world.probe_peers import Peers
from tests.world.slowline import SLOW_CORP, SlowLine

from .conftest import CONTROL, Through

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])

TOLERANCE = 0.1
ROUNDS = 4
DELAY = 0.003
"""Seconds a packet takes to corp: longer than any system call, far below TOLERANCE."""

Case = dict[str, Any]
"""As the probe wants it, and with `group`, the test it belongs to, `exact` when every word of the transcript has to be
the same, and `tolerance` if it is not the usual one."""
Results = dict[str, dict[str, Any]]

# -- what goes wrong where

NO_ROUTE = {4: "10.98.0.4", 6: "fd98::4"}
"""The laptop's routing table says that it has no route."""
REJECTIONS = {
    4: {
        "host unreachable": "icmp-host-unreachable",
        "net unreachable": "icmp-net-unreachable",
        "port unreachable": "icmp-port-unreachable",
        "protocol unreachable": "icmp-proto-unreachable",
        "administratively prohibited": "icmp-admin-prohibited",
        "host prohibited": "icmp-host-prohibited",
        "net prohibited": "icmp-net-prohibited",
    },
    6: {
        "host unreachable": "icmp6-addr-unreachable",
        "net unreachable": "icmp6-no-route",
        "port unreachable": "icmp6-port-unreachable",
        "administratively prohibited": "icmp6-adm-prohibited",
        "source policy": "icmp6-policy-fail",
        "reject route": "icmp6-reject-route",
    },
}
"""What corp's filter answers, as the REJECT target of iptables and ip6tables calls it."""
GROUPS = {
    "host unreachable": "host unreachable", "net unreachable": "net unreachable", "port unreachable": "refused",
    "protocol unreachable": "protocol unreachable", "administratively prohibited": "prohibited",
    "host prohibited": "prohibited", "net prohibited": "prohibited", "source policy": "prohibited",
    "reject route": "prohibited",
}  # fmt: skip
"""The test that each belongs to."""
PORTS = {version: {name: 9201 + at for at, name in enumerate(kinds)} for version, kinds in REJECTIONS.items()}
"""Where it answers so."""
RESET_PORT = 9231
"""Corp's filter resets."""
SILENT_PORT = 9232
"""Corp's filter answers no datagram."""
DYING_PORT = 9233
"""Connections are made, and then corp's filter lets nothing more through."""
CLOSED_PORT = 9234
silent = itertools.cycle(range(100, 250))
"""Computers that are not there, by the end of their address: each case has its own, as the kernel asks for one once."""

# -- what is known to differ

UDP_TOLD_LATER = """The laptop's own kernel tells a connected UDP socket at once; in the codespace the datagram has left
by then, and ICMPv6 knows no code for "unreachable" that reaches a socket without IPV6_RECVERR (icmpv6_err_convert)."""
NO_ICMP_FOR_EACCES = """No ICMP message makes an IPv4 kernel say EACCES: 3/9, 3/10 and 3/13 to 3/15 become ENETUNREACH
and EHOSTUNREACH (icmp_err_convert), while a local `prohibit` route is EACCES."""
NO_SEGMENT_FOR_ETIMEDOUT = """The codespace's kernel has its data acknowledged; all that can end an established
connection from outside is a reset, which is ECONNRESET, because ICMP errors are advice there (RFC 1122, 4.2.3.9)."""
WAYS: dict[str, Case] = {
    "connect": {"kind": "tcp", "steps": ["connect"]},
    "non-blocking connect": {"kind": "tcp", "steps": ["start"]},
    "UDP connected": {"kind": "udp", "steps": ["connect", "send", "recv"]},
    "UDP with IP_RECVERR": {"kind": "udp", "steps": ["sendto", "recv"], "options": {"recverr": 1}},
}
TCP_WAYS = ("connect", "non-blocking connect")
EXPLAINED: dict[str, tuple[str, str, str]] = {
    **{f"v4 prohibited by a route: {way}": ("EACCES", "EHOSTUNREACH", NO_ICMP_FOR_EACCES) for way in WAYS},
    "v6 host unreachable by a route: UDP connected": ("EHOSTUNREACH", "silence", UDP_TOLD_LATER),
    "v6 no route: UDP connected": ("ENETUNREACH", "silence", UDP_TOLD_LATER),
    "v4 path lost in mid-stream": ("ETIMEDOUT", "ECONNRESET", NO_SEGMENT_FOR_ETIMEDOUT),
    "v6 path lost in mid-stream": ("ETIMEDOUT", "ECONNRESET", NO_SEGMENT_FOR_ETIMEDOUT),
}
"""By case: the laptop's errno, the codespace's, and why it cannot be the same. "silence": none at all."""


@pytest.fixture(scope="module")
def causes(world: World) -> Iterator[None]:
    """The line to corp, corp's filters and the laptop's missing route."""
    rules = ["true"]
    for version, tool in ((4, "iptables"), (6, "ip6tables")):
        rules += [
            f"{tool} -A INPUT -p {protocol} --dport {PORTS[version][name]} -j REJECT --reject-with {kind}"
            for name, kind in REJECTIONS[version].items()
            for protocol in ("tcp", "udp")
        ]
        rules.append(f"{tool} -A INPUT -p tcp --dport {RESET_PORT} -j REJECT --reject-with tcp-reset")
        rules.append(f"{tool} -A INPUT -p udp --dport {SILENT_PORT} -j DROP")
        rules.append(f"{tool} -A INPUT -p tcp --dport {DYING_PORT} ! --syn -j DROP")
    made = world.corp.shell(" && ".join(rules))
    if made.code:
        pytest.skip(f"no iptables: {made.stderr}")
    settings = "/proc/sys/net/ipv4/tcp_retries2"
    before = world.laptop.run("cat", settings).check().stdout.strip()
    try:
        # Whoever sends into nothing is told after three RTOs, not after 15 minutes.
        world.laptop.shell(f"echo 1 > {settings}").check()
        world.laptop.ip(*(f"route add throw {address}" for address in NO_ROUTE.values()))
        with SlowLine(world.laptop, world.corp, DELAY):
            yield
    finally:
        world.laptop.shell("".join(f"ip route del throw {address};" for address in NO_ROUTE.values()))
        world.laptop.shell(f"echo {before} > {settings}").check()
        world.corp.shell("iptables -F INPUT; ip6tables -F INPUT").check()


def without_connection(version: int) -> Iterator[Case]:
    """Every way to meet every error while there is no connection."""
    corp = SLOW_CORP[version]
    targets = [
        ("refused", "refused", corp, CLOSED_PORT),
        ("host unreachable", "host unreachable by a route", UNREACHABLE[version], 80),
        ("prohibited", "prohibited by a route", PROHIBITED[version], 80),
        ("net unreachable", "no route", NO_ROUTE[version], 80),
        *((GROUPS[name], f"{name} by a filter", corp, port) for name, port in PORTS[version].items()),
    ]
    for group, name, host, port in targets:
        for way, how in WAYS.items():
            base = {"group": group, "host": host, "port": port, "times": 3, "patience": 0.7}
            yield {"name": f"{name}: {way}", **base, **how}
    nobody = "10.99.0.%d" if version == 4 else "fd99::%d"
    for way, how in WAYS.items():
        base = {"group": "host unreachable", "host": nobody % next(silent), "port": 80}
        yield {"name": f"silent host: {way}", **base, **how}
        if way in TCP_WAYS:
            base = {"group": "refused", "host": corp, "port": RESET_PORT, "times": 3}
            yield {"name": f"reset by a filter: {way}", **base, **how}
            base = {"group": "timed out", "host": BLACK_HOLE[version], "port": 80}
            for option, value in {"syncnt": 1, "user_timeout": 1500}.items():
                yield {"name": f"timed out by {option}: {way}", **base, **how, "options": {option: value}}
        else:
            base = {"group": "timed out", "host": corp, "port": SILENT_PORT, "patience": 0.7}
            yield {"name": f"silence: {way}", **base, **how}


MID_STREAM = {
    "reset while reading": ("resets_later", "connect recv send send recv"),
    "reset while doing nothing, heard by send": ("resets_later", "connect pause poll send send recv"),
    "reset while doing nothing, heard by recv": ("resets_later", "connect pause poll recv poll send recv"),
    "reset while writing": ("resets_a_blocked_writer", "connect write send recv"),
    "reset after own end": ("resets_later", "connect shutdown recv recv send"),
    "data, then reset": ("resets_after_data", "connect send pause poll read read send"),
    "data, then reset, heard by send": ("resets_after_data", "connect send pause send send read"),
    "end, then reset": ("says_end_then_resets", "connect recv pause poll send send recv"),
    "end, then an answer to what is sent": ("closes", "connect recv send pause poll send send recv"),
    "server dies with unread data": ("closes_with_unread_data", "connect send recv send recv"),
}
"""What happens, at which of corp's servers (tests/world/probe_peers.py), and what the client does meanwhile."""


def in_mid_stream(version: int, ports: dict[str, int]) -> Iterator[Case]:
    base: Case = {"group": "reset", "kind": "tcp", "host": SLOW_CORP[version]}
    for name, (server, steps) in MID_STREAM.items():
        yield {"name": name, "port": ports[server], "steps": steps.split(), "exact": True, **base}
    # Whether connect or recv tells of a reset that comes with the handshake is a race on the laptop as well.
    yield {"name": "reset at once", "port": ports["resets_at_once"], "steps": ["connect", "recv"], **base}
    # The kernel here and the bridge's there take their own measure of the path, and wait for a multiple of it.
    base |= {"group": "timed out", "tolerance": 0.6}
    yield {"name": "path lost in mid-stream", "port": DYING_PORT, "steps": ["connect", "send", "recv"], **base}


# -- asking and comparing


class Comparison:
    """What both places said through one transport."""

    def __init__(self, through: Through, world: World) -> None:
        self.here: Results = {}
        self.there: Results = {}
        self.cases: dict[str, Case] = {}
        self._through = through
        self._world = world
        with contextlib.ExitStack() as stack:
            self._ports = {}
            for version, address in SLOW_CORP.items():
                self._ports[version] = stack.enter_context(Peers(world.corp, address)).ports
                stack.enter_context(world.corp.listen(address, DYING_PORT))
            late: list[str] = []
            for _round in range(ROUNDS):
                self._ask(late)
                late = [name for name in self.cases if self.late(name)]
                if not late:
                    break

    def _make(self, wanted: list[str]) -> list[Case]:
        cases = [
            {**case, "name": f"v{version} {case['name']}", "family": version}
            for version in (4, 6)
            for case in itertools.chain(without_connection(version), in_mid_stream(version, self._ports[version]))
        ]
        return [case for case in cases if not wanted or case["name"] in wanted]

    def _ask(self, wanted: list[str]) -> None:
        """Both places at the same time; of a case asked before the faster answer is kept."""

        def one(run: Callable[..., Output], cases: list[Case]) -> Results:
            output = run(sys.executable, probe.__file__, stdin=json.dumps(cases), timeout=60).check()
            answers: Results = json.loads(output.stdout)
            return answers

        here, there = self._make(wanted), self._make(wanted)
        with ThreadPoolExecutor(2) as pool:
            behind = pool.submit(one, self._through.run, there)
            on_laptop = pool.submit(one, self._world.laptop.run, here)
        for known, answers in ((self.here, on_laptop.result()), (self.there, behind.result())):
            for name, answer in answers.items():
                before = known.get(name)
                if before is None or answer["errno"] != before["errno"] or answer["seconds"] < before["seconds"]:
                    known[name] = answer
        self.cases.update({case["name"]: case for case in here})

    def late(self, name: str) -> bool:
        """Whether too much time is between the errors here and there; when one place is silent there is none."""
        here, there = self.here[name], self.there[name]
        if "silence" in (here["errno"], there["errno"]):
            return False
        tolerance = float(self.cases[name].get("tolerance", TOLERANCE))
        return abs(float(here["seconds"]) - float(there["seconds"])) > tolerance

    def wrong(self, name: str) -> str:
        """What is wrong with a case, or an empty string."""
        here, there = self.here[name], self.there[name]
        control = self._through.transport == CONTROL
        expected = None if control else EXPLAINED.get(name)
        found = (here["errno"], there["errno"])
        if not (here["steady"] and there["steady"]):
            return f"{name}: not the same every time\n  here  {here}\n  there {there}"
        if expected and found != expected[:2]:
            return f"{name}: {found[0]} here, {found[1]} there; known was {expected}"
        if not expected and found[0] != found[1]:
            return f"{name}: {found[0]} here, {found[1]} there"
        if self.cases[name].get("exact") and here["transcript"] != there["transcript"]:
            return f"{name}:\n  here  {here['transcript']}\n  there {there['transcript']}"
        if self.late(name):
            return f"{name}: {found[0]} after {here['seconds']:.3f} s here, {there['seconds']:.3f} s there"
        return ""

    def check(self, group: str, version: int) -> None:
        """AssertionError with a table of what differs."""
        names = [name for name, case in self.cases.items() if case["group"] == group and case["family"] == version]
        assert names
        wrong = [line for line in map(self.wrong, names) if line]
        assert not wrong, "laptop and codespace differ:\n" + "\n".join(wrong)


@pytest.fixture(scope="module")
def asked() -> dict[str, Comparison]:
    """What was asked already, by transport."""
    return {}


@pytest.fixture
def both_places(causes: None, through: Through, world: World, asked: dict[str, Comparison]) -> Comparison:
    if through.transport not in asked:
        if through.transport != CONTROL:
            for address in SLOW_CORP.values():
                wait_until(functools.partial(captured, through, address), f"the route to {address}", 10, 0.1)
        asked[through.transport] = Comparison(through, world)
    return asked[through.transport]


def captured(through: Through, address: str) -> bool:
    return "dev nb" in through.run("ip", "route", "get", address).stdout


@both
def test_refused(both_places: Comparison, version: int) -> None:
    """By a closed port, by a filter's reset and by a filter's port unreachable."""
    both_places.check("refused", version)


@both
def test_host_unreachable(both_places: Comparison, version: int) -> None:
    """By the laptop's routes, by a neighbour that answers no address resolution, by a router."""
    both_places.check("host unreachable", version)


@both
def test_net_unreachable(both_places: Comparison, version: int) -> None:
    """By the laptop's lack of a route, by a router."""
    both_places.check("net unreachable", version)


@both
def test_administratively_prohibited(both_places: Comparison, version: int) -> None:
    """By the laptop's routes, by every code that a router has for it."""
    both_places.check("prohibited", version)


@both
def test_timed_out(both_places: Comparison, version: int) -> None:
    """A black hole, for clients of little patience; datagrams into nothing; a path that is lost in mid-stream."""
    both_places.check("timed out", version)


@both
def test_reset(both_places: Comparison, version: int) -> None:
    """In mid-stream, while reading, writing and doing nothing, after data, after either end: call by call."""
    both_places.check("reset", version)


def test_protocol_unreachable(both_places: Comparison) -> None:
    both_places.check("protocol unreachable", 4)
