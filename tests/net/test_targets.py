"""Several targets at once, and what runs as whom: docker, kubectl and devpod are stand-ins whose containers are
machines without any network of their own (tests/world/containers.py); docker with a real engine: test_containers.py.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CORP, SSH_PORT
from tests.world.bridge import as_person, netbridge, python_for_everybody
from tests.world.containers import StandIns
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot
from tests.world.sshd import PERSON

from .conftest import TARGET
from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PAGE = "<h1>corp</h1>\n"
POD = "k8s://prod/apps/web-0/app"
SSHES = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])


@pytest.fixture(scope="module")
def boxes(world: World) -> Iterator[dict[str, Machine]]:
    """Machines with nothing but a loopback: what reaches corp from there is the bridge."""
    made = {name: Machine(name, world.folder / name, private=("/tmp", "/run", "/dev/shm")) for name in ("box", "pod")}
    try:
        for machine in made.values():
            machine.boot()
        for machine in made.values():
            machine.booted()
        yield made
    finally:
        for machine in made.values():
            machine.close()


@pytest.fixture
def clients(idle: World, boxes: dict[str, Machine], tmp_path: Path) -> Iterator[StandIns]:
    """The laptop's docker, kubectl and devpod."""
    laptop = idle.laptop
    places = {
        name: ("nsenter", "-t", str(machine.init), "-m", "-n", "-p", "-u", "-i", "-w", "--")
        for name, machine in boxes.items()
    }
    folder = laptop.folder / f"clients-{tmp_path.name}"
    with StandIns(
        folder, places, contexts=["prod"], pods={"prod/apps/web-0": {"place": "pod", "containers": ["app"]}},
        workspaces={"work": {"state": "Running", "address": CODESPACE[4], "port": SSH_PORT}},
    ) as made:  # fmt: skip
        laptop.environment["PATH"] = f"{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        yield made
        del laptop.environment["PATH"]
    shutil.rmtree(folder)


def page(machine: Machine) -> str:
    return machine.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").stdout


def known(world: World) -> dict[str, dict[str, list[str]]]:
    """The bridges of `netbridge status`: target to networks."""
    found = json.loads(netbridge(world.laptop, "status", "--json").check().stdout)["bridges"]
    return {bridge["target"]: bridge["network"] for bridge in found}


def test_three_targets_at_once(
    idle: World, boxes: dict[str, Machine], clients: StandIns, start: Start
) -> None:
    """Each its own process and addresses; `status` and `down` know them all, and ending one harms no other."""
    places = {TARGET: idle.codespace, "docker://box": boxes["box"], POD: boxes["pod"]}
    before = {target: Snapshot.of(machine) for target, machine in places.items()}
    bridges = {target: start(target) for target in places}
    for bridge in bridges.values():
        bridge.ready(40)
    for target, machine in places.items():
        assert page(machine) == PAGE, target
        assert machine.run("dig", "+short", "+tries=1", "+time=3", "www.corp.test").stdout == f"{CORP[4]}\n"
    networks = known(idle)
    assert networks.keys() == places.keys()
    assert len({address for network in networks.values() for address in network["tun"]}) == 6  # of both versions each
    assert len({bridge.pid for bridge in bridges.values()}) == 3

    refused = netbridge(idle.laptop, "down")
    assert refused.code == 2  # which one?
    assert POD in refused.stderr
    netbridge(idle.laptop, "down", POD).check()
    assert bridges[POD].ended() == 0
    assert known(idle).keys() == {TARGET, "docker://box"}
    assert page(boxes["pod"]) == ""
    assert page(boxes["box"]) == page(idle.codespace) == PAGE

    netbridge(idle.laptop, "down", "--all").check()
    for target, bridge in bridges.items():
        assert bridge.ended() == 0, target
        assert_restored(before[target], places[target], 5)
    assert known(idle) == {}


@pytest.mark.parametrize("target", ["docker://box", POD])
def test_under_sudo_the_client_is_the_callers(
    idle: World, boxes: dict[str, Machine], clients: StandIns, start: Start, target: str
) -> None:
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo and a Python that ordinary users may run")
    bridge = start(target, prefix=as_person(idle.laptop, python, sudo=True)).ready()
    assert page(boxes["box" if "docker" in target else "pod"]) == PAGE
    home = str(idle.laptop.folder / PERSON[0])
    assert {(call["uid"], call["home"]) for call in clients.calls} == {(PERSON[1], home)}
    assert bridge.stop() == 0


@SSHES
@pytest.mark.parametrize("sudo", [False, True])
def test_a_devpod_workspace(idle: World, clients: StandIns, start: Start, ssh: str, *, sudo: bool) -> None:
    """The tunnel leads to the codespace's sshd, which wants a key; DevPod's own asks for none."""
    python = python_for_everybody()
    if sudo and not (python and shutil.which("sudo")):
        pytest.skip("needs sudo and a Python that ordinary users may run")
    before = Snapshot.of(idle.codespace)
    prefix = as_person(idle.laptop, python, sudo=True) if sudo else ()
    bridge = start("devpod://root@work", "--ssh", ssh, prefix=prefix).ready()
    assert page(idle.codespace) == PAGE
    assert {call["uid"] for call in clients.calls} == {PERSON[1] if sudo else os.getuid()}
    assert {tuple(words) for words in clients.words("devpod")} == {("ssh", "--stdio", "--user", "root", "work")}
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace, 5)


@pytest.mark.parametrize("target", ["docker://box", POD, "devpod://root@work"])
def test_the_commands_status_is_the_bridges(idle: World, clients: StandIns, start: Start, target: str) -> None:
    bridge = start(target, command=("sh", "-c", f"curl -sS -m5 http://{CORP[4]}/ && exit 42"))
    assert bridge.ended(30) == 42, bridge.said


@pytest.mark.parametrize("target", ["docker://box", POD])
def test_a_stop_ends_the_command_over_there(
    boxes: dict[str, Machine], clients: StandIns, start: Start, target: str
) -> None:
    box = boxes["box" if "docker" in target else "pod"]
    bridge = start(target, command=("sleep", "4321"))
    wait_until(lambda: "sleep 4321" in box.processes().values(), "the command", 20, 0.05)
    assert bridge.stop() == 143, bridge.said
    wait_until(functools.partial(_empty, box), "the end of everything there")


def _empty(machine: Machine) -> bool:
    return not machine.processes()
