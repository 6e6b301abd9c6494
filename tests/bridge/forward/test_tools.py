"""The tools people use to look at a network, run in a codespace of its own namespace behind a real TUN, looking through
the forwarders at a router and a far host: they must see what they would see on the host itself, one hop later."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.icmp import IcmpForwarder
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.udp import UdpForwarder
from netbridge.stack import Stack
from netbridge.stack.link.tun import open_tun
from tests.bridge.forward.paths import FAR, NOBODY_NEAR, PATH_MTU, ROUTER, Paths, run, write

pytestmark = pytest.mark.net
GATEWAY = {4: "198.18.0.1", 6: "fd6e:6272::1"}
NAME = f"nbf-{os.getpid()}-codespace"


@pytest.fixture(scope="module")
def network() -> Iterator[Paths]:
    paths = Paths()
    try:
        paths.build()
        run("ip", "netns", "add", NAME)
        yield paths
    finally:
        subprocess.run(["ip", "netns", "del", NAME], capture_output=True, check=False)
        paths.close()


@pytest.fixture
async def codespace(network: Paths) -> AsyncIterator[FlowTable]:
    with network.inside(NAME):
        link = open_tun("nb0")
        run("ip", "link", "set", "lo", "up")
        run("ip", "addr", "add", "198.18.0.2/30", "dev", "nb0")
        run("ip", "addr", "add", "fd6e:6272::2/64", "dev", "nb0", "nodad")
        run("ip", "route", "add", "default", "dev", "nb0")
        run("ip", "-6", "route", "add", "default", "dev", "nb0")
    with network.at("host"):
        write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
        loop = asyncio.get_running_loop()
        poller = Poller(loop)
        table = FlowTable(1000)
        async with Stack(link, [f"{GATEWAY[4]}/30", f"{GATEWAY[6]}/64"]) as stack:
            udp = UdpForwarder(stack, poller, Policy(), Limits(), table, loop)
            icmp = IcmpForwarder(stack, poller, Policy(), Limits(), table, loop)
            yield table
            udp.close()
            icmp.close()
            poller.close()
    network.command("host", "ip", "route", "flush", "cache")
    network.command("host", "ip", "-6", "route", "flush", "cache")


async def output(*words: str) -> str:
    """What a program prints in the codespace, whether it succeeds or not."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"the program {words[0]} is missing")
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", NAME, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        printed, _ = await process.communicate()
    return printed.decode()


def hops(printed: str) -> list[str]:
    """The addresses of `  1  10.0.0.1 ...` lines, in order."""
    return re.findall(r"^\s*\d+\s+([0-9a-f.:]+)\s", printed, re.MULTILINE)


async def test_ping(codespace: FlowTable, version: int) -> None:
    printed = await output("ping", f"-{version}", "-n", "-c", "3", "-i", "0.05", "-W", "2", FAR[version])
    assert " 0% packet loss" in printed, printed
    assert "icmp_seq=3 ttl=62" in printed, printed  # `ping` on the host prints 63


async def test_ping_large(codespace: FlowTable) -> None:
    printed = await output("ping", "-n", "-c", "2", "-i", "0.05", "-W", "2", "-s", "20000", FAR[4])
    assert "20008 bytes from" in printed, printed


async def test_ping_learns_the_path_mtu(codespace: FlowTable) -> None:
    printed = await output("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1400", FAR[4])
    assert re.search(rf"From {ROUTER[4]}.*(Frag needed|frag needed).*mtu = {PATH_MTU}", printed), printed


async def test_ping_of_nobody(codespace: FlowTable, version: int) -> None:
    printed = await output("ping", f"-{version}", "-n", "-c", "1", "-W", "5", NOBODY_NEAR[version])
    pattern = rf"From {re.escape(GATEWAY[version])}.*([Hh]ost|Address) [Uu]nreachable"
    assert re.search(pattern, printed), printed


@pytest.mark.parametrize("method", ["--udp", "--icmp", "--back"])
async def test_traceroute(codespace: FlowTable, version: int, method: str) -> None:
    """UDP to port 53 and the classic way of rising ports (--back only adds the way back), and ICMP."""
    printed = await output("traceroute", f"-{version}", method, "-n", "-w", "2", "-q", "2", FAR[version])
    assert hops(printed) == [GATEWAY[version], ROUTER[version], FAR[version]], printed


async def test_traceroute_with_many_probes_under_way(codespace: FlowTable) -> None:
    printed = await output("traceroute", "-4", "--icmp", "-n", "-w", "2", "-q", "5", "-N", "30", FAR[4])
    assert hops(printed) == [GATEWAY[4], ROUTER[4], FAR[4]], printed
    assert printed.count(" ms") == 15, printed


async def test_tracepath_finds_the_narrow_link(codespace: FlowTable) -> None:
    printed = await output("tracepath", "-4", "-n", FAR[4])
    assert f"pmtu {PATH_MTU}" in printed, printed
    assert f"Resume: pmtu {PATH_MTU} hops 3" in printed, printed


@pytest.mark.parametrize("method", ["--udp", "--icmp"])
async def test_mtr(codespace: FlowTable, version: int, method: str) -> None:
    words = ["mtr", f"-{version}", "-n", "-r", "-c", "2", "-i", "0.2", "-G", "1"]
    printed = await output(*words, *(["--udp"] if method == "--udp" else []), FAR[version])
    found = re.findall(r"\|--\s+(\S+)\s+([\d.]+)%", printed)
    assert found == [(GATEWAY[version], "0.0"), (ROUTER[version], "0.0"), (FAR[version], "0.0")], printed
