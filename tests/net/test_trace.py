"""`netbridge trace` against one running bridge: what it says of each kind of destination is what happens to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.world import Bridge, World
from tests.world.addresses import BLACK_HOLE, BRANCH, CLOSED_PORT, CODESPACE, CORP, HTTP_PORT, REDIS_PORT, UNREACHABLE
from tests.world.bridge import NETBRIDGE, environment, netbridge

from .conftest import TARGET, Bridges

pytestmark = pytest.mark.net

PUBLIC = "203.0.113.80"
"""www.public.test, as the codespace's own resolver knows it and nobody else."""
DOCKER = "172.17.200.9"
"""In the codespace's docker0 network, and in one that the laptop has too."""
DOCKED = "172.17.200.77"
"""Another one, which has a name."""
ALIAS_PORT = 9999


@pytest.fixture(scope="module")
def bridge(bridges: Bridges, world: World) -> Iterator[Bridge]:
    """One for all traces: with an exclusion, a rule, an alias, and a network that the codespace has as well."""
    bridges.stop()
    world.laptop.ip("link add vpn0 type bridge", "link set vpn0 up", "route add 172.17.0.0/16 dev vpn0")
    world.codespace.ip(f"addr add {PUBLIC}/32 dev lo")
    made = Bridge(
        world.laptop, TARGET, "--ssh", "openssh", "--exclude", "10.97.0.0/24", "--deny", f"{CORP[4]}:{REDIS_PORT}",
        "--host-alias", "--allow", f"127.0.0.1:{ALIAS_PORT}",
    )
    try:
        made.ready()
        with world.codespace.listen(PUBLIC, HTTP_PORT):
            yield made
    finally:
        try:
            made.close()
        finally:
            world.laptop.ip("link delete vpn0")
            world.codespace.ip(f"addr delete {PUBLIC}/32 dev lo")


def traced(world: World, place: str, code: int = 0) -> dict[str, Any]:
    """The trace as JSON; `code` is the exit status it must have."""
    output = netbridge(world.laptop, "trace", place, "--json", timeout=60)
    assert output.code == code, f"{output.stdout}\n{output.stderr}"
    found: dict[str, Any] = json.loads(output.stdout)
    assert found["works"] is (code == 0)
    if code:
        assert output.stderr.splitlines()[-1].startswith(f"netbridge: {found['problem']['what']}")
    return found


def one(found: dict[str, Any], address: str) -> dict[str, Any]:
    """What was found out about one of the addresses."""
    (target,) = (target for target in found["targets"] if target["address"] == address)
    return dict(target)


@pytest.mark.parametrize("host", ["www.corp.test", "www"])
def test_a_name_behind_the_bridge(bridge: Bridge, world: World, host: str) -> None:
    found = traced(world, f"{host}:{HTTP_PORT}")
    assert (found["there"]["who"], found["there"]["name"]) == ("bridge", "www.corp.test")
    assert set(found["there"]["addresses"]) == set(CORP.values())
    assert (found["here"]["who"], found["here"]["server"]) == ("here", CORP[4])
    own = [it for it in found["there"]["answers"] if it["who"] == "own" and it["name"] == "www.corp.test"]
    assert [it["rcode"] for it in own] == ["NXDOMAIN"]
    target = one(found, CORP[4])
    assert target["way_there"]["interface"] == "nb0"
    assert target["captured"] == {"state": "captured", "network": "10.99.0.0/24", "reason": "connected to eth1"}
    assert (target["way_here"]["interface"], target["way_here"]["source"]) == ("eth1", "10.99.0.1")
    assert target["connect_here"]["code"] == ""
    assert target["connect_there"] is None


def test_the_screen(bridge: Bridge, world: World) -> None:
    output = netbridge(world.laptop, "trace", f"http://[{CORP[6]}]/index.html", timeout=60).check()
    assert output.stdout == ""
    assert "captured      yes, by fd99::/64 (connected to eth1)" in output.stderr
    assert "from here     connected (" in output.stderr
    assert output.stderr.splitlines()[-1] == "It works."


def test_a_name_that_the_codespace_resolves_itself(bridge: Bridge, world: World) -> None:
    """It goes the codespace's own way, and only a connect from there tells whether that works."""
    found = traced(world, f"www.public.test:{HTTP_PORT}")
    assert (found["there"]["who"], found["there"]["server"]) == ("own", "127.0.0.53")
    assert found["here"]["addresses"] == []
    target = one(found, PUBLIC)
    assert target["captured"]["state"] == "not wanted"
    assert target["connect_there"]["code"] == ""


def test_a_name_that_nobody_knows(bridge: Bridge, world: World) -> None:
    found = traced(world, "nothing.corp.test:80", 1)
    assert found["problem"]["what"] == "nothing.corp.test does not resolve, neither over there nor here."
    assert not found["targets"]


def test_an_excluded_network(bridge: Bridge, world: World) -> None:
    found = traced(world, f"{BRANCH[4]}:{HTTP_PORT}", 1)
    target = one(found, BRANCH[4])
    assert target["captured"]["state"] == "excluded"
    assert target["way_there"]["interface"] == "eth0"
    assert target["connect_there"]["code"]
    assert target["connect_here"]["code"] == ""  # here it would work
    assert "--exclude" in found["problem"]["todo"]


def test_a_denied_address(bridge: Bridge, world: World) -> None:
    found = traced(world, f"{CORP[4]}:{REDIS_PORT}", 1)
    target = one(found, CORP[4])
    assert (target["allowed"], target["rule"]) == (False, f"denied by the rule {CORP[4]}:{REDIS_PORT}")
    assert target["connect_here"] is None  # the bridge would not try it either
    assert found["problem"]["what"] == f"The policy denies {CORP[4]} port {REDIS_PORT}."


