"""Routes that follow: VPNs that come up and go down on the laptop, networks that appear in the codespace, all while a
flow goes on. Changes are made with `ip`; each must be seen in the codespace within two seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CORP, LAPTOP
from tests.world.machine import wait_until

from .conftest import TARGET
from .state import state

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
SOON = 2.0
"""Seconds in which a change is followed."""


def ip(machine: Machine, *lines: str) -> None:
    """Like `Machine.ip`, for commands that say -6, which a batch cannot."""
    machine.shell("set -e; " + "; ".join(f"ip {line}" for line in lines)).check()


def way(world: World, host: str) -> str:
    return world.codespace.run("ip", "route", "get", host).stdout


def bridged(world: World, host: str) -> bool:
    return "dev nb" in way(world, host)


def within(what: str, condition: Callable[[], bool]) -> None:
    """Wait for it, and print how long it took; AssertionError when that is longer than promised."""
    began = time.monotonic()
    wait_until(condition, what, SOON, 0.02)
    print(f"{what}: {time.monotonic() - began:.2f} s")


@contextmanager
def flow(world: World, host: str = CORP[4]) -> Iterator[list[float]]:
    """A flow from the codespace that echoes every few milliseconds; how long each echo took. It must not break."""
    with world.corp.listen(host) as listener:
        client = world.codespace.connect(host, listener.getsockname()[1])
        server = listener.accept()[0]
    client.settimeout(10)
    seconds: list[float] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def echo() -> None:
        while data := server.recv(100):
            server.sendall(data)

    def ask() -> None:
        try:
            while not stop.is_set():
                began = time.monotonic()
                client.sendall(b"still there?")
                assert client.recv(100) == b"still there?"
                seconds.append(time.monotonic() - began)
                stop.wait(0.01)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=it, daemon=True) for it in (echo, ask)]
    for thread in threads:
        thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        threads[1].join(12)
        client.close()
        threads[0].join(5)
        server.close()
    assert not errors, errors
    assert seconds
    assert max(seconds) < 1, f"the flow stood still for {max(seconds):.2f} s"


@contextmanager
def tunnel(laptop: Machine) -> Iterator[str]:
    """A VPN's interface on the laptop. Nobody is behind it; it is for its routes."""
    laptop.ip(
        "tuntap add dev tun9 mode tun", "addr add 10.8.0.6 peer 10.8.0.5 dev tun9",
        "addr add fd08::6/64 dev tun9 nodad", "link set tun9 up",
    )
    try:
        yield "tun9"
    finally:
        laptop.shell("ip link del tun9; ip rule del priority 5270; ip -6 rule del priority 5270")


SPLIT = {
    "routes": (("route add 10.45.0.0/16 via 10.8.0.5",), ("route del 10.45.0.0/16",), "10.45.0.7"),
    "routes for IPv6": (("route add fd45::/32 dev tun9",), ("route del fd45::/32 dev tun9",), "fd45::7"),
    "a rule": (("rule add priority 5270 lookup 52",), ("rule del priority 5270",), "10.52.0.7"),
    "a rule for IPv6": (("-6 rule add priority 5270 lookup 52",), ("-6 rule del priority 5270",), "fd52::7"),
    "the interface": (("link set tun9 up", "route add 10.45.0.0/16 dev tun9"), ("link set tun9 down",), "10.45.0.7"),
}


