"""`netbridge doctor` in the world: what it says of a place is what `up` does there; looking changes nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import BLACK_HOLE, CODESPACE, CORP, SILENT, SSH_PORT
from tests.world.bridge import NETBRIDGE, environment, netbridge
from tests.world.gh import NAMES, StandIn
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .test_traces import assert_restored

pytestmark = pytest.mark.net

PLACE = f"{CODESPACE[4]}:{SSH_PORT}"
USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def examined(world: World, code: int, *words: str) -> dict[str, dict[str, Any]]:
    """The checks by name (those of the target as `there NAME`); `code` is the exit status it must have."""
    output = netbridge(world.laptop, "doctor", *words, "--json", timeout=60)
    assert output.code == code, f"{output.stdout}\n{output.stderr}"
    report = json.loads(output.stdout)
    assert report["works"] is (code == 0)
    return {("there " if it["place"] == "there" else "") + it["name"]: it for it in report["checks"]}


def the_fault(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (fault,) = (it for it in found.values() if it["state"] == "fault")
    return fault


def test_a_healthy_codespace(idle: World) -> None:
    """All is well, and afterwards everything over there is as it was."""
    before = Snapshot.of(idle.codespace)
    found = examined(idle, 0, TARGET)
    assert_restored(before, idle.codespace, 3)
    for name in (
        "python3, root", "capabilities", "capture", "offloads", "resolv.conf", "nameservers", "other bridges", "line",
    ):  # fmt: skip
        assert found[f"there {name}"]["state"] == "ok", found[f"there {name}"]
    assert found["there capture"]["details"]["by"] == "tun"
    assert found["there line"]["details"]["bytes_per_second"] > 1e5
    assert found["nameservers"]["details"]["nameservers"][0]["server"] == CORP[4]
    assert found["private names"]["details"]["suffixes"] == ["corp.test"]
    assert "10.99.0.0/24" in {it["network"] for it in found["captured"]["details"]["networks"]}
    assert "docker0" in found["there containers"]["said"]


def test_the_screen(idle: World) -> None:
    output = netbridge(idle.laptop, "doctor", "ssh://nosudo@" + PLACE, timeout=60)
    assert output.code == 5
    assert output.stdout == ""
    assert "FAULT    agent            The agent needs root on the target." in output.stderr
    assert "NOPASSWD: ALL" in output.stderr
    assert output.stderr.splitlines()[-1] == f"A bridge to ssh://nosudo@{PLACE} would not work (1 fault)."


@pytest.mark.parametrize(("user", "what"), [
    ("nopython", "The agent needs python3 on the target."),
    ("nosudo", "The agent needs root on the target."),
])
def test_what_the_target_lacks(idle: World, user: str, what: str) -> None:
    assert the_fault(examined(idle, 5, f"ssh://{user}@{PLACE}"))["said"] == what


@pytest.mark.parametrize("user", ["notun", "nonetadmin"])
def test_without_a_tun(idle: World, user: str) -> None:
    """By packets it works, and the better way is told; who wants a TUN is told what `up` would say."""
    before = Snapshot.of(idle.codespace)
    found = examined(idle, 0, f"ssh://{user}@{PLACE}")["there capture"]
    assert (found["state"], found["details"]["by"]) == ("warning", "packet")
    assert '"runArgs": ["--cap-add=NET_ADMIN"' in found["todo"]
    fault = the_fault(examined(idle, 5, f"ssh://{user}@{PLACE}", "--capture", "tun"))
    assert '"runArgs": ["--cap-add=NET_ADMIN"' in fault["todo"]
    assert_restored(before, idle.codespace, 3)


def test_an_overlapping_subnet(idle: World) -> None:
    idle.laptop.ip("link add vpn0 type bridge", "link set vpn0 up", "route add 172.17.0.0/16 dev vpn0")
    try:
        found = examined(idle, 0, TARGET)
    finally:
        idle.laptop.ip("link delete vpn0")
    assert found["overlap"]["details"]["network"] == "172.17.0.0/16"
    told = found["there overlaps"]
    assert told["state"] == "warning"
    assert {"captured": "172.17.0.0/16", "own": "172.17.0.0/16"} in told["details"]["overlaps"]


def test_a_dead_resolver_here(idle: World) -> None:
    """It is named, and no fault: names that the target resolves itself are not asked here."""
    file = idle.laptop.folder / "resolv.conf"
    before = file.read_text()
    file.write_text(f"nameserver {SILENT[4]}\nnameserver {CORP[4]}\n")
    try:
        found = examined(idle, 0)["nameservers"]
    finally:
        file.write_text(before)
    assert (found["state"], found["said"]) == ("warning", f"{SILENT[4]} does not answer")
    assert CORP[4] in found["why"]


@pytest.mark.parametrize(("target", "code", "what"), [
    ("ssh://wrongkey", 4, "wrongkey does not let you in."),
    ("ssh://stranger", 4, "The host key of stranger is not known."),
    ("ssh://impostor", 4, "The host key of impostor is not the one that is known."),
    (f"ssh://root@{CODESPACE[4]}:9", 3, f"root@{CODESPACE[4]}:9 does not accept connections."),
    ("ssh://nowhere.test", 3, "There is no host nowhere.test."),
])
def test_troubles_of_ssh(idle: World, target: str, code: int, what: str) -> None:
    fault = the_fault(examined(idle, code, target))
    assert fault["said"] == what
    assert fault["todo"]


def test_a_bridge_of_another_machine(idle: World, start: Callable[..., Bridge], tmp_path: Path) -> None:
    """It is in the way; this machine's own is not: that one works."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    elsewhere = ("env", f"XDG_STATE_HOME={folder}", f"NETBRIDGE_RUNTIME_DIR={folder}/run", *NETBRIDGE)
    bridge = start(TARGET, "--ssh", "openssh", prefix=elsewhere).ready()
    fault = the_fault(examined(idle, 1, TARGET))
    assert "is bridged by" in fault["said"]
    assert "--take-over" in fault["todo"]
    assert bridge.program.running
    assert bridge.stop() == 0


