"""Options that only a whole network shows, and codespaces that are not quite as usual."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, HTTP_PORT, LAPTOP
from tests.world.bridge import NETBRIDGE, environment, netbridge
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot, differences

from .conftest import TARGET
from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PAGE = "<h1>corp</h1>\n"
each_ssh = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])


def page(world: World, host: str = CORP[4]) -> str:
    return world.codespace.run("curl", "-sS", "-m5", f"http://{host}/").stdout


# --- how it is ended and what it carries ------------------------------------------------------------------------------


@each_ssh
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_while_it_starts(idle: World, start: Start, ssh: str, number: int) -> None:
    """At any moment of the start: nothing stays behind, and the next start works."""
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    for delay in (0, 0.1, 0.2, 0.3, 0.5):
        bridge = start(TARGET, "--ssh", ssh, "--grace", "1")
        wait_until(functools.partial(bridge.event, "starting"), "the first word")
        time.sleep(delay)
        bridge.program.signal(number)
        bridge.ended(8)
        assert "Traceback" not in bridge.said, bridge.said
    assert_restored(before, idle.codespace)
    netbridge(idle.laptop, "status").check()  # whoever looks next removes a dead bridge's number
    assert_restored(here, idle.laptop)
    start(TARGET, "--ssh", ssh).ready()
    assert page(idle) == PAGE


@pytest.mark.parametrize("target", ["sandbox", TARGET])
def test_command_is_a_filter(idle: World, target: str) -> None:
    """`netbridge up T -- sha256sum`: standard input and output are COMMAND's, and only COMMAND's."""
    data = os.urandom(3_000_000)
    output = idle.laptop.run(
        *NETBRIDGE, "up", target, "--", "sha256sum", stdin=data, environment=environment(), timeout=30
    )
    local = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True)
    assert output.code == 0, output.stderr
    assert output.stdout == local.stdout.decode()


def test_signal_ends_the_command_too(idle: World, start: Start) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", "openssh", command=("sleep", "4321"))
    wait_until(lambda: "sleep 4321" in idle.codespace.processes().values(), "the command", 10, 0.05)
    bridge.program.signal(signal.SIGTERM)
    assert bridge.ended() == 143, bridge.said
    assert_restored(before, idle.codespace)


def test_second_bridge_to_the_same_target(idle: World, start: Start) -> None:
    """It works beside the first, or says that it cannot; the first is not harmed, and in the end nothing is left."""
    before = Snapshot.of(idle.codespace)
    first = start(TARGET, "--ssh", "openssh").ready()
    second = start(TARGET, "--ssh", "asyncssh")
    wait_until(
        lambda: second.event("ready") or not second.program.running, "the second bridge to be up or to give up", 20
    )
    assert page(idle) == PAGE
    if second.program.running:
        assert second.stop() == 0
    else:
        failed = second.event("failed")
        assert failed and failed["what"] and failed["todo"], second.said
    assert page(idle) == PAGE
    assert idle.codespace.run("getent", "hosts", "v4only.corp.test").stdout.startswith(CORP[4])
    assert first.stop() == 0
    assert_restored(before, idle.codespace)


# --- options ----------------------------------------------------------------------------------------------------------


def test_dns_off_leaves_resolv_conf_alone(idle: World, start: Start) -> None:
    before = Snapshot.of(idle.codespace)
    start(TARGET, "--dns", "off").ready()
    assert (idle.codespace.folder / "resolv.conf").read_bytes() == before.resolv
    assert page(idle) == PAGE
    assert idle.codespace.run("getent", "hosts", "v4only.corp.test").code != 0


def test_dns_all_asks_the_laptop_for_everything(idle: World, start: Start) -> None:
    assert idle.codespace.run("getent", "hosts", "www.public.test").code == 0
    start(TARGET, "--dns", "all").ready()
    assert idle.codespace.run("getent", "hosts", "www.corp.test").code == 0
    assert idle.codespace.run("getent", "hosts", "www.public.test").code != 0


@pytest.mark.parametrize("mtu", ["1280", "9000", "65535"])
def test_mtu(idle: World, start: Start, mtu: str) -> None:
    bridge = start(TARGET, "--mtu", mtu).ready()
    connected = bridge.event("connected")
    assert connected
    assert f"mtu {mtu} " in idle.codespace.run("ip", "link", "show", connected["tun"]).stdout
    for host in (CORP[4], f"[{CORP[6]}]"):
        assert page(idle, host) == PAGE
    (idle.web / "five").write_bytes(bytes(5_000_000))
    try:
        assert idle.codespace.shell(f"curl -sS -m9 http://{CORP[4]}/five | wc -c").stdout.strip() == "5000000"
    finally:
        (idle.web / "five").unlink()


def test_pcap(idle: World, start: Start) -> None:
    """--pcap writes what tcpdump reads."""
    file = idle.laptop.folder / "link.pcap"
    bridge = start(TARGET, "--pcap", str(file)).ready()
    assert page(idle) == PAGE
    bridge.stop()
    data = file.read_bytes()
    assert data[:4] in {
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\xc3\xd4",
        b"\x4d\x3c\xb2\xa1",
        b"\xa1\xb2\x3c\x4d",
        b"\x0a\x0d\x0d\x0a",
    }
    assert PAGE.encode() in data
    assert file.stat().st_mode & 0o077 == 0


def test_log_file(idle: World, start: Start) -> None:
    file = idle.laptop.folder / "log.json"
    start(TARGET, "--log-file", str(file)).ready().stop()
    kinds = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert kinds[0] == "starting"
    assert {"connected", "captured", "ready", "stopping", "stopped"} <= set(kinds)


# --- codespaces that are not quite as usual ---------------------------------------------------------------------------


@pytest.fixture
def no_ipv6(idle: World) -> Iterator[World]:
    """A codespace whose kernel has IPv6 switched off."""
    idle.codespace.shell(
        "for c in all default eth0 lo; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done"
    ).check()
    yield idle
    idle.codespace.shell(
        "for c in all default eth0 lo docker0; do echo 0 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done"
    ).check()
    idle.codespace.ip(f"addr replace {CODESPACE[6]}/64 dev eth0 nodad", f"route replace ::/0 via {LAPTOP[6]}")
    wait_until(lambda: idle.settled(idle.codespace), "the links")


@each_ssh
def test_without_ipv6(no_ipv6: World, start: Start, ssh: str) -> None:
    before = Snapshot.of(no_ipv6.codespace)
    bridge = start(TARGET, "--ssh", ssh).ready()
    assert page(no_ipv6) == PAGE
    assert no_ipv6.codespace.run("getent", "ahostsv4", "www.corp.test").stdout.startswith(CORP[4])
    assert bridge.stop() == 0
    assert_restored(before, no_ipv6.codespace)


@pytest.mark.parametrize("strictness", [1, 2])
def test_reverse_path_filter(idle: World, start: Start, strictness: int) -> None:
    script = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo %d > $f; done"
    idle.codespace.shell(script % strictness).check()
    try:
        start().ready()
        assert page(idle) == PAGE
        assert idle.codespace.run("ping", "-c1", "-W2", CORP[4]).code == 0
    finally:
        idle.codespace.shell(script % 0).check()


def test_containers_in_the_codespace(idle: World, start: Start) -> None:
    """A container behind docker0, masqueraded as Docker does it, reaches corp by address and by name."""
    codespace = idle.codespace
    container = codespace.start("unshare", "--net", "sleep", "1234")
    try:
        wait_until(
            lambda: (
                container.pid
                and os.readlink(f"/proc/{container.pid}/ns/net") != os.readlink(f"/proc/{codespace.init}/ns/net")
            ),
            "the container",
        )
        inner = next(
            line for line in Path(f"/proc/{container.pid}/status").read_text().splitlines() if "NSpid:" in line
        ).split()[-1]
        codespace.ip(f"link add veth0 type veth peer name eth0 netns {inner}", "link set veth0 master docker0 up")
        codespace.shell(
            f"nsenter -t {inner} -n sh -c 'ip link set lo up; ip addr add 172.17.0.5/16 dev eth0; "
            "ip link set eth0 up; ip route add default via 172.17.0.1'"
        ).check()
        masquerade = codespace.shell("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")
        if masquerade.code:
            pytest.skip(f"no iptables: {masquerade.stderr}")
        codespace.shell("echo 1 > /proc/sys/net/ipv4/ip_forward").check()
        start().ready()
        output = codespace.shell(f"nsenter -t {inner} -n curl -sS -m5 http://{CORP[4]}/")
        assert output.stdout == PAGE, output.stderr
        big = codespace.shell(f"nsenter -t {inner} -n dig +short +tries=1 +time=2 @{CORP[4]} www.corp.test")
        assert big.stdout == f"{CORP[4]}\n"
    finally:
        container.kill()
        codespace.shell("iptables -t nat -F; echo 0 > /proc/sys/net/ipv4/ip_forward; ip link del veth0")


def test_target_inside_the_codespaces_own_network(idle: World, start: Start) -> None:
    """172.17/16 is docker0's over there and the VPN's here: it is not captured, and the bridge says why; --route of a
    single host captures that host."""
    idle.corp.ip("addr add 172.17.9.9/32 dev lo")
    idle.laptop.ip(f"route add 172.17.0.0/16 via {CORP[4]}")
    try:
        bridge = start().ready()
        skipped = bridge.event("skipped")
        assert skipped and any(it["network"] == "172.17.0.0/16" for it in skipped["networks"]), bridge.said
        assert "docker0" in idle.codespace.run("ip", "route", "get", "172.17.9.9").stdout
        bridge.stop()
        bridge = start(TARGET, "--route", "172.17.9.9/32").ready()
        with pytest.raises(ConnectionRefusedError):  # it got there: nobody listens
            idle.codespace.connect("172.17.9.9", 22, timeout=3)
    finally:
        idle.laptop.ip("route del 172.17.0.0/16")
        idle.corp.ip("addr del 172.17.9.9/32 dev lo")


def test_snapshot_sees_changes(idle: World) -> None:
    """The tests of what is left behind would notice a route, a link, a file, a line in resolv.conf and a process."""
    before = Snapshot.of(idle.codespace)
    changes = {
        "a route": ("ip route add 10.1.0.0/16 dev docker0", "ip route del 10.1.0.0/16"),
        "a link": ("ip link add dummy9 type bridge", "ip link del dummy9"),
        "a file": ("touch /tmp/left", "rm /tmp/left"),
        "a line": (
            "echo '# x' >> /etc/resolv.conf",
            "sed '/# x/d' /etc/resolv.conf > /tmp/r; cat /tmp/r > /etc/resolv.conf; rm /tmp/r",
        ),
        "a rule": ("ip rule add to 10.1.0.0/16 lookup 9", "ip rule del to 10.1.0.0/16 lookup 9"),
    }
    for what, (do, undo) in changes.items():
        idle.codespace.shell(do).check()
        assert differences(before, idle.codespace), what
        idle.codespace.shell(undo).check()
        assert not differences(before, idle.codespace), what
    process = idle.codespace.start("sleep", "99")
    wait_until(lambda: differences(before, idle.codespace), "the process to be seen")
    process.kill()
    assert_restored(before, idle.codespace)
    assert idle.codespace.answers("127.0.0.53", 53)
    assert not idle.codespace.answers(CORP[4], HTTP_PORT)
