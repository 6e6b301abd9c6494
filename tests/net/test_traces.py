"""However a bridge ends, nothing is left: routes, links, rules, files, processes and resolv.conf are as before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.bridge import netbridge
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot, differences

from .conftest import TARGET

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
ssh_only = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])


def assert_restored(before: Snapshot, machine: Machine, seconds: float = 10.0) -> None:
    """Within `seconds` everything is as it was."""
    deadline = time.monotonic() + seconds
    while (left := differences(before, machine)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"{machine.name} after {seconds:g} s:\n{left}"


def agents(world: World, before: Snapshot) -> dict[int, str]:
    """The bridge's Python processes in the codespace."""
    found = world.codespace.processes()
    return {pid: words for pid, words in found.items() if pid not in before.pids and "python" in words.split(" ")[0]}


def holds_tun(pid: int) -> bool:
    """True for the process that has the TUN open."""
    try:
        return any("iff:" in (entry.read_text()) for entry in Path(f"/proc/{pid}/fdinfo").iterdir())
    except OSError:
        return False


def is_named(pid: int, name: str) -> bool:
    """Whether the process calls itself so."""
    return Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"


def works(world: World) -> bool:
    return world.codespace.answers(CORP[4], HTTP_PORT)


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "SIGHUP", "down"])
@ssh_only
def test_ordinary_ends(idle: World, start: Start, ssh: str, end: str) -> None:
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    bridge = start(TARGET, "--ssh", ssh).ready()
    assert works(idle)
    assert differences(before, idle.codespace), "the bridge changed nothing?"
    if end == "down":
        netbridge(idle.laptop, "down", TARGET).check()
        # `down` returns when the bridge is gone
        assert not differences(before, idle.codespace)
    else:
        bridge.program.signal(signal.Signals[end])
    assert bridge.ended() == 0, bridge.said
    assert_restored(before, idle.codespace, 2)
    assert_restored(here, idle.laptop, 2)
    stopped = bridge.event("stopped")
    assert stopped and stopped["clean"]


@ssh_only
def test_command_ends_the_bridge(idle: World, start: Start, ssh: str) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", ssh, command=("sh", "-c", f"curl -sS http://{CORP[4]}/ >/tmp/page; exit 42"))
    assert bridge.ended(30) == 42, bridge.said
    assert idle.codespace.shell("cat /tmp/page; rm /tmp/page").stdout == "<h1>corp</h1>\n"
    assert_restored(before, idle.codespace, 2)


@ssh_only
def test_kill_netbridge(idle: World, start: Start, ssh: str) -> None:
    """kill -9: the agent notices the end of its stdin, and waits in vain for the grace."""
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", ssh, "--grace", "1").ready()
    os.kill(bridge.pid, signal.SIGKILL)
    bridge.ended()
    assert_restored(before, idle.codespace)
    start(TARGET, "--ssh", ssh).ready()
    assert works(idle)


@ssh_only
def test_kill_agent(idle: World, start: Start, ssh: str) -> None:
    """kill -9 of the TUN's holder: the kernel takes TUN and routes, the guardian puts resolv.conf back."""
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", ssh).ready()
    holders = [pid for pid in agents(idle, before) if holds_tun(pid)]
    assert holders, agents(idle, before)
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
    assert bridge.ended() in {1, 3}, bridge.said
    failed = bridge.event("failed")
    assert failed and failed["what"] and failed["why"] and failed["todo"], bridge.said
    assert_restored(before, idle.codespace)
    start(TARGET, "--ssh", ssh).ready()
    assert works(idle)


@ssh_only
def test_kill_everything_of_the_agent(idle: World, start: Start, ssh: str) -> None:
    """Holder and guardian at one blow, as a reboot of the container does: the next `up` heals resolv.conf."""
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", ssh).ready()
    for pid in agents(idle, before):
        os.kill(pid, signal.SIGKILL)
    assert bridge.ended() in {1, 3}, bridge.said
    healed = start(TARGET, "--ssh", ssh).ready()
    assert works(idle)
    healed.stop()
    assert_restored(before, idle.codespace)


def test_kill_guardian(idle: World, start: Start) -> None:
    """Without its guardian the bridge goes on, and a stop still puts everything back."""
    before = Snapshot.of(idle.codespace)
    bridge = start().ready()
    (guardian,) = (pid for pid in agents(idle, before) if is_named(pid, "netbridge-guard"))
    os.kill(guardian, signal.SIGKILL)
    assert works(idle)
    bridge.stop()
    assert_restored(before, idle.codespace)