def test_failure_07_a_vpn_that_comes_up_and_goes_down_is_followed(idle: World, start: Start) -> None:
    """By its routes, by a rule into a table of its own (Tailscale's 52), by its interface. A flow goes on meanwhile."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    with flow(idle), tunnel(idle.laptop):
        ip(idle.laptop, "route add 10.52.0.0/16 dev tun9 table 52", "-6 route add fd52::/32 dev tun9 table 52")
        within("the tunnel itself", lambda: bridged(idle, "10.8.0.5"))
        for name, (up, down, host) in SPLIT.items():
            assert not bridged(idle, host), name
            ip(idle.laptop, *up)
            within(f"{name}, up", lambda host=host: bridged(idle, host))  # type: ignore[misc]
            ip(idle.laptop, *down)
            within(f"{name}, down", lambda host=host: not bridged(idle, host))  # type: ignore[misc]
    within("the tunnel's end", lambda: not bridged(idle, "10.8.0.5"))
    assert bridge.program.running


FULL = {
    "a default route": (("route add default dev tun9",), ("route del default dev tun9",)),
    "two halves, as OpenVPN": (
        ("route add 0.0.0.0/1 via 10.8.0.5", "route add 128.0.0.0/1 via 10.8.0.5"),
        ("route del 0.0.0.0/1", "route del 128.0.0.0/1"),
    ),
    "table 51820, as wg-quick": (
        ("route add default dev tun9 table 51820", "rule add not fwmark 51820 table 51820",
         "rule add table main suppress_prefixlength 0"),
        ("rule del table main suppress_prefixlength 0", "rule del not fwmark 51820 table 51820"),
    ),
    "IPv6, as wg-quick": (
        ("-6 route add default dev tun9 table 51820", "-6 rule add not fwmark 51820 table 51820",
         "-6 rule add table main suppress_prefixlength 0"),
        ("-6 rule del table main suppress_prefixlength 0", "-6 rule del not fwmark 51820 table 51820"),
    ),
    "IPv6, 2000::/3": (("-6 route add 2000::/3 dev tun9",), ("-6 route del 2000::/3 dev tun9",)),
}  # fmt: skip


def test_failure_16_a_full_tunnel_that_comes_up_captures_private_space(idle: World, start: Start) -> None:
    """In each form that VPNs give it. The codespace keeps its own networks in between, and its gateway's neighbours."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    with flow(idle), tunnel(idle.laptop):
        within("the tunnel itself", lambda: bridged(idle, "10.8.0.5"))
        for name, (up, down) in FULL.items():
            hosts = ("fd77:7::7",) if "IPv6" in name else ("10.200.0.7", "172.29.0.7", "192.168.7.7")
            assert not any(bridged(idle, host) for host in hosts), name
            ip(idle.laptop, *up)
            within(f"{name}, up", lambda hosts=hosts: all(bridged(idle, host) for host in hosts))  # type: ignore[misc]
            for own in ("172.30.7.99", LAPTOP[4], "172.17.0.9", "fd30:7::99", LAPTOP[6]):
                assert not bridged(idle, own), f"{name}: {way(idle, own)}"
            assert not bridged(idle, "203.0.113.7")
            ip(idle.laptop, *down)
            within(f"{name}, down", lambda hosts=hosts: not any(bridged(idle, host) for host in hosts))  # type: ignore[misc]
    told = [it["reason"] for event in bridge.events if event["event"] == "captured" for it in event["networks"]]
    assert any("through the tunnel tun9" in reason for reason in told), told


@pytest.fixture
def branch_of_a_vpn(idle: World) -> Iterator[str]:
    """A host that the laptop reaches by a route that is to come and go."""
    host = "10.96.0.1"
    idle.corp.ip(f"addr add {host}/32 dev lo")
    idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
    yield host
    idle.laptop.shell("ip route del 10.96.0.0/24")
    idle.corp.ip(f"addr del {host}/32 dev lo")


