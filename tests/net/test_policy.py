"""What the codespace may reach: loopback and metadata in every disguise, the host alias, own addresses, the audit."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.world import Bridge, Machine, Program, World
from tests.world.addresses import CORP, ECHO_PORT, HTTP_PORT, LAPTOP_IN_CORP
from tests.world.machine import wait_until

from .conftest import TARGET
from .dialling import blocking_connect, connect_errno
from .packets import each_protocol, send, source_of
from .state import counter, state

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PORT = 8080
NAME = "host.netbridge.internal"

DISGUISES = {
    "loopback": "127.0.0.1",
    "elsewhere in loopback": "127.255.0.7",
    "this host": "0.0.0.0",
    "this network": "0.1.2.3",
    "metadata": "169.254.169.254",
    "v6 loopback": "::1",
    "unspecified": "::",
    "link-local": "fe80::1",
    "metadata by v6": "fd00:ec2::254",
    "mapped": "::ffff:127.0.0.1",
    "mapped metadata": "::ffff:169.254.169.254",
    "mapped zero": "::ffff:0.0.0.0",
    "translated": "::ffff:0:127.0.0.1",
    "compatible": "::127.0.0.1",
    "NAT64": "64:ff9b::127.0.0.1",
    "NAT64 metadata": "64:ff9b::169.254.169.254",
    "local NAT64 /96": "64:ff9b:1::127.0.0.1",
    "local NAT64 /48": "64:ff9b:1:7f00:0:100::",
    "6to4": "2002:7f00:1::1",
    "6to4 metadata": "2002:a9fe:a9fe::1",
    "Teredo": "2001:0:c633:6401::80ff:fffe",
    "Teredo server": "2001:0:7f00:1::f5ff:fffe",
    "ISATAP": "fd00::200:5efe:127.0.0.1",
}


class Ears:
    """Listens on a port of all addresses of the laptop, TCP and UDP: whoever reaches its loopback is heard."""

    def __init__(self, laptop: Machine, port: int) -> None:
        self.listeners = [laptop.listen(host, port) for host in ("0.0.0.0", "::")]
        self.datagrams = [laptop.udp("::", port)]  # which hears IPv4 too
        for sock in (*self.listeners, *self.datagrams):
            sock.setblocking(False)

    def heard(self) -> list[object]:
        """What came, and from whom."""
        found: list[object] = []
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                connection, peer = listener.accept()
                connection.close()
                found.append(peer)
        for sock in self.datagrams:
            with contextlib.suppress(BlockingIOError):
                found.append(sock.recvfrom(100))
        return found

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (*self.listeners, *self.datagrams):
            sock.close()


def denials(bridge: Bridge) -> list[dict[str, Any]]:
    return [event for event in bridge.events if event["event"] == "flow_denied"]


def have_been_denied(bridge: Bridge, flows: int) -> bool:
    return counter(bridge, "policy", "denied") >= flows


def test_loopback_and_metadata_in_every_disguise(idle: World, start: Start) -> None:
    """Raw packets for TCP, UDP and ICMP: each is denied by its own flow, counted, told, and nothing arrives."""
    bridge = start(TARGET, "--ssh", "openssh", "--all").ready()
    with Ears(idle.laptop, PORT) as ears:
        for number, address in enumerate(DISGUISES.values()):
            source = source_of(bridge, 6 if ":" in address else 4)
            send(idle.codespace, bridge, each_protocol(source, address, PORT, 40000 + number))
            time.sleep(0.1)
            wait_until(functools.partial(have_been_denied, bridge, 3 * (number + 1)), f"{address} denied", 5, 0.05)
            time.sleep(0.05)  # the audit tells twenty a second one by one
        assert ears.heard() == []
    found = {(record["protocol"], record["destination"]) for record in denials(bridge)}
    for name, address in DISGUISES.items():
        plain = socket.inet_ntop(*_packed(address))
        for protocol in ("tcp", "udp", "icmp"):
            assert (protocol, plain) in found, f"{protocol} to {name}"
    assert bridge.status()["flows"] == []


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def test_disguises_by_ordinary_sockets(idle: World, start: Start) -> None:
    """What the kernel over there routes to the TUN is answered "administratively prohibited" at once."""
    bridge = start(TARGET, "--ssh", "openssh", "--all").ready()
    names = ("NAT64", "NAT64 metadata", "local NAT64 /96", "6to4", "6to4 metadata", "Teredo", "ISATAP")
    with Ears(idle.laptop, PORT) as ears:
        for name in names:
            begun = time.monotonic()
            assert connect_errno(idle.codespace, DISGUISES[name], PORT) == errno.EACCES, name
            with idle.codespace.inside(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as client:
                client.settimeout(3)
                client.connect((DISGUISES[name], PORT))
                client.send(b"hello")
                with pytest.raises(PermissionError):
                    client.recv(100)
            assert time.monotonic() - begun < 2, name
        ping = idle.codespace.run("ping", "-c", "1", "-W", "3", DISGUISES["NAT64"])
        assert ping.code == 1
        assert "Administratively prohibited" in ping.stdout
        assert ears.heard() == []
    wait_until(lambda: len(denials(bridge)) == 2 * len(names) + 1, "every denial", 5, 0.1)
    assert {record["protocol"] for record in denials(bridge)} == {"tcp", "udp", "icmp"}


@dataclass
class Homes:
    """HTTP servers on the loopback of the codespace and of the laptop, which say where they are."""

    world: World

    def __enter__(self) -> Homes:
        self.programs: list[Program] = []
        for machine in (self.world.codespace, self.world.laptop):
            folder = machine.folder / "home-page"
            folder.mkdir(exist_ok=True)
            (folder / "index.html").write_text(f"{machine.name}\n")
            for host in ("127.0.0.1", "::1"):
                words = [sys.executable, "-m", "http.server", str(PORT), "--bind", host, "--directory", str(folder)]
                self.programs.append(machine.start(*words, log="home-page.log"))
            for host in ("127.0.0.1", "::1"):
                wait_until(functools.partial(machine.answers, host, PORT), f"{machine.name}'s server")
        return self

    def __exit__(self, *_: object) -> None:
        for program in self.programs:
            program.kill()


@pytest.fixture
def homes(idle: World) -> Iterator[Homes]:
    with Homes(idle) as made:
        yield made


def curl(machine: Machine, address: str, *options: str) -> str:
    return machine.run("curl", "-sS", "-m", "5", *options, f"http://{address}/").stdout.strip()


SPELLINGS = (
    "127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "0177.0.0.1", "127.0.0.1", "localhost", "0.0.0.0",
    "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]",
)  # fmt: skip


def test_every_spelling_of_loopback_is_the_codespaces_own(idle: World, start: Start, homes: Homes) -> None:
    """Decimal, octal, hexadecimal, short: an address is made of it over there, and it is the loopback there."""
    bridge = start(TARGET, "--ssh", "openssh", "--all", "--allow", "127.0.0.0/8", "--allow", "::1").ready()
    for spelling in SPELLINGS:
        assert curl(idle.codespace, f"{spelling}:{PORT}") == "codespace", spelling
    script = (
        "import sys, urllib.request\n"
        "for name in sys.argv[1:]: print(urllib.request.urlopen(f'http://{name}/', timeout=5).read().decode().strip())"
    )
    words = [f"{spelling}:{PORT}" for spelling in SPELLINGS]
    assert set(idle.codespace.run(sys.executable, "-c", script, *words).check().stdout.split()) == {"codespace"}
    assert state(bridge)["counters"]["forward_tcp"]["connects"] == 0


def test_names_of_corp_that_point_to_loopback(idle: World, start: Start, homes: Homes) -> None:
    """DNS rebinding: the name leads an application over there to its own machine, never to this one's loopback."""
    bridge = start(TARGET, "--ssh", "openssh", "--all", "--dns", "all").ready()
    for name, record, address in (
        ("rebind4", "A", "127.0.0.1"), ("rebind6", "AAAA", "::1"), ("mapped", "AAAA", "::ffff:127.0.0.1"),
        ("meta", "A", "169.254.169.254"),
    ):  # fmt: skip
        said = idle.codespace.run("dig", "+short", f"{name}.corp.test", record).check().stdout.strip()
        assert said == address, name
        if name != "meta":
            assert curl(idle.codespace, f"{name}.corp.test:{PORT}") == "codespace", name
    # The metadata service is the codespace's own affair: what is routed there is never captured.
    assert "nb" not in idle.codespace.run("ip", "route", "get", "169.254.169.254").check().stdout
    assert state(bridge)["counters"]["forward_tcp"]["connects"] == 0


