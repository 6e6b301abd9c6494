"""Codespaces through a stand-in for gh (tests/world/gh_standin.py) that carries its tunnel to the world's real sshd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, HTTP_PORT, SSH_PORT
from tests.world.bridge import as_person, netbridge, python_for_everybody
from tests.world.gh import NAMES, StandIn
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot
from tests.world.sshd import PERSON

from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
SSHES = ["openssh", "asyncssh"]


@pytest.fixture
def gh(idle: World, tmp_path: Path) -> Iterator[StandIn]:
    """The stand-in is the laptop's gh; keys that it brings to the codespace are forgotten afterwards."""
    laptop = idle.laptop
    authorized = idle.codespace.folder / "sshd/authorized_keys"
    before = authorized.read_text()
    authorized.chmod(0o666)  # the person's gh has GitHub bring the key there
    folder = laptop.folder / f"gh-{tmp_path.name}"
    stand_in = StandIn(folder, address=CODESPACE[4], port=SSH_PORT, authorized_keys=str(authorized))
    laptop.environment["PATH"] = f"{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    homes = [laptop.folder / "home", laptop.folder / PERSON[0]]
    try:
        yield stand_in
    finally:
        del laptop.environment["PATH"]
        authorized.write_text(before)
        authorized.chmod(0o644)
        for home in homes:
            for key in home.glob(".ssh/codespaces.auto*"):
                key.unlink()
        shutil.rmtree(folder)


def reaches_corp(world: World) -> None:
    world.codespace.connect(CORP[4], HTTP_PORT).close()
    assert world.codespace.run("dig", "+short", "+tries=1", "+time=3", "www.corp.test").stdout == "10.99.0.2\n"


def stages(bridge: Bridge) -> list[str]:
    return [record["stage"] for record in bridge.events if record["event"] == "starting"]


def tunnels(world: World) -> dict[int, str]:
    return {pid: words for pid, words in world.laptop.processes().items() if "--stdio" in words}


@pytest.mark.parametrize("ssh", SSHES)
def test_a_codespace_by_the_beginning_of_its_name(idle: World, gh: StandIn, start: Start, ssh: str) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start("mona-fl", "--ssh", ssh).ready()
    reaches_corp(idle)
    assert stages(bridge)[1] == f"logging in to the codespace fluffy robot ({NAMES[0]})"
    # no key was there: one was made, as gh would, with gh's own name for it
    key = idle.laptop.folder / "home/.ssh/codespaces.auto"
    assert key.stat().st_mode & 0o777 == 0o600
    *_, tunnel = gh.calls
    assert tunnel["words"] == ["codespace", "ssh", "-c", NAMES[0], "--stdio", "--", "-i", str(key)]
    assert not any(call["tty"] for call in gh.calls)
    assert bridge.stop() == 0
    assert "tunnel closed" not in bridge.said  # it always says so and exits 1: no news at an end that was asked for
    assert bridge.event("stopped") and bridge.event("stopped")["clean"] is True  # type: ignore[index]
    assert not tunnels(idle)
    assert_restored(before, idle.codespace, 5)


def test_a_stopped_one_is_started(idle: World, gh: StandIn, start: Start) -> None:
    gh.tell(start_seconds=5.0)
    bridge = start("shiny train").ready()
    reaches_corp(idle)
    label = f"the codespace shiny train ({NAMES[1]})"
    assert stages(bridge)[1:4] == [
        f"starting {label} (now Shutdown; this takes up to five minutes)", f"{label} is Starting",
        f"logging in to {label}",
    ]  # fmt: skip
    assert bridge.stop() == 0


@pytest.mark.parametrize("ssh", SSHES)
def test_under_sudo_gh_is_the_callers(idle: World, gh: StandIn, start: Start, ssh: str) -> None:
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo and a Python that ordinary users may run")
    home = idle.laptop.folder / PERSON[0]
    bridge = start(NAMES[0], "--ssh", ssh, prefix=as_person(idle.laptop, python, sudo=True)).ready()
    reaches_corp(idle)
    assert os.stat(f"/proc/{bridge.pid}").st_uid == 0 or "sudo" in bridge.program.argv
    assert {(call["uid"], call["home"]) for call in gh.calls} == {(PERSON[1], str(home))}
    assert all(os.stat(f"/proc/{pid}").st_uid == PERSON[1] for pid in tunnels(idle))
    for name in ("codespaces.auto", "codespaces.auto.pub"):
        assert (home / ".ssh" / name).stat().st_uid == PERSON[1]
    assert not (idle.laptop.folder / "home/.ssh/codespaces.auto").exists()  # root's
    assert bridge.stop() == 0


@pytest.mark.parametrize("ssh", SSHES)
def test_the_commands_status_is_the_bridges(idle: World, gh: StandIn, start: Start, ssh: str) -> None:
    bridge = start(NAMES[0], "--ssh", ssh, command=("sh", "-c", f"curl -sS -m5 http://{CORP[4]}/ && exit 42"))
    assert bridge.ended(30) == 42, bridge.said


@pytest.mark.parametrize("ssh", SSHES)
def test_a_tunnel_that_ends_is_made_anew(idle: World, gh: StandIn, start: Start, ssh: str) -> None:
    bridge = start(NAMES[0], "--ssh", ssh).ready()
    (pid,) = (pid for pid, words in tunnels(idle).items() if words.startswith(f"python3 -I -S {gh.folder}/gh "))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bridge.event("resumed"), "another tunnel", 20)
    interrupted = bridge.event("interrupted")
    assert interrupted
    assert f"The tunnel to the codespace fluffy robot ({NAMES[0]}) ended." in interrupted["why"], bridge.said
    assert idle.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").check().stdout
    assert bridge.stop() == 0


def test_a_codespace_that_fell_asleep_is_not_woken_up(idle: World, gh: StandIn, start: Start) -> None:
    """It stops by itself, and the connection with it: a bridge left open must not start, and pay, what nobody uses."""
    bridge = start(NAMES[0], "--grace", "3").ready()
    # The target here goes on, and gives up after the grace; a codespace that stops takes everything with it.
    gh.tell(codespaces=[{**gh.state["codespaces"][0], "state": "Shutdown"}, *gh.state["codespaces"][1:]])
    for pid in tunnels(idle):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert bridge.ended() == 3, bridge.said
    failed = bridge.event("failed")
    assert failed and failed["what"] == f"The codespace fluffy robot ({NAMES[0]}) was stopped."
    assert gh.state["codespaces"][0]["state"] == "Shutdown"


def test_an_end_while_a_codespace_starts(idle: World, gh: StandIn, start: Start) -> None:
    """Nothing waits for a start that nobody wants any more."""
    gh.tell(start_seconds=60.0)
    bridge = start(NAMES[1])
    wait_until(lambda: gh.state["codespaces"][1]["state"] == "Starting", "the start")
    assert bridge.stop() == 0
    assert not [words for words in idle.laptop.processes().values() if f"{gh.folder}/gh" in words]


def test_the_list(idle: World, gh: StandIn) -> None:
    listed = netbridge(idle.laptop, "list").check()
    assert listed.stdout == ""
    head, *lines = listed.stderr.splitlines()
    assert head.split() == ["name", "repository", "branch", "state", "last", "used"]
    assert lines[0].split()[:5] == ["fluffy", "robot", "mona/app", "feature/x", "Available"]
