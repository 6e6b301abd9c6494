"""Known failure 17 with the real Docker engine in the codespace's network: containers on Docker's own network and on
those that people make reach corp and resolve its names, with whatever resolv.conf Docker gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP
from tests.world.docker_engine import DockerEngine, EngineError
from tests.world.machine import wait_until

from .conftest import TARGET
from .programs import changed, unpacked

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]


@contextmanager
def docker(world: World, name: str) -> Iterator[DockerEngine]:
    """An engine in the codespace; its rules and networks are gone afterwards."""
    codespace = world.codespace
    before = codespace.shell("ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward").stdout
    try:
        with DockerEngine(world.folder / name, unpacked("docker"), codespace) as made:
            yield made
    except EngineError as error:
        pytest.skip(f"the Docker engine does not run here: {error}")
    finally:
        codespace.shell(
            "for table in nat filter raw mangle; do iptables -t $table -F; iptables -t $table -X; done;"
            "iptables -P FORWARD ACCEPT; echo 0 > /proc/sys/net/ipv4/ip_forward;"
            "for link in $(ls /sys/class/net | grep -E '^(br-|veth)'); do ip link del $link; done"
        )
        wait_until(lambda: "state UP" not in codespace.run("ip", "link", "show", "docker0").stdout, "the carrier's end")
    assert codespace.shell("ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward").stdout == before


def resolves(engine: DockerEngine, name: str) -> None:
    resolv = engine.inside(name, "cat", "/etc/resolv.conf").stdout
    found = engine.inside(name, "getent", "ahostsv4", "www.corp.test")
    assert found.stdout.split()[:1] == [CORP[4]], (resolv, found)
    assert engine.inside(name, "getent", "ahostsv4", "www.public.test").stdout.split()[0] == "203.0.113.80"
    assert engine.inside(name, "getent", "ahostsv4", "nothing.corp.test").code == 2
    assert engine.inside(name, "curl", "-4sS", "-m5", "http://www.corp.test/small").stdout == "netbridge\n"


@pytest.mark.parametrize("nameserver", ["127.0.0.53", "168.63.129.16"])
def test_failure_17_docker_in_the_codespace(idle: World, start: Start, nameserver: str) -> None:
    """On Docker's own network a container asks by itself. On others Docker asks for it, from the codespace's side where
    the nameserver is on loopback: the one that the codespace had when the container was started."""
    codespace = idle.codespace
    resolv = f"nameserver {nameserver}\nnameserver 127.0.0.53\n"
    with changed(codespace.folder / "resolv.conf", resolv), docker(idle, f"engine-{nameserver}") as nested:
        nested.run("early", network="bridge")
        nested.client("network", "create", "compose").check()
        nested.run("service", network="compose")
        bridge = start(TARGET, "--ssh", "openssh").ready()
        resolves(nested, "early")
        if nameserver.startswith("127."):  # Docker's own resolver asks it where no route leads elsewhere
            nested.client("restart", "--time=0", "service").check()
        resolves(nested, "service")
        nested.run("started-meanwhile", network="bridge")
        resolves(nested, "started-meanwhile")
        made = nested.client("network", "create", "later").check().stdout[:12]
        wait_until(lambda: made in codespace.run("ip", "rule").stdout, "its rule", 5, 0.1)
        nested.run("on-later", network="later")
        resolves(nested, "on-later")
        assert nested.inside("on-later", "ping", "-c1", "-W2", CORP[4]).code == 0
        assert bridge.stop() == 0
        assert "5353" not in codespace.shell("ip rule; ip route show table all").stdout
        assert (codespace.folder / "resolv.conf").read_text() == resolv
