"""Known failure 17: containers nested in the codespace are routed, and names in them resolve.

The containers here are namespaces on a bridge, masqueraded as Docker does it; test_nested_docker.py has the real one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world import Bridge, World, servers
from tests.world.addresses import CORP
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .programs import changed, ended
from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
GATEWAY = "198.18.0.1"
"""The bridge's own first address, where it answers names."""
AZURE = "168.63.129.16"
"""What containers of a codespace ask."""
LATER = "br-5f00"


@contextmanager
def container(world: World, nameserver: str, bridge: str = "docker0", network: str = "172.17.0") -> Iterator[str]:
    """The words that enter a container on a bridge, with a resolv.conf of its own."""
    codespace = world.codespace
    resolv = codespace.folder / f"container-{bridge}.conf"
    resolv.write_text(f"nameserver {nameserver}\n")
    program = codespace.start("unshare", "--net", "--mount", "sleep", "1234")
    veth = f"v-{bridge}"
    try:
        init = os.readlink(f"/proc/{codespace.init}/ns/net")
        wait_until(lambda: program.pid and os.readlink(f"/proc/{program.pid}/ns/net") != init, "the container")
        status = Path(f"/proc/{program.pid}/status").read_text().splitlines()
        inner = next(line for line in status if line.startswith("NSpid:")).split()[-1]
        enter = f"nsenter -t {inner} -n -m"
        codespace.ip(f"link add {veth} type veth peer name eth0 netns {inner}", f"link set {veth} master {bridge} up")
        codespace.shell(
            f"{enter} sh -c 'ip link set lo up; ip addr add {network}.5/16 dev eth0; ip link set eth0 up; "
            f"ip route add default via {network}.1; mount --bind {resolv} /etc/resolv.conf'"
        ).check()
        masquerade = codespace.shell(f"iptables -t nat -A POSTROUTING -s {network}.0/16 ! -o {bridge} -j MASQUERADE")
        if masquerade.code:
            pytest.skip(f"no iptables: {masquerade.stderr}")
        codespace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward").check()
        wait_until(lambda: "state UP" in codespace.run("ip", "link", "show", bridge).stdout, "the bridge's carrier")
        yield enter
    finally:
        program.kill()
        codespace.shell(f"iptables -t nat -F; echo 0 > /proc/sys/net/ipv4/ip_forward; ip link del {veth}")
        wait_until(lambda: "state UP" not in codespace.run("ip", "link", "show", bridge).stdout, "the carrier's end")


def inside(world: World, enter: str, words: str) -> str:
    return world.codespace.shell(f"{enter} {words}").check().stdout


def resolves(world: World, enter: str) -> None:
    """As the C library, curl and dig see it, by UDP and by TCP."""
    assert inside(world, enter, "getent ahostsv4 www.corp.test").split()[0] == CORP[4]
    assert inside(world, enter, "curl -4 -sS -m5 http://www.corp.test/small") == "netbridge\n"
    assert len(inside(world, enter, "dig +short +tries=1 +time=3 big.corp.test TXT").splitlines()) > 10


def rules(world: World) -> str:
    return world.codespace.run("ip", "rule").stdout


def test_failure_17_container_that_asks_the_bridge(idle: World, start: Start) -> None:
    """Routed without more; resolved where it was started with `docker run --dns 198.18.0.1`."""
    with container(idle, GATEWAY) as enter:
        bridge = start(TARGET).ready()
        assert GATEWAY in bridge.status()["network"]["gateways"]
        assert inside(idle, enter, f"curl -sS -m5 http://{CORP[4]}/small") == "netbridge\n"
        assert "1 received" in inside(idle, enter, f"ping -c 1 -W 2 {CORP[4]}")
        resolves(idle, enter)


def test_failure_17_container_that_asks_what_it_always_asked(idle: World, start: Start) -> None:
    """It knows nothing of the bridge, and was there before it: its nameserver's address is led to the stub, and only
    what it asks there at port 53."""
    with container(idle, AZURE) as enter:
        before = Snapshot.of(idle.codespace)
        bridge = start(TARGET, "--ssh", "openssh").ready()
        resolves(idle, enter)
        assert inside(idle, enter, "getent ahostsv4 www.public.test").split()[0] == "203.0.113.80"  # asked over there
        assert "status: NOERROR" in inside(idle, enter, "dig +tries=1 +time=3 v4only.corp.test AAAA")
        assert "status: NXDOMAIN" in inside(idle, enter, "dig +tries=1 +time=3 nothing.corp.test")
        assert f"from {AZURE}" not in idle.codespace.run("ip", "route", "get", AZURE).stdout
        assert "local" not in idle.codespace.run("ip", "route", "get", AZURE).stdout  # the codespace's own way there
        assert bridge.stop() == 0
        assert "5353" not in rules(idle)
        assert_restored(before, idle.codespace)


