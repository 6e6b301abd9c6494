"""Known failure 15, in full: names of the laptop's that lead into networks which the codespace has itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.world import Bridge, World, servers
from tests.world.addresses import CODESPACE, CORP, LAPTOP
from tests.world.bridge import netbridge
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .programs import changed, ended
from .state import state
from .test_routes_live import bridged, way
from .test_traces import assert_restored, works

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
RESOLVER = "10.96.0.1"
HOSTS = {
    "db": "172.17.9.9", "near": "172.30.7.99", "six": "fd30:7::99", "soon": "172.17.9.10", "denied": "172.17.9.11",
}  # fmt: skip
"""What corp has, in docker0's network and in the one that the codespace and the laptop share; `soon` has a TTL of 1."""
OWN = {"gateway": LAPTOP[4], "itself": CODESPACE[4], "docker": "172.17.0.1", "container": "172.17.0.77"}
"""What names may lead to as well, and must stay as it is."""


@pytest.fixture
def names(idle: World) -> Iterator[None]:
    """Hosts of corp's inside the codespace's networks, their names, and laptop's routes to them."""
    for host in HOSTS.values():
        idle.corp.ip(f"addr add {host}/{128 if ':' in host else 32} dev lo")
    idle.corp.ip(f"addr add {RESOLVER}/32 dev lo")
    routes = [f"{host} via {CORP[6 if ':' in host else 4]}" for host in (*HOSTS.values(), RESOLVER)]
    idle.laptop.ip(*(f"route add {route}" for route in routes), f"route add 172.17.0.0/16 via {CORP[4]}")
    zone = ["  local-zone: over.test. static"]
    for name, host in {**HOSTS, **OWN}.items():
        kind = "AAAA" if ":" in host else "A"
        zone += [f"  local-data: '{name}.over.test. {1 if name == 'soon' else 300} {kind} {host}'"]
    laptops = idle.laptop.folder / "resolv.conf"
    with ended(idle.corp), changed(laptops, f"nameserver {RESOLVER}\nsearch over.test\n"):
        servers.unbound(idle.corp, [RESOLVER], zone)
        wait_until(lambda: idle.laptop.answers(RESOLVER, 53), "the resolver")
        yield
    idle.laptop.shell("; ".join(f"ip route del {route}" for route in (*routes, "172.17.0.0/16"))).check()
    for host in (*HOSTS.values(), RESOLVER):
        idle.corp.ip(f"addr del {host}/{128 if ':' in host else 32} dev lo")


def connects(world: World, name: str, port: int) -> bool:
    return world.codespace.run("nc", "-z", "-w", "3", f"{name}.over.test", str(port)).code == 0


def routes(bridge: Bridge) -> dict[str, dict[str, object]]:
    return {it["address"]: it for it in state(bridge)["host_routes"]}


@pytest.mark.usefixtures("names")
def test_failure_15_a_name_that_leads_into_an_own_network_is_reached(idle: World, start: Start) -> None:
    """The very first connect takes the bridge, since the route is there before the answer. Its neighbours stay."""
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    bridge = start(TARGET, "--ssh", "openssh").ready()
    overlapping = {it["network"]: it["reason"] for it in state(bridge)["overlapping"]}
    assert "target's own" in overlapping["172.17.0.0/16"]
    assert "172.30.7.0/24" in overlapping
    for name in ("db", "near", "six"):
        host = HOSTS[name]
        with idle.corp.listen(host) as listener:
            assert not bridged(idle, host), name
            assert connects(idle, name, listener.getsockname()[1]), f"{name}: {bridge.said}"
            assert bridged(idle, host), name
        found = routes(bridge)[host]
        assert found["names"] == [f"{name}.over.test"]
        assert 200 < float(str(found["seconds"])) <= 300
    assert "dev docker0" in way(idle, "172.17.9.8")
    assert "dev eth0" in way(idle, "172.30.7.98")
    told = {it["address"]: it for it in bridge.events if it["event"] == "host_route"}
    assert told[HOSTS["db"]]["name"] == "db.over.test"
    assert told[HOSTS["db"]]["network"] == "172.17.0.0/16"
    hints = [it["text"] for it in bridge.events if it["event"] == "hint" and "172.17.0.0/16" in it["text"]]
    assert len(hints) == 1, hints
    shown = netbridge(idle.laptop, "status").check().stdout
    assert "overlapping" in shown
    assert "172.17.9.9 in 172.17.0.0/16 (db.over.test)" in shown, shown
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace)
    assert_restored(here, idle.laptop)


