"""The picture of a network taken by netlink, in network namespaces built for each case."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbridge.bridge.routes import LocalNetworksError, Snapshot, local_networks
from netbridge.bridge.routes.linux import LinuxNetworks
from netbridge.bridge.routes.reachable import reachable

pytestmark = pytest.mark.net

Run = Callable[[str], None]


class Namespace:
    """A network namespace; `ip` runs commands in it."""

    def __init__(self) -> None:
        self.name = f"nbr-{secrets.token_hex(4)}"
        self._run("ip", "netns", "add", self.name)

    def ip(self, commands: str) -> None:
        for line in commands.strip().splitlines():
            self._run("ip", "-n", self.name, *line.split())

    def close(self) -> None:
        self._run("ip", "netns", "del", self.name)

    async def snapshot(self) -> Snapshot:
        return await LinuxNetworks(self.name).snapshot()

    async def captured(self) -> dict[str, str]:
        """Network to reason."""
        return {str(each.network): each.reason for each in reachable(await self.snapshot())}

    @staticmethod
    def _run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


LAPTOP = """
    link set lo up
    link add eth0 type veth peer name wire
    link set wire up
    link set wire addrgenmode none
    address add 192.168.7.10/24 dev eth0
    address add fd00:7::10/64 dev eth0 nodad
    link set eth0 up
    route add default via 192.168.7.1
    route add default via fd00:7::1
