"""What is captured while the place changes, and single addresses inside the place's own networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from netbridge.bridge.agent import hostroutes
from netbridge.bridge.agent.hostroutes import HostRoutes
from netbridge.bridge.agent.leading import LOOK_EVERY
from netbridge.bridge.agent.loop import Loop
from netbridge.bridge.bootstrap import AgentHandle

from .conftest import SETUP, Place
from .test_agent import show, until

net = pytest.mark.net
ETH0 = (
    "ip link set lo up; ip link add eth0 type veth peer name wire; ip link set wire up; "
    "ip addr add 10.3.0.5/16 dev eth0; ip addr add fd00:3::5/64 dev eth0 nodad; ip link set eth0 up; "
    "ip route add default via 10.3.0.1;"
)


class Scene:
    """An agent with a TUN in a place with one network."""

    def __init__(self, agent: AgentHandle, enter: list[str]) -> None:
        self.agent = agent
        self.enter = enter
        self.told: list[dict[str, Any]] = []
        agent.on_routes = self.told.append

    def ip(self, *lines: str) -> None:
        batch = "\n".join(lines)
        subprocess.run([*self.enter, "ip", "-batch", "-"], input=batch, text=True, check=True)

    def bridged(self, address: str) -> bool:
        return "dev nb0" in show(self.enter, "ip", "route", "get", address)

    async def hosts(self, *addresses: str, seconds: float = 60) -> dict[str, str]:
        """Asked for; what is refused, and why."""
        answer = await self.agent.make_host_routes([(address, seconds) for address in addresses])
        if seconds:
            assert sorted([*answer["installed"], *(it["route"] for it in answer["skipped"])]) == sorted(addresses)
        return {it["route"]: it["reason"] for it in answer["skipped"]}


async def scene(place: Place, *, routes: tuple[str, ...] = ("10.0.0.0/8", "198.51.100.0/24"), **more: Any) -> Scene:
    agent = await place.agent(before=ETH0)
    found = Scene(agent, place.enter(agent))
    await agent.setup({**SETUP, "routes": list(routes), **more})
    return found


@net
async def test_a_network_that_appears_and_goes(place: Place) -> None:
    it = await scene(place, routes=("10.20.0.0/16", "10.30.0.0/16"))
    assert it.agent.ready["own"] == ["10.3.0.0/16", "fd00:3::/64"]
    it.ip("link add br9 type bridge", "addr add 10.20.0.1/16 dev br9", "link set br9 up")
    await until(lambda: bool(it.told), "the word", 2)
    assert it.told[-1]["routes"] == ["10.30.0.0/16"]
    assert it.told[-1]["skipped"] == [
        {"route": "10.20.0.0/16", "reason": "it is the target's own, too"}
    ]
    assert "10.20.0.0/16" in it.told[-1]["own"]
    assert not it.bridged("10.20.0.7")
    it.ip("link del br9")
    await until(lambda: it.bridged("10.20.0.7"), "captured again", 2)
    await until(lambda: it.told[-1]["routes"] == ["10.20.0.0/16", "10.30.0.0/16"], "the word", 2)
    await it.agent.stop()


@net
async def test_a_gateway_that_appears_is_not_captured(place: Place) -> None:
    it = await scene(place)
    assert it.bridged("198.51.100.9")
    it.ip("route add 192.0.2.0/24 via 198.51.100.9 dev eth0 onlink")
    await until(lambda: not it.bridged("198.51.100.9"), "the gateway left alone", 2)
    assert it.bridged("198.51.100.8")
    assert it.bridged("198.51.100.10")
    it.ip("route del 192.0.2.0/24")
    await until(lambda: it.bridged("198.51.100.9"), "captured again", 2)
    await until(lambda: "198.51.100.0/24" in it.told[-1]["routes"], "the word", 2)
    await it.agent.stop()


@net
async def test_a_nameserver_that_appears_is_not_captured(place: Place) -> None:
    """A DHCP client wrote resolv.conf anew; that is seen within some seconds, or with the next change of a route."""
    it = await scene(place)
    place.resolv_conf.write_text("nameserver 198.51.100.53\n")
    it.ip("route add 192.0.2.0/24 dev eth0")
    await until(lambda: not it.bridged("198.51.100.53"), "the nameserver left alone", 2)
    await it.agent.stop()


@net
async def test_nameservers_behind_a_local_resolver_are_not_captured(place: Place) -> None:
    """resolv.conf names 127.0.0.53; whom systemd-resolved asks stands in a file of its own, as with NetworkManager."""
    resolveds = "/run/systemd/resolve/resolv.conf"
    managers = "/run/NetworkManager/no-stub-resolv.conf"
    agent = await place.agent(before=(
        f"{ETH0} mount -t tmpfs none /run; mkdir -p /run/systemd/resolve /run/NetworkManager;"
        f" echo nameserver 10.77.0.2 >{resolveds}; echo nameserver 10.77.0.3 >{managers};"
    ))
    it = Scene(agent, place.enter(agent))
    await agent.setup({**SETUP, "routes": ["10.0.0.0/8"]})
    assert [it.bridged(f"10.77.0.{last}") for last in range(1, 5)] == [True, False, False, True]
    write = f"echo nameserver 10.78.0.2 >{resolveds}"  # DHCP gave another; the first is still used by who began with it
    subprocess.run([*it.enter, "sh", "-ec", f"{write}; ip route add 192.0.2.0/24 dev eth0"], check=True)
    await until(lambda: not it.bridged("10.78.0.2"), "the nameserver left alone", 2)
    assert not it.bridged("10.77.0.2")
    await it.agent.stop()


@net
async def test_routes_that_somebody_took_away_are_made_anew(place: Place) -> None:
    it = await scene(place)
    it.ip("route flush dev nb0")
    await until(lambda: it.bridged("10.9.9.9") and it.bridged("198.51.100.9"), "the routes", 2)
    it.ip("link set nb0 down")
    await until(lambda: not it.bridged("10.9.9.9"), "a TUN that is down")
    it.ip("link set nb0 up")
    await until(lambda: it.bridged("10.9.9.9") and it.bridged("198.51.100.9"), "the routes", 2)
    await it.agent.stop()


@net
async def test_changes_that_do_not_matter_are_not_told(place: Place) -> None:
    """A hundred of them, and after them one that does: one word comes, the last one's."""
    it = await scene(place)
    it.ip(*(f"route add 203.0.113.{number}/32 dev eth0" for number in range(50)))
    it.ip(*(f"route del 203.0.113.{number}/32 dev eth0" for number in range(50)))
    await it.agent.change_routes(["10.0.0.0/8", "198.51.100.0/24"], [])  # what was heard before is looked at by now
    assert it.told == []
    it.ip("addr add 198.51.100.1/24 dev eth0")
    await until(lambda: bool(it.told), "the word", 2)
    assert len(it.told) == 1
    assert "198.51.100.0/24" in it.told[0]["own"]
    assert not [network for network in it.told[0]["routes"] if network.startswith("198.")]
    await it.agent.stop()