@pytest.mark.usefixtures("names")
def test_failure_15_names_that_lead_to_the_codespaces_own_hosts_change_nothing(idle: World, start: Start) -> None:
    """Its own addresses and gateway, a neighbour that answered, a name that its own resolver knew."""
    container = OWN["container"]
    idle.codespace.ip(f"neigh replace {container} lladdr 02:00:00:00:00:77 nud reachable dev docker0")
    idle.codespace.ip("link add br9 type bridge", "addr add 203.0.113.1/24 dev br9", "link set br9 up")
    idle.laptop.ip(f"route add 203.0.113.0/24 via {CORP[4]}")
    try:
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert "203.0.113.0/24" in {it["network"] for it in state(bridge)["overlapping"]}
        for name, host in OWN.items():
            assert idle.codespace.run("dig", "+short", f"{name}.over.test").stdout == f"{host}\n"
            assert not bridged(idle, host), name
            if name != "itself":  # the laptop knows by itself that this carries the tunnel
                assert routes(bridge)[host]["refused"], name
        assert idle.codespace.run("dig", "+short", "www.public.test").stdout == "203.0.113.80\n"
        assert "203.0.113.80" not in routes(bridge)
        assert not bridged(idle, "203.0.113.80")
        assert works(idle)
    finally:
        idle.laptop.ip("route del 203.0.113.0/24")
        idle.codespace.shell(f"ip link del br9; ip neigh del {container} dev docker0").check()


@contextmanager
def connected(world: World, bridge: Bridge, name: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    host = HOSTS[name]
    with world.corp.listen(host) as listener:
        assert world.codespace.run("getent", "hosts", f"{name}.over.test").stdout, bridge.said
        client = world.codespace.connect(host, listener.getsockname()[1])
        server = listener.accept()[0]
    with client, server:
        yield client, server


@pytest.mark.usefixtures("names")
def test_failure_15_policy_applies_and_kill_9_leaves_nothing(idle: World, start: Start) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", "openssh", "--deny", f"{HOSTS['denied']}/32", "--grace", "1").ready()
    with idle.corp.listen(HOSTS["denied"]) as listener:
        assert not connects(idle, "denied", listener.getsockname()[1])
    denied = bridge.event("flow_denied")
    assert denied
    assert denied["destination"] == HOSTS["denied"]
    with connected(idle, bridge, "soon") as (client, server):
        client.sendall(b"hello")
        server.settimeout(5)
        assert server.recv(10) == b"hello"
        assert routes(bridge)[HOSTS["soon"]]["in_use"]
        for pid in set(idle.codespace.processes()) - before.pids:
            with contextlib.suppress(ProcessLookupError):  # some were there for a moment only
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not bridged(idle, HOSTS["soon"]), "the route's end", 5)
    bridge.ended()


@pytest.mark.usefixtures("names")
def test_failure_15_answers_are_not_held_up_once_the_route_is_there(idle: World, start: Start) -> None:
    """Answers out of the cache, with the route in place, are as quick as any."""
    start(TARGET, "--ssh", "openssh").ready()
    seconds = []
    for _ in range(20):
        output = idle.codespace.run("dig", "@198.18.0.1", "db.over.test").check()
        seconds.append(int(output.stdout.partition("Query time: ")[2].split()[0]))
    print(f"ms: {seconds}")
    assert sorted(seconds)[10] < 20
