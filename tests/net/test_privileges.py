"""What runs over there as root, with which of root's powers, and what it listens at: from the kernel's own tables."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CORP, CORP_NETWORKS, SSH_PORT
from tests.world.machine import wait_until
from tests.world.privileges import Privileges
from tests.world.snapshot import Snapshot
from tests.world.sshd import USERS

from .conftest import TARGET, tuns
from .test_traces import agents, assert_restored, works

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
BY_SUDO = f"ssh://codespace@{CODESPACE[4]}:{SSH_PORT}"
RETURN = {"SYS_PTRACE", "DAC_READ_SEARCH"}
TUN = {"NET_ADMIN", "NET_BIND_SERVICE"}
LISTENING = "ss -Hltnup | sed -E 's/ +/ /g' | sort"


def found(world: World, before: Snapshot) -> dict[str, Privileges]:
    """The bridge's Python processes over there, by the names they give themselves."""
    return {each.name: each for each in map(Privileges.of, agents(world, before))}


def listeners(codespace: Machine) -> list[tuple[str, str]]:
    """(protocol, address and port) of what listens over there, UDP included."""
    fields = [line.split() for line in codespace.shell(LISTENING).check().stdout.splitlines()]
    return [(each[0], each[4]) for each in fields]


def check_listeners(world: World, listened: list[tuple[str, str]]) -> None:
    """The stub's alone: on loopback, and on addresses that nobody here has, of nameservers that it stands in for in
    container networks. Nobody outside gets an answer there, not even one who sends such packets to this very host.
    """
    added = [each for each in listeners(world.codespace) if each not in listened]
    assert {"tcp", "udp"} == {protocol for protocol, _ in added}
    places = {address.rpartition(":") for _, address in added}
    assert {port for _, _, port in places} == {"53"}
    elsewhere = {address for address, _, _ in places if not address.startswith("127.")}
    own = world.codespace.run("ip", "-o", "addr").stdout
    for address in elsewhere:
        assert f" {address}/" not in own
        world.laptop.ip(f"route add {address}/32 via {CODESPACE[4]}")
        try:
            for way in ("+notcp", "+tcp"):
                asked = world.laptop.run("dig", f"@{address}", way, "+tries=1", "+time=1", "www.corp.test")
                assert asked.code == 9, asked.stdout  # no reply from the server (dig(1))
        finally:
            world.laptop.ip(f"route del {address}/32 via {CODESPACE[4]}")


def check_root(process: Privileges, capabilities: set[str]) -> None:
    """It is root with these capabilities, and gets no other back."""
    assert process.users[:2] == (0, 0)
    assert process.effective == process.permitted == capabilities
    assert process.bounding <= capabilities
    assert process.no_new_privs


def check_nothing(process: Privileges, user: int) -> None:
    assert process.users == (user,) * 4
    assert process.groups == (user,) * 4
    assert not process.effective | process.permitted | process.bounding
    assert process.no_new_privs


@pytest.mark.parametrize(("target", "user"), [(TARGET, 0), (BY_SUDO, USERS["codespace"])], ids=["root", "sudo"])
def test_what_runs_as_root(idle: World, start: Start, target: str, user: int) -> None:
    """Holder and guardian alone, with what they need; and all of it still works, to the end."""
    codespace = idle.codespace
    before, listened = Snapshot.of(codespace), listeners(codespace)
    bridge = start(target, "--ssh", "openssh").ready()
    running = found(idle, before)
    expected = {"netbridge-front", "netbridge-agent", "netbridge-guard"}
    if user:  # who called sudo, and sudo itself, which is no Python
        (caller,) = (each for name, each in running.items() if name not in expected)
        assert caller.users == (user,) * 4
        assert not caller.effective
        assert user in running["netbridge-front"].users
    if user:
        expected.remove("netbridge-front")
    assert {name for name, each in running.items() if 0 in each.users} == expected
    check_root(running["netbridge-agent"], TUN | RETURN)
    check_root(running["netbridge-guard"], {"NET_ADMIN"})
    check_nothing(running["netbridge-front"], user)
    told = bridge.status()["agent"]["privileges"]
    assert (set(told["capabilities"]), told["no_new_privs"], told["reason"]) == (TUN | RETURN, True, "")

    check_listeners(idle, listened)
    assert works(idle)
    codespace.ip("link add br7 type bridge", "addr add 172.19.0.1/16 dev br7", "link set br7 up")  # a container network
    try:
        wait_until(lambda: "iif br7" in codespace.run("ip", "rule").stdout, "the rule for a later network", 30)
        codespace.ip("addr add 10.99.0.77/24 dev br7")  # what was captured is the place's own now
        # (Single hosts that flows go to stay captured.)
        wait_until(lambda: CORP_NETWORKS[0] not in bridge.status()["routes"], "routes to give way", 30, 0.2)
    finally:
        codespace.ip("link del br7")
    wait_until(lambda: CORP_NETWORKS[0] in bridge.status()["routes"], "the routes to be there again", 30, 0.2)
    assert works(idle)
    assert bridge.stop() == 0
    assert_restored(before, codespace)