def test_the_resolvers_answer_is_judged_anew_when_it_changes(idle: World, start: Start) -> None:
    """A name that was allowed a moment ago and now means a denied address gains nothing: addresses are judged."""
    bridge = start(TARGET, "--ssh", "openssh", "--deny", "10.99.0.1:8080").ready()
    with Ears(idle.laptop, PORT) as ears:
        assert idle.codespace.run("dig", "+short", "laptop.corp.test").check().stdout.strip() == LAPTOP_IN_CORP[4]
        output = idle.codespace.run("curl", "-sS", "-m", "5", "--resolve", f"www.corp.test:{PORT}:{LAPTOP_IN_CORP[4]}",
                                    f"http://www.corp.test:{PORT}/")
        assert output.code == 7
        assert ears.heard() == []
    (record,) = denials(bridge)
    assert (record["destination"], record["reason"]) == ("10.99.0.1", "denied by the rule 10.99.0.1:8080")


# --- the host alias ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["openssh", "sandbox"])
def test_host_alias_reaches_opened_ports(idle: World, start: Start, homes: Homes, transport: str) -> None:
    target = ("sandbox",) if transport == "sandbox" else (TARGET, "--ssh", transport)
    options = ("--host-alias", "--allow", f"127.0.0.1:{PORT},53", "--allow", f"[::1]:{PORT}")
    bridge = start(*target, *options).ready()
    machine, enter = (idle.laptop, bridge.inside()) if transport == "sandbox" else (idle.codespace, None)
    told = bridge.event("host_alias")
    assert told is not None
    assert (told["name"], told["rules"]) == (NAME, [f"127.0.0.1:{PORT},53", f"[::1]:{PORT}"])
    four, six = told["addresses"]
    for option in ("-4", "-6"):
        output = machine.run("curl", "-sS", "-m", "5", option, f"http://{NAME}:{PORT}/", enter=enter)
        assert output.stdout.strip() == "laptop", output
    with machine.connect(four, PORT, enter=enter) as client:
        me = f"{client.getsockname()[0]}:{client.getsockname()[1]}"
        (flow,) = [flow for flow in state(bridge)["flows"] if flow["source"] == me]
        assert (flow["destination"], flow["final"]) == (f"{four}:{PORT}", f"127.0.0.1:{PORT}")
    for address, number in ((four, errno.EHOSTUNREACH), (six, errno.EACCES)):
        assert connect_errno(machine, address, PORT + 1, enter) == number
    record = denials(bridge)[0]
    assert (record["destination"], record["final"], record["port"]) == (four, "127.0.0.1", PORT + 1)
    assert "loopback, denied unless --allow names it" in record["reason"]
    ping = machine.run("ping", "-c", "1", "-W", "3", four, enter=enter)
    assert ping.code == 1
    assert "Packet filtered" in ping.stdout


