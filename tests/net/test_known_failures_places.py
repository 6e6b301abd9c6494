"""Known failures 13 to 16, 20 and 23: how a bridge ends, what lies where, and who runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CORP, LAPTOP, SSH_PORT
from tests.world.bridge import as_person, python_for_everybody
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot
from tests.world.sshd import PERSON

from .conftest import TARGET
from .programs import changed
from .test_traces import assert_restored, works
from .watch import processor

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
each_ssh = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
GATEWAY = "198.18.0.1"
"""The bridge's own first address, where it answers names."""


def zombies(machine: Machine) -> str:
    """Processes of a machine that ended and that their parent has not asked about."""
    return machine.shell("ps -eo stat,pid,args | grep ^Z").stdout


@each_ssh
def test_failure_13_killed_transport_costs_a_pause(idle: World, start: Start, ssh: str) -> None:
    """The connection is killed: flows go on within seconds, nothing spins, no process is left of the old one."""
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    bridge = start(TARGET, "--ssh", ssh).ready()
    with idle.corp.listen(CORP[4]) as listener:
        client = idle.codespace.connect(CORP[4], listener.getsockname()[1])
        with client, listener.accept()[0] as server:
            begun, used = time.monotonic(), processor(bridge.pid)
            for pid, words in idle.codespace.processes().items():
                if pid not in before.pids and words.startswith("sshd:"):
                    os.kill(pid, signal.SIGKILL)
            client.sendall(b"meanwhile")
            server.settimeout(10)
            assert server.recv(100) == b"meanwhile"
            assert time.monotonic() - begun < 10
            server.sendall(b"and back")
            client.settimeout(10)
            assert client.recv(100) == b"and back"
            assert processor(bridge.pid) - used < 2
    resumed = wait_until(lambda: bridge.event("resumed"), "the word of it")
    assert resumed and resumed["tries"] == 1, bridge.said
    assert "Traceback" not in bridge.said
    assert not zombies(idle.codespace) + zombies(idle.laptop)
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace)
    assert_restored(here, idle.laptop)


