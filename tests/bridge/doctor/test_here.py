"""The checks of this machine, with facts that are well and ill."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.doctor import machine, names, networks, programs
from netbridge.bridge.doctor.report import FAULT, Check, Report, fault, ok, there, warning
from netbridge.bridge.errors import NotPermittedError, TargetLacksError
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.options import Options
from netbridge.bridge.routes import Interface, Route, Snapshot
from netbridge.bridge.transport.asked import Answer
from netbridge.bridge.transport.container_target import DockerTarget
from netbridge.bridge.transport.target import SshTarget
from netbridge.bridge.user import User, helper_user

EVERYTHING = dict.fromkeys(machine.PACKAGES, "1.0")


def test_python_and_its_packages() -> None:
    assert machine.python((3, 11, 2), EVERYTHING).state == "ok"
    assert machine.python((3, 10, 9), EVERYTHING).exit_code == 1
    lacking = machine.python((3, 12, 0), {**EVERYTHING, "asyncssh": ""})
    assert (lacking.state, "pip install asyncssh" in lacking.todo) == ("fault", True)
    assert machine.python((3, 12, 0), {**EVERYTHING, "uvloop": ""}).state == "ok"
    assert machine.event_loop("0.22", "linux").state == "ok"
    assert machine.event_loop("", "linux").state == "warning"


@pytest.mark.parametrize(("hard", "state"), [(32, "fault"), (100, "warning"), (256, "ok"), (1 << 20, "ok")])
def test_descriptors(hard: int, state: str) -> None:
    assert machine.descriptors(min(hard, 256), hard, Limits().descriptors).state == state


def test_the_folder_of_bridges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remains of the dead are removed by looking; a folder that cannot be used is a fault, as it is for `up`."""
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run/3.lock").write_text("")
    (tmp_path / "run/3.sock").write_text("")
    folder, bridges = machine.bridges()
    assert "remains of dead bridges removed" in folder.said
    assert bridges.said == "none is running"
    assert (tmp_path / "run/3.sock").exists() is False
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "file"))
    (only,) = machine.bridges()
    assert (only.state, only.exit_code) == ("fault", 1)


def test_the_sandbox() -> None:
    assert machine.sandbox(True, "", "no namespaces").state == "ok"
    assert machine.sandbox(False, "", "").state == "ok"
    closed = machine.sandbox(False, "/dev/net/tun may not be opened", "")
    assert (closed.state, "chmod 666" in closed.said) == ("note", True)
    assert machine.sandbox(False, "", "no namespaces").state == "note"
    assert machine.sandbox_fault(closed).exit_code == 5
    assert machine.sandbox_fault(ok("sandbox", "possible")).state == "ok"


def user(**fields: Any) -> User:
    return replace(helper_user({}), **fields)


def test_whose_helpers_these_are() -> None:
    assert programs.sudo(1000, user(differs=False), False).state == "ok"
    assert programs.sudo(0, user(differs=False), False).state == "note"
    assert programs.sudo(0, user(differs=True, name="me"), True).state == "ok"
    lost = programs.sudo(0, user(differs=True, name="me", environment={}), False)
    assert (lost.state, "--preserve-env=SSH_AUTH_SOCK,HTTPS_PROXY" in lost.todo) == ("warning", True)
    kept = {"SSH_AUTH_SOCK": "/x", "HTTPS_PROXY": "http://p"}
    assert programs.sudo(0, user(differs=True, environment=kept), False).state == "ok"


def test_ssh_and_its_agent() -> None:
    assert programs.ssh("", None).state == "warning"
    assert "OpenSSH_9" in programs.ssh("/usr/bin/ssh", Answer(0, b"", "OpenSSH_9.2p1")).said
    assert programs.agent("", None, "").state == "note"
    assert programs.agent("/x", 0, "256 SHA256:a me\n256 SHA256:b me\n").details["keys"] == 2
    assert programs.agent("/x", 1, "The agent has no identities.").state == "note"
    assert programs.agent("/x", 2, "").state == programs.agent("/x", None, "").state == "warning"