def test_host_alias_for_datagrams_and_ping(idle: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh", "--host-alias", "--allow", "127.0.0.1").ready()
    told = bridge.event("host_alias")
    assert told is not None
    (address,) = told["addresses"]

    def client() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(3)
        made.connect((address, PORT))
        return made

    with idle.codespace.inside(client) as asking:
        with idle.laptop.udp("127.0.0.1", PORT) as server:
            server.settimeout(3)
            asking.send(b"question")
            data, peer = server.recvfrom(100)
            assert data == b"question"
            server.sendto(b"answer", peer)
            assert asking.recv(100) == b"answer"
        asking.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(100)
    assert idle.codespace.run("ping", "-c", "1", "-W", "3", address).code == 0
    assert connect_errno(idle.codespace, address, PORT) == errno.ECONNREFUSED
    # Nothing opens ::1, so nobody is sent there: no address, and not "no such name".
    assert idle.codespace.run("dig", "+short", NAME, "A").check().stdout.strip() == address
    said = idle.codespace.run("dig", NAME, "AAAA").check().stdout
    assert "status: NOERROR" in said
    assert "ANSWER: 0" in said


def test_host_alias_is_off_by_default(idle: World, start: Start, homes: Homes) -> None:
    bridge = start(TARGET, "--ssh", "openssh", "--all", "--allow", "127.0.0.1").ready()
    assert bridge.event("host_alias") is None
    assert "status: NXDOMAIN" in idle.codespace.run("dig", NAME).check().stdout
    network = state(bridge)["network"]["tun"][0].rpartition(".")[0]
    assert connect_errno(idle.codespace, f"{network}.4", PORT) == errno.EHOSTUNREACH
    assert "the bridge's own network" in denials(bridge)[0]["reason"]


def test_host_alias_without_names(idle: World, start: Start, homes: Homes) -> None:
    """With --dns off the address is told, and works."""
    bridge = start(TARGET, "--ssh", "openssh", "--dns", "off", "--host-alias", "--allow", f"127.0.0.1:{PORT}").ready()
    told = bridge.event("host_alias")
    assert told is not None
    assert curl(idle.codespace, f"{told['addresses'][0]}:{PORT}") == "laptop"


# --- this machine's own addresses -------------------------------------------------------------------------------------


def test_own_addresses_are_reached_unless_denied(idle: World, start: Start) -> None:
    """As the README says: a service on 0.0.0.0 of this machine is reached; `--deny local` closes it, and what comes."""
    with Ears(idle.laptop, PORT) as ears:
        bridge = start(TARGET, "--ssh", "openssh").ready()
        idle.codespace.connect(LAPTOP_IN_CORP[4], PORT).close()
        assert len(ears.heard()) == 1
        bridge.stop()
        bridge = start(TARGET, "--ssh", "openssh", "--deny", "local", "--route", "10.98.7.0/28").ready()
        assert connect_errno(idle.codespace, LAPTOP_IN_CORP[4], PORT) == errno.EHOSTUNREACH
        assert connect_errno(idle.codespace, LAPTOP_IN_CORP[6], PORT) == errno.EACCES
        assert denials(bridge)[0]["reason"] == "denied by the rule local"
        idle.codespace.connect(CORP[4], HTTP_PORT).close()
        idle.laptop.ip("addr add 10.99.0.99/24 dev eth1", "route add local 10.98.7.0/28 dev lo")
        try:
            time.sleep(3.6)  # the look at the routes comes every three seconds
            assert connect_errno(idle.codespace, "10.99.0.99", PORT) == errno.EHOSTUNREACH
            assert connect_errno(idle.codespace, "10.98.7.5", PORT) == errno.EHOSTUNREACH
        finally:
            idle.laptop.ip("addr del 10.99.0.99/24 dev eth1", "route del local 10.98.7.0/28 dev lo")
        assert ears.heard() == []


# --- the audit --------------------------------------------------------------------------------------------------------


def test_each_denied_flow_is_told_with_its_source(idle: World, start: Start) -> None:
    log = idle.laptop.folder / "audit.log"
    bridge = start(TARGET, "--ssh", "openssh", "--deny", CORP[4], "--log-file", str(log)).ready()
    with idle.codespace.inside(lambda: socket.socket()) as client:
        client.bind((source_of(bridge, 4), 45000))
        assert blocking_connect(client, CORP[4], HTTP_PORT) == errno.EHOSTUNREACH
    with idle.codespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.bind((source_of(bridge, 4), 45001))
        for _number in range(5):  # one flow
            with contextlib.suppress(OSError):
                client.sendto(b"x", (CORP[4], ECHO_PORT))
                time.sleep(0.02)
    assert idle.codespace.run("ping", "-c", "2", "-i", "0.2", "-W", "1", CORP[4]).code == 1
    wait_until(lambda: len(denials(bridge)) == 3, "three lines", 5, 0.1)
    tcp, udp, icmp = denials(bridge)
    me = source_of(bridge, 4)
    assert (tcp["protocol"], tcp["source"], tcp["source_port"]) == ("tcp", me, 45000)
    assert (tcp["destination"], tcp["port"], tcp["reason"]) == (CORP[4], HTTP_PORT, f"denied by the rule {CORP[4]}")
    assert abs(tcp["time"] - time.time()) < 30
    assert (udp["protocol"], udp["source_port"], udp["port"]) == ("udp", 45001, ECHO_PORT)
    assert (icmp["protocol"], icmp["source"], icmp["source_port"], icmp["port"]) == ("icmp", me, 0, 0)
    counters = state(bridge)["counters"]["policy"]
    assert (counters["denied"], counters["repeated"], counters["told"]) == (3, 5, 3)
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line for line in logged if line["event"] == "flow_denied"] == [tcp, udp, icmp]