def test_failure_17_container_network_that_is_made_later(idle: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    idle.codespace.ip(f"link add {LATER} type bridge", f"addr add 172.18.0.1/16 dev {LATER}", f"link set {LATER} up")
    try:
        wait_until(lambda: LATER in rules(idle), "its rule", 5, 0.1)
        with container(idle, AZURE, LATER, "172.18.0") as enter:
            resolves(idle, enter)
    finally:
        idle.codespace.ip(f"link del {LATER}")
    wait_until(lambda: LATER not in rules(idle), "its end", 5, 0.1)
    assert bridge.stop() == 0


def test_failure_17_the_nameserver_itself_is_led_nowhere(idle: World, start: Start) -> None:
    """The codespace's own nameserver lies where containers ask too: the stub still reaches the real one."""
    cloud = "172.30.7.53"
    idle.laptop.ip(f"addr add {cloud}/32 dev eth0")
    resolv = idle.codespace.folder / "resolv.conf"
    zone = ["  local-zone: cloud.test. static", "  local-data: 'www.cloud.test. A 203.0.113.90'"]
    try:
        with ended(idle.laptop), changed(resolv, f"nameserver {cloud}\n"), container(idle, cloud) as enter:
            servers.unbound(idle.laptop, [cloud], zone)
            wait_until(lambda: idle.laptop.answers(cloud, 53), "the cloud's nameserver")
            start(TARGET, "--ssh", "openssh").ready()
            resolves(idle, enter)
            assert inside(idle, enter, "getent ahostsv4 www.cloud.test").split()[0] == "203.0.113.90"
            assert idle.codespace.run("dig", "+short", f"@{cloud}", "www.cloud.test").stdout == "203.0.113.90\n"
    finally:
        idle.laptop.ip(f"addr del {cloud}/32 dev eth0")


@pytest.mark.parametrize("guardian", [True, False], ids=["guardian lives", "everything is killed"])
def test_failure_17_killed_it_stands_in_no_containers_way(idle: World, start: Start, *, guardian: bool) -> None:
    """With the guardian the rules go; without it they lead nowhere, and the next `up` removes them."""
    cloud = "172.30.7.53"
    idle.laptop.ip(f"addr add {cloud}/32 dev eth0")
    resolv = idle.codespace.folder / "resolv.conf"
    zone = ["  local-zone: cloud.test. static", "  local-data: 'www.cloud.test. A 203.0.113.90'"]
    try:
        with ended(idle.laptop), changed(resolv, f"nameserver {cloud}\n"), container(idle, cloud) as enter:
            servers.unbound(idle.laptop, [cloud], zone)
            wait_until(lambda: idle.laptop.answers(cloud, 53), "the cloud's nameserver")
            before = Snapshot.of(idle.codespace)
            bridge = start(TARGET, "--ssh", "openssh").ready()
            assert "5353" in rules(idle)
            named = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in idle.codespace.processes()}
            if not guardian:
                bridge.program.kill()  # or it would start an agent to resume
            for doomed in (["netbridge-agent"] if guardian else ["netbridge-guard", "netbridge-agent"]):
                for pid, name in named.items():
                    if name == doomed:
                        os.kill(pid, signal.SIGKILL)
            bridge.ended(10)
            wait_until(lambda: "nb0" not in idle.codespace.run("ip", "link").stdout, "the TUN's end", 5, 0.05)
            if guardian:
                wait_until(lambda: "5353" not in rules(idle), "the rules' end", 5, 0.05)
            else:
                assert "5353" in rules(idle)
            assert inside(idle, enter, "getent ahostsv4 www.cloud.test").split()[0] == "203.0.113.90"
            assert start(TARGET, "--ssh", "openssh").ready().stop() == 0
            assert "5353" not in rules(idle)
            assert_restored(before, idle.codespace)
    finally:
        idle.laptop.ip(f"addr del {cloud}/32 dev eth0")