@net
async def test_a_host_inside_an_own_network_for_a_time(place: Place) -> None:
    it = await scene(place)
    assert not it.bridged("10.3.7.7")
    assert await it.hosts("10.3.7.7", "fd00:3::77") == {}
    assert it.bridged("10.3.7.7")
    assert it.bridged("fd00:3::77")
    assert not it.bridged("10.3.7.8")
    assert await it.hosts("10.3.7.7", seconds=0) == {}
    assert not it.bridged("10.3.7.7")
    assert await it.hosts("10.3.7.9", seconds=0.3) == {}
    assert it.bridged("10.3.7.9")
    await until(lambda: not it.bridged("10.3.7.9"), "its end", 2)
    assert it.bridged("fd00:3::77")
    assert it.told == []
    before = show(it.enter, "ip", "-6", "route", "show", "dev", "eth0")
    await it.agent.stop()
    assert "nb0" not in show(it.enter, "ip", "route") + show(it.enter, "ip", "-6", "route")
    assert show(it.enter, "ip", "-6", "route", "show", "dev", "eth0") == before


@net
async def test_a_host_inside_an_own_network_that_lies_inside_a_captured_one(place: Place) -> None:
    """Without a hole in it the captured network is one route, which holds the host, and the own one is longer."""
    it = await scene(place, routes=("172.16.0.0/12",))
    it.ip("link add br9 type bridge", "addr add 172.17.0.1/16 dev br9", "link set br9 up")
    await until(lambda: bool(it.told), "the word", 2)
    assert it.told[-1]["routes"] == ["172.16.0.0/12"]
    assert not it.bridged("172.17.9.9")
    assert await it.hosts("172.17.9.9") == {}
    assert it.bridged("172.17.9.9")
    assert not it.bridged("172.17.9.8")
    await it.agent.stop()