@ssh_only
def test_ssh_connection_dies(idle: World, start: Start, ssh: str) -> None:
    """The server's half of the connection is killed, and the bridge shall not outlive it."""
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", ssh, "--grace", "0").ready()
    for pid, words in idle.codespace.processes().items():
        if pid not in before.pids and words.startswith("sshd:"):
            os.kill(pid, signal.SIGKILL)
    assert bridge.ended() in {1, 3}, bridge.said
    assert bridge.event("failed")
    assert_restored(before, idle.codespace)


def test_ssh_program_dies(idle: World, start: Start) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start(TARGET, "--ssh", "openssh", "--grace", "0").ready()
    clients = [pid for pid, words in idle.laptop.processes().items() if words.split(" ")[0].endswith("ssh")]
    assert clients, idle.laptop.processes()
    os.kill(clients[0], signal.SIGKILL)
    assert bridge.ended() in {1, 3}, bridge.said
    assert_restored(before, idle.codespace)


def test_someone_else_changes_resolv_conf(idle: World, start: Start) -> None:
    """What others write while the bridge runs is theirs and stays."""
    before = Snapshot.of(idle.codespace)
    bridge = start().ready()
    path = idle.codespace.folder / "resolv.conf"
    try:
        path.write_text("nameserver 192.0.2.1\n")
        bridge.stop()
        assert path.read_text() == "nameserver 192.0.2.1\n"
    finally:
        path.write_bytes(before.resolv)
    assert_restored(before, idle.codespace)


def test_open_flows_end_with_the_bridge(idle: World, start: Start) -> None:
    """A connection that is open when the bridge stops is reset, not left hanging."""
    with idle.corp.listen(CORP[4]) as listener:
        bridge = start().ready()
        with idle.codespace.connect(CORP[4], listener.getsockname()[1]) as client:
            connection, _peer = listener.accept()
            with connection:
                assert any(str(listener.getsockname()[1]) in str(flow) for flow in bridge.status()["flows"])
                bridge.stop()
                connection.settimeout(3)
                try:
                    assert connection.recv(1) == b""
                except ConnectionResetError:
                    pass
            client.settimeout(3)
            with pytest.raises(OSError, match=r"reset|timed out|unreachable"):
                client.recv(1)


@pytest.mark.parametrize("end", ["SIGTERM", "down", "SIGKILL"])
def test_sandbox_leaves_nothing(idle: World, start: Start, end: str) -> None:
    here = Snapshot.of(idle.laptop)
    bridge = start("sandbox").ready()
    inner = bridge.inside()
    assert idle.laptop.inside(lambda: True, inner)
    match end:
        case "down":
            netbridge(idle.laptop, "down", "sandbox").check()
            bridge.ended()
        case "SIGKILL":
            os.kill(bridge.pid, signal.SIGKILL)
            bridge.ended()
        case _:
            bridge.stop()
    if end == "SIGKILL":
        netbridge(idle.laptop, "status").check()  # whoever looks next removes the dead bridge's number
    wait_until(lambda: not Path(f"/proc/{inner}").exists(), "the end of the sandbox's command", 5)
    assert_restored(here, idle.laptop)


def test_sandbox_runs_a_command(idle: World, start: Start) -> None:
    here = Snapshot.of(idle.laptop)
    bridge = start("sandbox", command=("sh", "-c", f"curl -sS -m5 http://{CORP[4]}/ && exit 42"))
    assert bridge.ended(30) == 42, bridge.said
    assert_restored(here, idle.laptop)


def test_five_times_up_and_down(idle: World, start: Start) -> None:
    before, here = Snapshot.of(idle.codespace), Snapshot.of(idle.laptop)
    for _number in range(5):
        bridge = start().ready()
        assert works(idle)
        assert bridge.stop() == 0
    assert_restored(before, idle.codespace)
    assert_restored(here, idle.laptop)


def test_status_while_running(idle: World, start: Start) -> None:
    bridge = start().ready()
    with idle.codespace.connect(CORP[4], HTTP_PORT):
        status = bridge.status()
    assert status["target"] == TARGET
    assert status["state"] == "running"
    assert any(CORP[4] in str(flow) and "80" in str(flow) for flow in status["flows"]), status["flows"]
    assert "10.99.0.0/24" in str(status["captured"])
    shown = netbridge(idle.laptop, "status").check()
    assert TARGET in shown.stdout
    assert shown.stderr == ""
    bridge.stop()
    assert netbridge(idle.laptop, "status", "--json").check().stdout.strip() == '{"bridges": []}'


def test_two_bridges_at_once(idle: World, start: Start) -> None:
    """One to the codespace and one to a sandbox, side by side."""
    first = start().ready()
    second = start("sandbox").ready()
    assert works(idle)
    inner = second.inside()
    idle.laptop.connect(CORP[4], HTTP_PORT, enter=inner).close()
    assert first.status()["number"] != second.status()["number"]
    netbridge(idle.laptop, "down", "--all").check()
    assert first.ended() == 0
    second.ended()