def test_a_helper_that_is_wanted() -> None:
    assert programs.wanted("docker", "/usr/bin/docker", DockerTarget("box")).state == "ok"
    assert programs.wanted("docker", "", DockerTarget("box")).exit_code == 5
    error = NotPermittedError("gh is not logged in.", "It knows no account.", "Run `gh auth login`.")
    assert programs.gh_fault(error, wanted=True).exit_code == 4
    assert programs.gh_fault(error, wanted=False).state == "warning"


async def test_only_what_the_target_wants_is_asked(tmp_path: Path) -> None:
    """No gh for an ssh:// target, no ssh for a container; what is missing is told."""
    nowhere = user(environment={"PATH": str(tmp_path)})
    seen = [check async for check in programs.checks(SshTarget("box"), nowhere)]
    assert [check.name for check in seen] == ["user", "ssh", "ssh-agent"]
    seen = [check async for check in programs.checks(DockerTarget("box"), nowhere)]
    assert [(check.name, check.state) for check in seen][1:] == [("docker", "fault")]


def test_nameservers() -> None:
    assert names.nameservers([("10.0.0.2", 0.004)]).said == "10.0.0.2 (4 ms)"
    assert names.nameservers([]).state == "warning"
    half = names.nameservers([("10.0.0.2", None), ("10.0.0.3", 0.1)])
    assert (half.state, half.said, "10.0.0.3" in half.why) == ("warning", "10.0.0.2 does not answer", True)
    assert names.suffixes(["corp.test"]).state == "ok"
    assert names.suffixes([]).state == "note"


def test_a_nameserver_is_timed_and_a_stranger_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "PATIENCE", 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        monkeypatch.setattr(names, "socket_address", lambda text, port: (socket.AF_INET, server.getsockname()))
        wrong = True

        def serve() -> None:
            for _ in range(2):
                data, client = server.recvfrom(512)
                server.sendto((bytes((data[0] ^ 1, data[1])) if wrong else data[:2]) + b"\x80\0" + data[4:], client)

        thread = threading.Thread(target=serve)
        thread.start()
        assert names._timed("x") == ("x", None)
        wrong = False
        server_, seconds = names._timed("x")
        assert server_ == "x"
        assert seconds is not None
        thread.join(5)


LAN = Route(ipaddress.ip_network("192.168.7.0/24"), "eth0")
VPN = Route(ipaddress.ip_network("172.16.0.0/12"), "tun0")
FULL = Route(ipaddress.ip_network("0.0.0.0/0"), "tun0")
INTERFACES = (Interface("eth0"), Interface("tun0", tunnel=True))


def looked(*routes: Route, options: Options | None = None) -> dict[str, Check]:
    found = networks.checks(Snapshot(INTERFACES, routes), "", options or Options())
    return {check.name: check for check in found}


def test_networks() -> None:
    found = looked(LAN, VPN)
    assert found["captured"].state == "ok"
    assert found["overlap"].details["common"] == "172.17.0.0/16"
    assert found["IPv6"].state == "note"
    assert "full tunnel" not in found
    assert looked(FULL)["full tunnel"].details["interface"] == "tun0"
    assert looked()["captured"].state == "warning"
    assert looked(options=Options(route=("10.0.0.0/8",)))["captured"].state == "ok"
    assert looked(options=Options(route=("127.0.0.0/8",)))["routes"].exit_code == 2


def test_networks_that_cannot_be_told() -> None:
    found = list(networks.checks(None, "routes cannot be read", Options()))
    assert [(check.name, check.state) for check in found] == [("routes", "warning"), ("captured", "warning")]


def test_a_report_ends_as_up_does() -> None:
    report = Report("t", [ok("a", "b"), warning("c", "d")])
    assert report.exit_code == 0
    report.checks += [there(fault("e", NotPermittedError("f"))), fault("g", TargetLacksError("h"))]
    assert report.exit_code == 4  # the first
    assert report.count(FAULT) == 2
    assert report.as_json()["works"] is False
    assert report.as_json()["checks"][2]["place"] == "there"


def test_all_of_it_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    before = len(os.listdir("/proc/self/fd"))
    found = list(machine.checks(Limits()))
    assert len(os.listdir("/proc/self/fd")) == before
    assert {"python", "uvloop", "descriptors", "runtime folder", "bridges", "sandbox"} <= {it.name for it in found}