def test_an_overlapping_address(bridge: Bridge, world: World) -> None:
    found = traced(world, DOCKER, 1)
    target = one(found, DOCKER)
    assert target["captured"]["state"] == "overlap"
    assert target["way_there"]["interface"] == "docker0"
    assert f"--route {DOCKER}" in found["problem"]["todo"]


def test_an_overlapping_host_by_its_name(bridge: Bridge, world: World) -> None:
    """The resolver here leads to it, so it has a route of its own, which the trace sees since it asks for the name."""
    hosts = world.laptop.folder / "etc/hosts"
    before = hosts.read_text()
    hosts.write_text(f"{before}{DOCKED} docked.corp.test\n")
    try:
        found = traced(world, "docked")
    finally:
        hosts.write_text(before)
    assert (found["there"]["who"], found["here"]["who"]) == ("bridge", "hosts")
    target = one(found, DOCKED)
    assert target["captured"]["state"] == "captured"
    assert (target["way_there"]["interface"], target["way_there"]["route"]) == ("nb0", f"{DOCKED}/32")


def test_a_closed_port(bridge: Bridge, world: World) -> None:
    found = traced(world, f"{CORP[4]}:{CLOSED_PORT}", 1)
    assert one(found, CORP[4])["connect_here"]["code"] == "ECONNREFUSED"
    assert found["problem"]["what"] == f"{CORP[4]} refuses port {CLOSED_PORT}."


def test_a_black_hole(bridge: Bridge, world: World) -> None:
    found = traced(world, f"{BLACK_HOLE[4]}:{HTTP_PORT}", 1)
    connect = one(found, BLACK_HOLE[4])["connect_here"]
    assert connect["code"] == "ETIMEDOUT"
    assert 4 < connect["seconds"] < 8
    assert found["problem"]["what"] == f"{BLACK_HOLE[4]} does not answer on port {HTTP_PORT}."


def test_a_route_that_leads_nowhere(bridge: Bridge, world: World) -> None:
    """No packet is needed to see it, so no port either."""
    found = traced(world, UNREACHABLE[4], 1)
    assert one(found, UNREACHABLE[4])["way_here"]["error"] == "No route to host"
    assert found["problem"]["what"] == f"This machine has no way to {UNREACHABLE[4]}."


def test_loopback_is_the_codespaces_own(bridge: Bridge, world: World) -> None:
    found = traced(world, "localhost:3000", 1)
    assert found["there"]["who"] == "hosts"
    assert "loopback" in found["problem"]["what"]
    assert "--host-alias --allow 127.0.0.1:3000" in found["problem"]["todo"]
    with world.codespace.listen("127.0.0.1", 3000):
        assert one(traced(world, "localhost:3000"), "127.0.0.1")["connect_there"]["code"] == ""


def test_the_alias_of_this_machines_loopback(bridge: Bridge, world: World) -> None:
    with world.laptop.listen("127.0.0.1", ALIAS_PORT):
        found = traced(world, f"host.netbridge.internal:{ALIAS_PORT}")
    (target,) = found["targets"]
    assert target["final"] == "127.0.0.1"
    assert found["there"]["who"] == "bridge"


def test_the_other_end_of_the_tunnel(bridge: Bridge, world: World) -> None:
    """The laptop's own address in the codespace's network is inside of what both have."""
    found = traced(world, f"{CODESPACE[4].rpartition('.')[0]}.1:1", 1)
    assert found["targets"][0]["captured"]["state"] == "left out"
    assert "SSH" in found["problem"]["why"]


def test_a_dead_resolver_over_there_is_named(bridge: Bridge, world: World) -> None:
    """Its port is closed to the agent: the name still comes, by the bridge, and the trace says who is silent."""
    rule = "-p udp -d 127.0.0.53 --dport 53 -j DROP"
    probe = world.codespace.shell(f"iptables -A INPUT {rule}")
    if probe.code:
        pytest.skip(f"no iptables: {probe.stderr}")
    try:
        found = traced(world, "v4only.corp.test:80")
    finally:
        world.codespace.shell(f"iptables -D INPUT {rule}").check()
    own = [it for it in found["there"]["answers"] if it["who"] == "own"]
    assert own
    assert all(it["error"].startswith("no answer") for it in own)
    assert found["there"]["who"] == "bridge"


def test_several_at_once(bridge: Bridge, world: World) -> None:
    """Each has its answer, and the bridge goes on."""
    running = [
        world.laptop.start(
            *NETBRIDGE, "trace", f"{CORP[4]}:{HTTP_PORT}", environment=environment(), log="traces.log"
        )
        for _ in range(3)
    ]
    assert [program.wait(60) for program in running] == [0, 0, 0]
    assert bridge.program.running


def test_without_the_bridge_that_is_meant(world: World) -> None:
    """What this machine alone can say, and that there is none."""
    output = netbridge(world.laptop, "trace", f"www:{HTTP_PORT}", "--target", "ssh://elsewhere", "--json")
    found = json.loads(output.stdout)
    assert output.code == 1
    assert found["bridge"] is None
    assert one(found, CORP[4])["captured"]["state"] == "wanted"
    assert one(found, CORP[4])["connect_here"]["code"] == ""
    assert found["problem"]["what"] == "No bridge to ssh://elsewhere is running."


@pytest.mark.parametrize("place", ["", "a b", "10.0.0.1:0", "[10.0.0.1]:80", "host:80:90"])
def test_what_is_no_destination(world: World, place: str) -> None:
    output = netbridge(world.laptop, "trace", place)
    assert output.code == 2, output.stderr