def test_failure_13_short_silence_of_the_network_harms_no_flow(idle: World, start: Start) -> None:
    """The Wi-Fi is away for four seconds: flows wait without using the processor, and go on."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    away = f"-p tcp -m multiport --ports {SSH_PORT} -j DROP"
    probe = idle.laptop.shell("iptables -S")
    if probe.code:
        pytest.skip(f"no iptables: {probe.stderr}")
    with idle.corp.listen(CORP[4]) as listener:
        client = idle.codespace.connect(CORP[4], listener.getsockname()[1])
        with client, listener.accept()[0] as server:
            idle.laptop.shell(f"iptables -A INPUT {away}; iptables -A OUTPUT {away}").check()
            try:
                used = processor(bridge.pid)
                client.sendall(b"before")
                server.sendall(b"while")
                server.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    server.recv(100)
                time.sleep(4)
                assert processor(bridge.pid) - used < 1
            finally:
                idle.laptop.shell(f"iptables -D INPUT {away}; iptables -D OUTPUT {away}").check()
            for end, expected in ((server, b"before"), (client, b"while")):
                end.settimeout(10)
                assert end.recv(100) == expected
    assert bridge.program.running


@pytest.mark.parametrize("end", ["laptop", "codespace", "both"])
def test_failure_14_kill_9_of_either_end(idle: World, start: Start, end: str) -> None:
    """Every process of one end, or of both, at one blow: as a loss of power, or a container that is restarted. TUN and
    routes are gone at once, resolv.conf is as before at the latest when the next `up` was there, and that one works."""
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    bridge = start(TARGET, "--ssh", "openssh", "--grace", "2").ready()
    doomed = []
    if end != "codespace":
        doomed += [pid for pid in idle.laptop.processes() if pid not in here.pids]
    if end != "laptop":
        doomed += [pid for pid in idle.codespace.processes() if pid not in before.pids]
    assert len(doomed) >= 2
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):  # one ends with another
            os.kill(pid, signal.SIGKILL)
    bridge.ended(10)
    if end == "laptop":
        assert_restored(before, idle.codespace)
    everything = "ip -o link; ip -4 route show table all; ip -6 route show table all"
    wait_until(lambda: "nb0" not in idle.codespace.shell(everything).stdout, "the TUN's end", 5)
    again = start(TARGET, "--ssh", "openssh").ready()
    assert works(idle)
    assert idle.codespace.run("getent", "hosts", "v4only.corp.test").stdout.startswith(CORP[4])
    assert again.stop() == 0
    assert_restored(before, idle.codespace)
    assert_restored(here, idle.laptop)


def test_failure_14_laptop_that_says_nothing_any_more(idle: World, start: Start) -> None:
    """Its processes are stopped, so that nobody closes anything, as when they hang. The next `up` ends the bridge that
    nobody answers for; the old one, should it ever wake up, is told and leaves the new one alone."""
    here = Snapshot.of(idle.laptop)
    bridge = start(TARGET, "--ssh", "openssh").ready()
    mute = [pid for pid in idle.laptop.processes() if pid not in here.pids]
    for pid in mute:
        os.kill(pid, signal.SIGSTOP)
    try:
        again = start(TARGET, "--ssh", "openssh").ready()
        assert works(idle)
    finally:
        for pid in (*mute, bridge.program.popen.pid):  # nsenter stops and goes on with its child
            os.kill(pid, signal.SIGCONT)
    assert bridge.ended() == 1
    failed = bridge.event("failed")
    assert failed and "took this target over" in failed["what"], bridge.said
    assert works(idle)
    assert idle.codespace.run("getent", "hosts", "v4only.corp.test").stdout.startswith(CORP[4])
    assert again.stop() == 0


@pytest.fixture
def overlap(idle: World) -> Iterator[tuple[str, str]]:
    """Two hosts of corp's whose addresses lie in the codespace's own networks: docker0's and its first interface's."""
    hosts = ("172.17.9.9", CODESPACE[4].rpartition(".")[0] + ".99")
    for host in hosts:
        idle.corp.ip(f"addr add {host}/32 dev lo")
        idle.laptop.ip(f"route add {host}/32 via {CORP[4]}")
    yield hosts
    for host in hosts:
        idle.corp.ip(f"addr del {host}/32 dev lo")
        idle.laptop.ip(f"route del {host}/32")


def test_failure_15_target_inside_the_codespaces_own_network(
    idle: World, start: Start, overlap: tuple[str, str]
) -> None:
    """By itself it is left to the codespace, and the bridge says so and in which network it lies; named by --route it
    is reached, and its neighbours over there still are."""
    bridge = start(TARGET).ready()
    skipped = bridge.event("skipped")
    assert skipped, bridge.said
    told = {entry["network"]: entry["reason"] for entry in skipped["networks"]}
    assert "172.17.0.0/16" in told["172.17.9.9/32"], told
    assert told["172.30.7.0/24"] == "it is the target's own, too"
    for host in overlap:
        assert "dev nb" not in idle.codespace.run("ip", "route", "get", host).stdout
    assert bridge.stop() == 0
    bridge = start(TARGET, *(word for host in overlap for word in ("--route", f"{host}/32"))).ready()
    for host in overlap:
        with idle.corp.listen(host) as listener:
            port = str(listener.getsockname()[1])
            idle.codespace.run("nc", "-z", "-w", "3", host, port).check()
    assert "dev nb" not in idle.codespace.run("ip", "route", "get", LAPTOP[4]).stdout
    assert "dev docker0" in idle.codespace.run("ip", "route", "get", "172.17.9.8").stdout
    assert bridge.program.running


@pytest.fixture
def full_tunnel(idle: World) -> Iterator[dict[str, str]]:
    """The laptop's default route leads into corp, as a VPN's that takes everything; what is reached by it alone."""
    hosts = {"internet": "203.0.113.9", "LAN": "192.168.77.7", "v6": "2001:db8:9::9"}
    for host in hosts.values():
        idle.corp.ip(f"addr add {host}/{128 if ':' in host else 32} dev lo")
    idle.laptop.ip(f"route add default via {CORP[4]}", f"route add ::/0 via {CORP[6]}")
    yield hosts
    idle.laptop.ip(f"route del default via {CORP[4]}", f"route del ::/0 via {CORP[6]}")
    for host in hosts.values():
        idle.corp.ip(f"addr del {host}/{128 if ':' in host else 32} dev lo")


def test_failure_16_full_tunnel_and_host_behind_the_default_gateway(
    idle: World, start: Start, full_tunnel: dict[str, str]
) -> None:
    """No route of the laptop names them: it just connects, and its routing table does the rest."""
    options: dict[str, tuple[str, ...]] = {
        "LAN": ("--route", "192.168.77.0/24"), "internet": ("--all",), "v6": ("--all",),
    }
    for name, wanted in options.items():
        bridge = start(TARGET, *wanted).ready()
        host = full_tunnel[name]
        with idle.corp.listen(host) as listener:
            client = idle.codespace.connect(host, listener.getsockname()[1])
            with client, listener.accept()[0] as server:
                assert server.getpeername()[0] in {"10.99.0.1", "fd99::1"}
                server.sendall(b"hello")
                assert client.recv(10) == b"hello"
        ping = idle.codespace.run("ping", "-c", "1", "-W", "2", host)
        assert ping.code == 0, ping
        assert works(idle)
        assert bridge.stop() == 0


@each_ssh
def test_failure_20_sudo_uses_the_callers_agent_and_environment(idle: World, start: Start, ssh: str) -> None:
    """`sudo netbridge up`: sudo takes SSH_AUTH_SOCK and the proxy variables away, and root has no keys; the caller's
    key is in the caller's agent and nowhere else. (gh comes with codespaces, in a later issue.)"""
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo, and a Python that ordinary users may run")
    name, number = PERSON
    home = idle.laptop.folder / name
    me = as_person(idle.laptop, python)
    person = me[: me.index("env")]
    folder = idle.laptop.folder / "agent"
    folder.mkdir(mode=0o700)
    os.chown(folder, number, number)
    agent = idle.laptop.start(*person, "ssh-agent", "-D", "-a", folder / "socket", log="agent.log")
    key = home / ".ssh/id_ed25519"
    try:
        wait_until(lambda: (folder / "socket").exists(), "ssh-agent")
        socket_named = f"SSH_AUTH_SOCK={folder}/socket"
        idle.laptop.run(*person, "env", socket_named, "ssh-add", "-q", key).check()
        key.rename(folder / "away")
        prefix = list(as_person(idle.laptop, python, sudo=True))
        at = prefix.index("env") + 1
        prefix[at:at] = [socket_named, "HTTPS_PROXY=http://proxy.example:3128"]
        bridge = start("ssh://mine", "--ssh", ssh, prefix=tuple(prefix)).ready()
        assert works(idle)
        if ssh == "openssh":
            clients = [pid for pid, words in idle.laptop.processes().items() if words.split(" ")[0].endswith("ssh")]
            assert clients
            for pid in clients:
                assert os.stat(f"/proc/{pid}").st_uid == number
                environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
                assert socket_named in environment
                assert "HTTPS_PROXY=http://proxy.example:3128" in environment
                assert f"HOME={home}" in environment
        assert bridge.stop() == 0
    finally:
        if not key.exists():
            (folder / "away").rename(key)
        agent.kill()
        shutil.rmtree(folder)