def test_a_bridge_of_ones_own(idle: World, start: Callable[..., Bridge]) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    found = examined(idle, 0, TARGET)
    assert "this machine bridges it already" in found["there other bridges"]["said"]
    assert found["bridges"]["details"]["running"] == [TARGET]
    assert idle.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").check().stdout  # it goes on
    assert bridge.stop() == 0


@contextlib.contextmanager
def path_of(machine: Machine, path: str) -> Iterator[None]:
    machine.environment["PATH"] = path
    try:
        yield
    finally:
        del machine.environment["PATH"]


def test_gh(idle: World, tmp_path: Path) -> None:
    """Missing, not logged in, and well: each with the mend, and only a fault where a codespace is wanted."""
    authorized = idle.codespace.folder / "sshd/authorized_keys"
    keys = authorized.read_text()
    folder, without = idle.laptop.folder / f"gh-{tmp_path.name}", idle.laptop.folder / "no-gh"
    without.mkdir()
    for place in USUAL.split(":"):
        for program in Path(place).glob("*"):
            if program.name != "gh" and not (without / program.name).exists():
                (without / program.name).symlink_to(program)
    try:
        with path_of(idle.laptop, str(without)):
            fault = the_fault(examined(idle, 5, NAMES[0]))
            assert fault["said"] == "There is no gh program on this machine."
            assert examined(idle, 0)["gh"]["state"] == "warning"
        gh = StandIn(folder, address=CODESPACE[4], port=SSH_PORT, authorized_keys=str(authorized), logged_in=False)
        with path_of(idle.laptop, f"{folder}:{USUAL}"):
            fault = the_fault(examined(idle, 4, NAMES[0]))
            assert fault["said"] == "gh is not logged in."
            assert "gh auth login -s codespace" in fault["todo"]
            gh.tell(logged_in=True)
            found = examined(idle, 0, NAMES[0])
        assert found["gh"]["said"].startswith("logged in, 3 codespaces (gh version 2.60.1")
        assert "keeps the codespace awake" in found["there keepalive"]["said"]
        assert found["there capture"]["state"] == "ok"
    finally:
        authorized.write_text(keys)
        for key in (idle.laptop.folder / "home").glob(".ssh/codespaces.auto*"):
            key.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(without)


def test_the_sandbox(idle: World) -> None:
    found = examined(idle, 0, "sandbox")
    assert found["sandbox"]["state"] == "ok"
    assert found["there capture"]["details"]["by"] == "tun"


def test_what_is_no_target(idle: World) -> None:
    assert netbridge(idle.laptop, "doctor", "nonsense://x").code == 2


def test_ctrl_c_leaves_nothing(idle: World) -> None:
    """In the middle of reaching a host that is silent, and in the middle of a look at the codespace."""
    here, there = Snapshot.of(idle.laptop), Snapshot.of(idle.codespace)
    for target, machine, before, sign in (
        (f"ssh://root@{BLACK_HOLE[4]}", idle.laptop, here, "ssh -T"), (TARGET, idle.codespace, there, "python3 -I -S"),
    ):  # fmt: skip
        program = idle.laptop.start(*NETBRIDGE, "doctor", target, environment=environment(), log="interrupted.log")

        def begun(machine: Machine = machine, before: Snapshot = before, sign: str = sign) -> bool:
            return any(sign in words for pid, words in machine.processes().items() if pid not in before.pids)

        wait_until(begun, sign)
        program.signal(signal.SIGINT)
        said = (idle.laptop.folder / "interrupted.log").read_text()
        assert program.wait(10) == 128 + signal.SIGINT, said
    assert_restored(there, idle.codespace)
    assert_restored(here, idle.laptop)