def test_a_scan_is_told_as_a_number(idle: World, start: Start) -> None:
    """150 ports within a second or so: a burst is told, the rest is summed up, and nothing is lost on the way."""
    bridge = start(TARGET, "--ssh", "openssh", "--deny", CORP[4]).ready()

    def scan() -> None:
        for port in range(1000, 1150):
            with socket.socket() as client:
                assert blocking_connect(client, CORP[4], port) == errno.EHOSTUNREACH

    begun = time.monotonic()
    idle.codespace.inside(scan)
    seconds = time.monotonic() - begun
    wait_until(lambda: bridge.event("flows_denied"), "the sum", 10, 0.1)
    wait_until(lambda: counter(bridge, "policy", "summed_up") + len(denials(bridge)) == 150, "all", 10, 0.2)
    assert 20 <= len(denials(bridge)) <= 20 + 20 * (seconds + 1)
    sums = [event for event in bridge.events if event["event"] == "flows_denied"]
    assert sum(event["count"] for event in sums) + len(denials(bridge)) == 150
    assert sums[-1]["total"] == 150
    counters = state(bridge)["counters"]
    # ICMP errors have a rate too; a SYN that got none comes again, and is the same flow.
    assert counters["forward_tcp"]["dropped_policy"] == counters["policy"]["denied"] + counters["policy"]["repeated"]
    assert counters["policy"]["denied"] == 150