OWN = {
    "everything, by IPv6": (f"ssh://root@[{CODESPACE[6]}]:{SSH_PORT}", ("--all",)),
    "everything, by a proxy": ("ssh://proxied", ("--all",)),
    "everything, from far away": ("ssh://far", ("--all",)),
    "just what it comes from": ("ssh://far", ("--route", "10.55.0.0/24")),
    "the network it runs in": (TARGET, ("--route", "172.30.7.0/24")),
    "exactly its other end": (TARGET, ("--route", f"{LAPTOP[4]}/32")),
}


@pytest.fixture
def far(idle: World) -> Iterator[None]:
    """The alias `far`: the laptop comes from an address that the codespace has only its default route to."""
    config = idle.laptop.folder / "home/.ssh/config"
    alias = f"Host far\n  HostName {CODESPACE[4]}\n  Port {SSH_PORT}\n  User root\n  BindAddress 10.55.0.1\n"
    alias += f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}\n"
    idle.laptop.ip("addr add 10.55.0.1/32 dev lo")
    with changed(config, config.read_text() + alias):
        yield
    idle.laptop.ip("addr del 10.55.0.1/32 dev lo")


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("what", list(OWN))
def test_failure_23_own_transport_is_excluded(idle: World, start: Start, what: str) -> None:
    """Whatever is to be captured: the connection that carries the bridge never is, and it carries on."""
    target, options = OWN[what]
    bridge = start(target, "--ssh", "openssh", *options).ready()
    peers = idle.codespace.shell(f"ss -Htn state established sport = :{SSH_PORT} | awk '{{print $4}}'").stdout.split()
    assert peers
    for peer in peers:
        host = peer.rpartition(":")[0].strip("[]")
        assert "dev nb" not in idle.codespace.run("ip", "route", "get", host).stdout, host
    (idle.web / "five").write_bytes(bytes(5_000_000))
    try:
        moved = idle.codespace.shell(f"curl -sS -m10 http://{CORP[4]}/five | wc -c").stdout
        assert int(moved) == 5_000_000
    finally:
        (idle.web / "five").unlink()
    assert bridge.program.running
    assert bridge.stop() == 0
