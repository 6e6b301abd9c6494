"""Services under a real systemd: started, watched, killed, started again, stopped; with real bridges."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.cli.service_job import service_name
from netbridge.cli.systemd import command_line

from .program import Machine, wait_until
from .systemd_user import SystemdUser, missing, settings

pytestmark = [pytest.mark.net, pytest.mark.skipif(bool(missing()), reason=missing() or "systemd is here")]
NETBRIDGE = (sys.executable, "-m", "netbridge")


@pytest.fixture(name="systemd")
def user_manager(tmp_path: Path) -> Iterator[SystemdUser]:
    with Machine(tmp_path) as machine, SystemdUser(machine) as systemd:
        yield systemd


@pytest.fixture(name="place")
def exec_target(tmp_path: Path) -> str:
    """A target: a shell in namespaces of its own, with a resolv.conf of its own."""
    script = tmp_path / "place.sh"
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    script.write_text(f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec sh\n")
    return f"exec:unshare --net --mount --propagation private sh {script}"


def resolver(systemd: SystemdUser) -> str:
    return (systemd.machine.folder / "resolv.conf").read_text()


@pytest.mark.slow
def test_a_bridge_lives_and_dies_as_a_service(systemd: SystemdUser, place: str) -> None:
    unit = f"{service_name(place)}.service"
    # The file's own values are looked at below; these make the test short.
    said_by_it = systemd.machine.folder / "stderr"
    with settings(systemd, unit, RestartSec="1s", WatchdogSec="2", StandardError=f"append:{said_by_it}"):
        said = systemd.run(*NETBRIDGE, "service", "install", place, "--now").stderr
        assert f"Running systemctl --user enable --now {unit}" in said
        first = systemd.show(unit)
        assert (first["ActiveState"], first["StatusText"], first["UnitFileState"]) == ("active", "ready", "enabled")
        (bridge,) = json.loads(systemd.run(*NETBRIDGE, "status", "--json").stdout)["bridges"]
        assert (bridge["state"], bridge["target"]) == ("running", place)
        assert "127." in resolver(systemd)

        # Installed again, nothing happens to it.
        systemd.run(*NETBRIDGE, "service", "install", place, "--now")
        assert systemd.show(unit)["MainPID"] == first["MainPID"]

        systemd.signal(unit, signal.SIGKILL)
        second = started_again(systemd, unit, 1, first)
        shown = json.loads(systemd.run(*NETBRIDGE, "service", "status", "--json").stdout)["services"]
        assert shown == [{
            "name": service_name(place), "target": place, "file": shown[0]["file"], "state": "active (running)",
            "enabled": True, "pid": int(second["MainPID"]), "restarts": 1, "result": "success", "status": "ready",
        }]

        # It beats, for longer than the watchdog's patience.
        enough = int(second["WatchdogTimestampMonotonic"]) + 2_500_000
        wait_until(lambda: int(systemd.show(unit)["WatchdogTimestampMonotonic"]) > enough, "beats")
        assert systemd.show(unit)["MainPID"] == second["MainPID"]
        systemd.signal(unit, signal.SIGSTOP)
        wait_until(lambda: systemd.show(unit)["Result"] == "watchdog", "the watchdog", 20)
        assert "Fatal Python error: Aborted" in said_by_it.read_text(), "and where it hung"
        third = started_again(systemd, unit, 2, second)

        # Changed, it is restarted with its new options.
        systemd.run(*NETBRIDGE, "service", "install", place, "--now", "--mtu", "1400")
        fourth = systemd.show(unit)
        assert fourth["MainPID"] != third["MainPID"]
        words = systemd.run("cat", f"/proc/{fourth['MainPID']}/cmdline").stdout.split("\0")
        assert words[words.index("up"):] == ["up", place, "--gui=false", "--mtu=1400", ""]

        systemd.systemctl("stop", unit)
        stopped = systemd.show(unit)
        assert (stopped["ActiveState"], stopped["Result"], stopped["ExecMainStatus"]) == ("inactive", "success", "0")
        assert "stopped after" in stopped["StatusText"]
        wait_until(lambda: resolver(systemd) == "nameserver 192.0.2.53\n", "the resolver as it was")

        # Whoever says `down` does not want it back.
        systemd.systemctl("start", unit)
        systemd.run(*NETBRIDGE, "down", place)
        wait_until(lambda: systemd.show(unit)["ActiveState"] == "inactive", "the service is over")
        assert systemd.show(unit)["Result"] == "success"

        systemd.systemctl("start", unit)
        systemd.run(*NETBRIDGE, "service", "uninstall", place)
        assert systemd.show(unit)["ActiveState"] == "inactive"
        assert resolver(systemd) == "nameserver 192.0.2.53\n"
        assert json.loads(systemd.run(*NETBRIDGE, "status", "--json").stdout)["bridges"] == []
        left = [path.name for path in (systemd.home / ".config").rglob("*") if not path.is_dir()]
        assert left == ["test.conf"]
    systemd.systemctl("daemon-reload")
    assert systemd.show(unit)["LoadState"] == "not-found"


def started_again(systemd: SystemdUser, unit: str, times: int, before: dict[str, Any]) -> dict[str, str]:
    """Wait for the restart number `times`."""
    def again() -> bool:
        now = systemd.show(unit)
        return (now["NRestarts"], now["ActiveState"], now["StatusText"]) == (str(times), "active", "ready")

    wait_until(again, f"restart {times}", 20)
    now = systemd.show(unit)
    assert now["MainPID"] != before["MainPID"]
    return now


def test_what_a_person_has_to_mend_is_not_tried_again(systemd: SystemdUser) -> None:
    target = "exec:no-such-program"
    unit = f"{service_name(target)}.service"
    done = systemd.run(*NETBRIDGE, "service", "install", target, "--now", check=False)
    assert done.returncode == 1
    assert f"`systemctl --user enable --now {unit}` failed." in done.stderr
    state = systemd.show(unit)
    assert (state["ActiveState"], state["ExecMainStatus"], state["NRestarts"]) == ("failed", "5", "0")
    assert "no-such-program" in state["StatusText"]
    shown = systemd.run(*NETBRIDGE, "service", "status").stderr
    assert "failed (failed), at each login, exit-code: " in shown


def test_what_may_come_back_is_tried_again(systemd: SystemdUser) -> None:
    target = "exec:false"
    unit = f"{service_name(target)}.service"
    with settings(systemd, unit, RestartSec="100ms"):
        assert systemd.run(*NETBRIDGE, "service", "install", target, "--now", check=False).returncode == 1
        wait_until(lambda: int(systemd.show(unit)["NRestarts"]) >= 2, "two restarts", 20)
        systemd.systemctl("stop", unit)


def test_the_units_values(systemd: SystemdUser, place: str) -> None:
    """As systemd understood them."""
    systemd.run(*NETBRIDGE, "service", "install", place, "--now")
    state = systemd.show(f"{service_name(place)}.service")
    for name, value in {
        "Type": "notify", "NotifyAccess": "main", "Restart": "on-failure", "RestartUSec": "10s",
        "TimeoutStartUSec": "15min", "TimeoutStopUSec": "10s", "WatchdogUSec": "30s", "StartLimitIntervalUSec": "6h",
        "StartLimitBurst": "1000", "RestartPreventExitStatus": "2 4 5", "KillMode": "mixed", "UMask": "0077",
        "LimitCORE": "0", "NoNewPrivileges": "no", "Description": f"netbridge, {service_name(place)}",
    }.items():
        assert (name, state[name]) == (name, value)


def test_words_are_run_as_they_are(systemd: SystemdUser) -> None:
    """Quotes, specifiers, variables, escapes: in the program's path, its argv[0] and its arguments."""
    nasty = [
        "%h", "$HOME", "${HOME}", "$$", "a b", 'say "no"', "it's", "back\\slash\\", ";", "", "#", "ä\u200b", "\t", "\n",
        "@x", "-x", "\\x41", "%%", "'", "{a,b}", "*", "~",
    ]
    folder = systemd.machine.folder / "a $HOME %h ;"
    folder.mkdir()
    shell = folder / "sh"
    shutil.copy("/bin/sh", shell)
    out = folder / "out"
    words = (str(shell), "-c", 'cat /proc/$$/cmdline >"$1"', "x", str(out), *nasty)
    unit = systemd.home / ".config/systemd/user/words.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nType=oneshot\nExecStart={command_line(words)}\n")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("start", "words.service")
    assert tuple(out.read_bytes().decode().split("\0")[:-1]) == words