"""
LAN = {"192.168.7.0/24": "connected to eth0", "fd00:7::/64": "connected to eth0"}


@pytest.fixture
def laptop() -> Iterator[Namespace]:
    """A machine on a LAN with a default gateway."""
    namespace = Namespace()
    try:
        namespace.ip(LAPTOP)
        yield namespace
    finally:
        namespace.close()


async def test_a_lan_and_nothing_else(laptop: Namespace) -> None:
    assert await laptop.captured() == LAN
    snapshot = await laptop.snapshot()
    route = snapshot.default_route(4)
    assert route is not None
    assert (str(route.gateway), route.interface, route.table) == ("192.168.7.1", "eth0", "main")
    assert snapshot.default_route(6) is not None
    assert snapshot.full_tunnel(4) is None
    assert {each.name: (each.loopback, each.tunnel, each.up) for each in snapshot.interfaces} == {
        "lo": (True, False, True), "eth0": (False, False, True), "wire": (False, False, True),
    }
    assert "192.168.7.10" in map(str, snapshot.interface("eth0").addresses)


async def test_a_network_that_is_down_leads_nowhere(laptop: Namespace) -> None:
    laptop.ip("link set eth0 down")
    assert await laptop.captured() == {}
    assert (await laptop.snapshot()).default_route(4) is None


async def test_a_split_tunnel_and_static_routes_in_the_main_table(laptop: Namespace) -> None:
    laptop.ip("""
        tuntap add tun0 mode tun
        address add 10.8.0.6 peer 10.8.0.5 dev tun0
        link set tun0 up
        route add 10.20.0.0/16 via 10.8.0.5
        route add 172.20.0.0/16 via 192.168.7.2
        route add fd00:20::/32 dev tun0
        route add 203.0.113.9 via 192.168.7.1
        route add 8.8.4.4 via 192.168.7.1
        route add blackhole 10.66.0.0/16
        route add unreachable 10.67.0.0/16
        route add 169.254.169.254 via 192.168.7.1
    """)
    assert await laptop.captured() == {
        **LAN,
        "10.8.0.5/32": "connected to tun0",
        "10.20.0.0/16": "routed by 10.8.0.5 on tun0",
        "172.20.0.0/16": "routed by 192.168.7.2 on eth0",
        "fd00:20::/32": "connected to tun0",
        # 203.0.113.9 is a documentation address and so not public; 8.8.4.4 is pinned to the default gateway
        "203.0.113.9/32": "routed by 192.168.7.1 on eth0",
    }
    assert (await laptop.snapshot()).interface("tun0").tunnel


async def test_tailscale_keeps_its_routes_in_table_52(laptop: Namespace) -> None:
    laptop.ip("""
        tuntap add ts0 mode tun
        address add 100.64.1.2/32 dev ts0
        link set ts0 up
        rule add priority 5210 fwmark 0x80000/0xff0000 lookup main
        rule add priority 5250 fwmark 0x80000/0xff0000 unreachable
        rule add priority 5270 lookup 52
        route add 100.64.0.9 dev ts0 table 52
        route add 10.30.0.0/16 dev ts0 table 52
        route add throw 192.168.7.0/24 table 52
    """)
    assert await laptop.captured() == {
        **LAN, "100.64.0.9/32": "connected to ts0, table 52", "10.30.0.0/16": "connected to ts0, table 52",
    }


async def test_wg_quick_with_allowed_ips_everything(laptop: Namespace) -> None:
    laptop.ip("""
        tuntap add wg0 mode tun
        address add 10.77.0.2/32 dev wg0
        link set wg0 up
        route add default dev wg0 table 51820
        rule add priority 32765 not fwmark 51820 lookup 51820
        rule add priority 32764 lookup main suppress_prefixlength 0
    """)
    snapshot = await laptop.snapshot()
    tunnel = snapshot.full_tunnel(4)
    assert tunnel is not None
    assert tunnel.name == "wg0"
    assert snapshot.full_tunnel(6) is None
    reason = "all traffic goes through the tunnel wg0"
    assert await laptop.captured() == {
        **LAN, "10.0.0.0/8": reason, "172.16.0.0/12": reason, "192.168.0.0/16": reason,
    }


async def test_openvpn_with_a_default_route_in_two_halves(laptop: Namespace) -> None:
    laptop.ip("""
        tuntap add tun0 mode tun
        address add 10.8.0.6 peer 10.8.0.5 dev tun0
        link set tun0 up
        route add 0.0.0.0/1 via 10.8.0.5
        route add 128.0.0.0/1 via 10.8.0.5
        route add 8.8.4.4 via 192.168.7.1
        route add 2000::/3 dev tun0
    """)
    captured = await laptop.captured()
    assert "10.0.0.0/8" in captured
    assert "fc00::/7" in captured
    assert not {"0.0.0.0/1", "8.8.4.4/32", "2000::/3"} & captured.keys()


@pytest.mark.parametrize(
    ("rule", "captured"),
    [
        ("rule add priority 100 lookup 900", True),
        ("rule add priority 100 iif lo lookup 900", True),
        ("rule add priority 100 not fwmark 7 lookup 900", True),
        (f"rule add priority 100 uidrange {os.geteuid()}-{os.geteuid()} lookup 900", True),
        ("rule add priority 100 fwmark 7 lookup 900", False),
        ("rule add priority 100 from 192.168.7.10 lookup 900", False),
        ("rule add priority 100 iif eth0 lookup 900", False),
        ("rule add priority 100 oif eth0 lookup 900", False),
        ("rule add priority 100 uidrange 4242-4242 lookup 900", False),
        ("rule add priority 100 ipproto tcp lookup 900", False),
        ("rule add priority 100 prohibit", False),
        ("rule add priority 100 lookup 901", False),
    ],
)
async def test_rules_decide_which_tables_count(laptop: Namespace, rule: str, captured: bool) -> None:
    laptop.ip(f"route add 10.40.0.0/16 via 192.168.7.9 table 900\n{rule}")
    assert ("10.40.0.0/16" in await laptop.captured()) is captured


async def test_a_rule_for_one_destination_cuts_the_table_to_it(laptop: Namespace) -> None:
    laptop.ip("""
        rule add priority 100 to 10.50.0.0/16 lookup 900
        route add default via 192.168.7.9 table 900
        route add 10.50.3.0/24 via 192.168.7.8 table 900
        route add 10.60.0.0/16 via 192.168.7.8 table 900
    """)
    assert await laptop.captured() == {
        **LAN, "10.50.0.0/16": "routed by 192.168.7.9 on eth0, table 900",
        "10.50.3.0/24": "routed by 192.168.7.8 on eth0, table 900",
    }
    default = (await laptop.snapshot()).default_route(4)
    assert default is not None
    assert default.table == "main"


async def test_bridges_multipath_and_a_route_by_way_of_ipv6(laptop: Namespace) -> None:
    laptop.ip("""
        link add docker0 type bridge
        address add 172.17.0.1/16 dev docker0
        link set docker0 up
        route add 10.90.0.0/16 nexthop via 192.168.7.3 nexthop via 192.168.7.4
        route add 10.91.0.0/16 via inet6 fd00:7::3 dev eth0
    """)
    captured = await laptop.captured()
    assert captured["172.17.0.0/16"] == "connected to docker0"
    assert captured["10.90.0.0/16"] == "routed by 192.168.7.3 on eth0"
    assert captured["10.91.0.0/16"] == "routed by fd00:7::3 on eth0"


async def test_what_arrives_at_the_machine_itself(laptop: Namespace) -> None:
    """Addresses wherever they are, networks routed to the machine as a whole; not its loopback, no neighbour."""
    laptop.ip("""
        address add 10.255.255.254/32 dev lo
        route add local 192.0.2.128/28 dev lo
    """)
    own = {str(network) for network in (await laptop.snapshot()).own}
    assert own >= {"192.168.7.10/32", "fd00:7::10/128", "10.255.255.254/32", "192.0.2.128/28"}
    assert not own & {"127.0.0.1/32", "127.0.0.0/8", "::1/128", "192.168.7.0/24", "fd00:7::/64"}


async def test_this_machine_can_be_read_without_a_namespace() -> None:
    snapshot = await local_networks().snapshot()
    assert any(each.loopback for each in snapshot.interfaces)


async def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(LocalNetworksError):
        await LinuxNetworks("nbr-no-such-one").snapshot()


WITHOUT_DESCRIPTORS = """
import asyncio, gc, os, resource
from netbridge.bridge.routes import LocalNetworksError, local_networks
from netbridge.bridge.routes.linux import DESCRIPTORS

async def main():
    networks = local_networks()
    await networks.snapshot()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for free in range(DESCRIPTORS + 1):
        try:
            await networks.snapshot()
            print(free, "looked")
        except LocalNetworksError as error:
            print(free, error)
        os.close(taken.pop())
    gc.collect()

asyncio.run(main())
"""


def test_short_of_descriptors_it_says_so_and_prints_nothing() -> None:
    """With any number of descriptors left: a look, or an error; never a traceback out of a library's destructor."""
    path = os.pathsep.join([str(Path(__file__).parents[3] / "src"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert done.returncode == 0
    assert lines[0] == "0 the routes cannot be looked at: Too many open files"
    assert lines[-1].endswith(" looked")