@net
async def test_a_host_that_becomes_a_gateway_is_let_go(place: Place) -> None:
    it = await scene(place)
    assert await it.hosts("10.3.7.7") == {}
    assert it.bridged("10.3.7.7")
    it.ip("route add 192.0.2.0/24 via 10.3.7.7 dev eth0 onlink")
    await until(lambda: not it.bridged("10.3.7.7"), "the gateway left alone", 2)
    await it.agent.stop()


@net
async def test_a_host_that_becomes_a_neighbour_is_let_go(place: Place) -> None:
    """A container that is started with such an address would hear nothing from the place it is in."""
    it = await scene(place)
    assert await it.hosts("10.3.7.7", "10.3.7.8") == {}
    it.ip("neigh add 10.3.7.7 lladdr 02:00:00:00:00:77 nud stale dev eth0")
    await until(lambda: not it.bridged("10.3.7.7"), "the neighbour left alone", 2)
    assert it.bridged("10.3.7.8")
    assert (await it.hosts("10.3.7.7", "10.3.7.8")).keys() == {"10.3.7.7"}
    it.ip("neigh del 10.3.7.7 dev eth0")
    assert await it.hosts("10.3.7.7") == {}
    await until(lambda: it.bridged("10.3.7.7"), "captured again", 2)
    await it.agent.stop()