def test_a_flow_whose_network_is_let_go_fares_as_it_would_here(idle: World, start: Start, branch_of_a_vpn: str) -> None:
    """The VPN reconnects: new connects have no way meanwhile, what is open keeps its own, waits and goes on."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    host = branch_of_a_vpn
    with idle.corp.listen(host) as listener:
        client = idle.codespace.connect(host, listener.getsockname()[1])
        server = listener.accept()[0]
    with client, server:
        client.sendall(b"before")
        server.settimeout(10)
        assert server.recv(100) == b"before"
        idle.laptop.ip("route del 10.96.0.0/24")
        within("let go", lambda: not bridged(idle, "10.96.0.9"))
        assert bridged(idle, host)
        (kept,) = [it for it in state(bridge)["host_routes"] if it["address"] == host]
        assert kept["in_use"]
        assert kept["network"] == "10.96.0.0/24"
        client.sendall(b"while")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.recv(100)
        idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
        within("captured again", lambda: bridged(idle, "10.96.0.9"))
        server.settimeout(20)
        assert server.recv(100) == b"while"
        server.sendall(b"and back")
        client.settimeout(10)
        assert client.recv(100) == b"and back"


@contextmanager
def bridge_over_there(world: World, address: str) -> Iterator[None]:
    """As when docker makes a network."""
    world.codespace.ip("link add br9 type bridge", f"addr add {address} dev br9", "link set br9 up")
    try:
        yield
    finally:
        world.codespace.shell("ip link del br9")


def test_without_a_tun_networks_over_there_are_followed_as_well(idle: World, start: Start) -> None:
    """A network that appears is not captured any more; a second address of the interface's is heard."""
    laptop, codespace = idle.laptop, idle.codespace
    laptop.ip(f"route add 10.46.0.0/16 via {CORP[4]}")
    idle.corp.ip("addr add 10.46.0.9/32 dev lo")
    try:
        bridge = start(TARGET, "--ssh", "openssh", "--capture", "packet").ready()
        with idle.corp.listen("10.46.0.9") as listener:
            port = str(listener.getsockname()[1])
            codespace.run("nc", "-z", "-w", "5", "10.46.0.9", port).check()
            codespace.ip("addr add 172.31.7.2/24 dev eth0")
            within("its sources", lambda: "172.31.7.0/24" in state(bridge)["agent"]["sources"])
            codespace.run("nc", "-z", "-w", "5", "-s", "172.31.7.2", "10.46.0.9", port).check()
            with bridge_over_there(idle, "10.46.0.1/16"):
                within("told", lambda: "10.46.0.0/16" in str(state(bridge)["skipped"]))
            within("captured again", lambda: "10.46.0.0/16" in state(bridge)["routes"])
            codespace.run("nc", "-z", "-w", "5", "10.46.0.9", port).check()
    finally:
        codespace.shell("ip addr del 172.31.7.2/24 dev eth0")
        laptop.shell("ip route del 10.46.0.0/16")
        idle.corp.shell("ip addr del 10.46.0.9/32 dev lo")


@pytest.mark.parametrize("network", ["10.46.0.0/16", "10.46.0.0/20", "10.46.0.0/15"], ids=["equal", "inside", "around"])
def test_a_network_that_appears_in_the_codespace_stays_its_own(idle: World, start: Start, network: str) -> None:
    """Whichever is the narrower: the longest prefix decides. Told, shown by status, and undone when it goes again."""
    length = network.partition("/")[2]
    idle.laptop.ip(f"route add 10.46.0.0/16 via {CORP[4]}")
    try:
        bridge = start(TARGET, "--ssh", "openssh").ready()
        inside, beside = "10.46.0.9", "10.46.200.9"
        assert bridged(idle, inside)
        assert bridged(idle, beside)
        with flow(idle):
            with bridge_over_there(idle, f"10.46.0.1/{length}"):
                within("own", lambda: "dev br9" in way(idle, inside))
                within("told", lambda: any("10.46.0.0" in it["network"] for it in state(bridge)["overlapping"]))
                assert bridged(idle, beside) == (length == "20")
                if length != "20":
                    within("beside", lambda: "dev br9" in way(idle, beside) or length == "16")
                    told = {it["network"]: it["reason"] for it in state(bridge)["skipped"]}
                    own = "it is the target's own, too" if length == "16" else network
                    assert own in told["10.46.0.0/16"], told
                    wait_until(lambda: "10.46.0.0/16" in str(bridge.event("skipped")), "the event")
            within("captured again", lambda: bridged(idle, inside) and bridged(idle, beside))
            within("told again", lambda: not any("10.46.0" in it["network"] for it in state(bridge)["overlapping"]))
    finally:
        idle.laptop.shell("ip route del 10.46.0.0/16")