def test_after_sigkill(idle: World, start: Start) -> None:
    """The guardian, with what it kept, puts resolv.conf and the rules back."""
    before = Snapshot.of(idle.codespace)
    bridge = start(BY_SUDO, "--ssh", "openssh", "--grace", "0").ready()
    (holder,) = (pid for pid in agents(idle, before) if Privileges.of(pid).name == "netbridge-agent")
    check_root(Privileges.of(holder), TUN)  # nobody comes back, so nobody need be told from others
    os.kill(holder, signal.SIGKILL)
    assert bridge.ended() in {1, 3}
    assert_restored(before, idle.codespace)


def test_packet_capture_keeps_nothing(idle: World, start: Start) -> None:
    """Its sockets are open, and whatever is captured later changes only their filter."""
    before, listened = Snapshot.of(idle.codespace), listeners(idle.codespace)
    bridge = start(TARGET, "--ssh", "openssh", "--capture", "packet", "--grace", "0").ready()
    running = found(idle, before)
    check_root(running["netbridge-agent"], set())
    assert works(idle)
    idle.laptop.ip("route add 10.96.0.0/24 via " + CORP[4])
    try:
        wait_until(lambda: "10.96.0.0/24" in bridge.status()["routes"], "the new network to be captured")
    finally:
        idle.laptop.ip("route del 10.96.0.0/24")
    check_listeners(idle, listened)
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace)


def test_resolv_conf_of_somebody_else(idle: World, start: Start) -> None:
    """As systemd-resolved's: then the right to write it is kept, by the guardian too."""
    file = idle.codespace.folder / "resolv.conf"
    before = Snapshot.of(idle.codespace)
    os.chown(file, 54321, 54321)
    try:
        bridge = start(TARGET, "--ssh", "openssh").ready()
        running = found(idle, before)
        check_root(running["netbridge-agent"], TUN | RETURN | {"DAC_OVERRIDE"})
        check_root(running["netbridge-guard"], {"NET_ADMIN", "DAC_OVERRIDE"})
        assert b"netbridge" in file.read_bytes()
        (holder,) = (pid for pid in agents(idle, before) if Privileges.of(pid).name == "netbridge-agent")
        os.kill(holder, signal.SIGKILL)
        bridge.ended()
        wait_until(lambda: file.read_bytes() == before.resolv, "resolv.conf to be put back")
    finally:
        os.chown(file, 0, 0)
    assert_restored(before, idle.codespace)


def test_places_with_less(idle: World, start: Start) -> None:
    """Root with what docker gives by default and a TUN; root who may not change the bounding set."""
    codespace = idle.codespace
    docker = [
        "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service",
        "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap", "net_admin",
    ]
    config = idle.laptop.folder / "home/.ssh/config"
    for number, given in enumerate((docker, [name for name in docker if name != "setpcap"])):
        port = SSH_PORT + 11 + number
        some = ",".join(["-all", *(f"+{name}" for name in given)])
        server = codespace.start(
            "setpriv", "--bounding-set", some, "--inh-caps", some, "/usr/sbin/sshd", "-D", "-e", "-p", str(port),
            "-f", codespace.folder / "sshd/config", log="sshd.log",
        )  # fmt: skip
        try:
            wait_until(lambda: idle.laptop.answers(CODESPACE[4], port), f"sshd on port {port}")  # noqa: B023
            text = config.read_text()
            if f"Host less{port}\n" not in text:
                config.write_text(
                    f"{text}Host less{port}\n  HostName {CODESPACE[4]}\n  Port {port}\n  User root\n"
                    f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}\n"
                )
            before = Snapshot.of(codespace)
            bridge = start(f"ssh://less{port}", "--ssh", "openssh").ready()
            running = found(idle, before)
            assert running["netbridge-agent"].effective == running["netbridge-agent"].permitted == TUN
            assert running["netbridge-agent"].no_new_privs
            told = bridge.status()["agent"]["privileges"]
            assert ("PR_CAPBSET_DROP" in told["reason"]) == ("setpcap" not in given)
            assert works(idle)
            assert bridge.stop() == 0
            wait_until(lambda: not tuns(idle), "the end of the bridge")
            assert_restored(before, codespace)
        finally:
            server.kill()