@net
async def test_hosts_that_stay_the_targets_own(place: Place) -> None:
    it = await scene(place, exclude=["10.3.9.0/24"], routes=("10.0.0.0/8",))
    it.ip(
        "neigh add 10.3.0.50 lladdr 02:00:00:00:00:50 nud reachable dev eth0",
        "neigh add 10.3.0.51 lladdr 02:00:00:00:00:51 nud stale dev eth0",
        "neigh add 10.3.0.52 nud failed dev eth0",
        # a switch that answers for everybody
        "neigh add 10.3.0.60 lladdr 12:34:56:78:9a:bc nud reachable dev eth0",
        "neigh add 10.3.0.61 lladdr 12:34:56:78:9a:bc nud reachable dev eth0",
    )
    refused = await it.hosts(
        "10.3.0.5", "fd00:3::5", "10.3.0.1", "10.3.0.0", "10.3.255.255", "10.3.9.1", "127.0.0.1", "169.254.169.254",
        "168.63.129.16", "224.0.0.1", "ff02::1", "no address", "10.3.0.50", "10.3.0.51", "10.3.0.52", "10.3.0.60",
    )  # fmt: skip
    assert {address: reason for address, reason in refused.items() if "own address" in reason}.keys() == {
        "10.3.0.5", "fd00:3::5",
    }  # fmt: skip
    assert "gateway" in refused["10.3.0.1"]
    assert "as a whole" in refused["10.3.0.0"]
    assert "as a whole" in refused["10.3.255.255"]
    assert refused["10.3.9.1"] == "it is excluded"
    assert "neighbour" in refused["10.3.0.50"]
    assert "neighbour" in refused["10.3.0.51"]
    assert refused.keys() >= {"127.0.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "ff02::1", "no address"}
    assert not {"10.3.0.52", "10.3.0.60"} & refused.keys()
    for address in ("10.3.0.50", "10.3.0.1"):
        assert not it.bridged(address)
    assert it.bridged("10.3.0.60")
    await it.agent.stop()


@net
async def test_a_host_that_a_program_is_connected_to_beside_the_bridge_stays(place: Place) -> None:
    """Its packets have another source than the TUN's, and nobody would know them."""
    it = await scene(place)
    script = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('10.3.7.7', 9)); print(); input()"
    with subprocess.Popen(
        [*it.enter, sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert "connection" in (await it.hosts("10.3.7.7"))["10.3.7.7"]
        assert not it.bridged("10.3.7.7")
        program.communicate("\n")
    assert await it.hosts("10.3.7.7") == {}
    assert it.bridged("10.3.7.7")
    await it.agent.stop()


@net
async def test_a_host_that_is_captured_anyway_keeps_its_way_when_its_network_is_let_go(place: Place) -> None:
    it = await scene(place)
    assert await it.hosts("198.51.100.9") == {}
    assert "198.51.100.9 dev nb0" not in show(it.enter, "ip", "route")
    await it.agent.change_routes(["10.0.0.0/8"], [])
    assert it.bridged("198.51.100.9")
    assert not it.bridged("198.51.100.8")
    await it.agent.stop()


@net
async def test_a_kill_leaves_no_host_route(place: Place) -> None:
    it = await scene(place)
    before = show(it.enter, "ip", "route", "show", "dev", "eth0")
    assert await it.hosts(*(f"10.3.8.{number}" for number in range(100))) == {}
    assert it.bridged("10.3.8.99")
    subprocess.run(["kill", "-9", str(it.agent.hello["pid"])], check=True)
    await until(lambda: "nb0" not in show(it.enter, "ip", "route"), "the routes' end")
    assert show(it.enter, "ip", "route", "show", "dev", "eth0") == before


class Times:
    """A loop whose time is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, Callable[[], None], Any]] = []
        monkeypatch.setattr("netbridge.bridge.agent.hostroutes.time.monotonic", lambda: self.now)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        class Timer:
            cancelled = False

            def cancel(self) -> None:
                self.cancelled = True

        timer = Timer()
        self.calls.append((self.now + delay, callback, timer))
        return timer

    def until(self, then: float) -> None:
        """Let time pass and make the calls that are due."""
        while due := [call for call in self.calls if call[0] <= then and not call[2].cancelled]:
            first = min(due, key=lambda call: call[0])
            self.calls.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = then


def test_nothing_runs_out_while_the_session_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(monkeypatch)
    there = [True]
    ran_out: list[float] = []
    loop: Loop = times  # type: ignore[assignment]
    hosts = HostRoutes(loop, lambda: there[0], lambda: ran_out.append(times.now))
    address = ip_address("10.3.7.7")
    hosts.keep(address, 60)
    times.until(1059)
    assert address in hosts
    there[0] = False
    times.until(2000)
    assert address in hosts
    assert ran_out == []
    there[0] = True
    times.until(2000 + hostroutes.PATIENCE + 1)
    assert address not in hosts
    assert len(ran_out) == 1
    assert ran_out[0] > 2000


def test_hosts_are_bounded_and_the_longest_not_asked_for_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(monkeypatch)
    loop: Loop = times  # type: ignore[assignment]
    hosts = HostRoutes(loop, lambda: True, lambda: None)
    everyone = [ip_address(0x0A030000 + number) for number in range(hostroutes.MOST + 1)]
    for address in everyone[:-1]:
        hosts.keep(address, 60)
    hosts.keep(everyone[0], 60)
    hosts.keep(everyone[-1], 60)
    assert len(hosts.addresses) == hostroutes.MOST
    assert everyone[0] in hosts
    assert everyone[1] not in hosts
    hosts.close()
    times.until(5000)
    assert hosts.addresses == []


@net
async def test_an_interface_that_lost_its_address(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A network manager that likes order, and then a container network, whose names cannot be led to the stub."""
    it = await scene(place, routes=("10.0.0.0/8",))
    it.ip("addr flush dev nb0", "link add br9 type bridge", "addr add 192.0.2.1/24 dev br9", "link set br9 up")
    await until(lambda: "lost its IPv4 address" in caplog.text, "the word", 2 * LOOK_EVERY)
    assert await it.agent.ping(2) < 2
    await it.agent.stop()
