"""A real `systemd --user` in namespaces of its own: its own processes, mounts, /run and cgroup tree.

It runs beside the machine's own init, whatever that is, and all of it ends with one process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .program import Machine, wait_until

SYSTEMD = "/lib/systemd/systemd"
RUNTIME = "/run/user/0"
_INSIDE = f"""
set -e
mount --make-rprivate /
mount -t proc none /proc
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p -m 700 {RUNTIME}
mkdir -p /run/systemd/system  # it wants to see that its like is PID 1 (sd_booted(3)), which is an ordinary shell here
env -i HOME="$1" PATH="$2" LANG=C XDG_RUNTIME_DIR={RUNTIME} {SYSTEMD} --user &
wait
"""


def cgroup() -> Path | None:
    """Our own place in the tree of control groups, version 2; None without one that can be written."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            groups = Path("/proc/self/cgroup").read_text().splitlines()
            own = next((group.removeprefix("0::/") for group in groups if group.startswith("0::/")), "")
            path = Path(place, own)
            return path if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY else None
    return None


def missing() -> str:
    """Why it cannot run here; empty when it can."""
    if not os.access(SYSTEMD, os.X_OK):
        return "systemd is not installed: scripts/system-packages test"
    if cgroup() is None:
        return "there is no writable tree of control groups, version 2"
    return ""


class SystemdUser:
    """The user manager of `machine`, in its network."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.home = machine.folder / "home"
        self.home.mkdir()
        own = cgroup()
        assert own is not None
        self._group = own / f"netbridge-test-{os.getpid()}"
        self._init = 0
        environment = {name: value for name, value in machine.environment.items() if not name.startswith("XDG_")}
        self.environment = {**environment, "HOME": str(self.home), "XDG_RUNTIME_DIR": RUNTIME}

    def __enter__(self) -> SystemdUser:
        self._group.mkdir()
        self._process = subprocess.Popen(
            ["sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "sh", self._group,
             "ip", "netns", "exec", self.machine.name, "unshare", "--pid", "--mount", "--ipc", "--cgroup", "--fork",
             "--kill-child", "sh", "-c", _INSIDE, "sh", self.home, os.environ["PATH"]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            wait_until(lambda: children.read_text(), "the first process")
            self._init = int(children.read_text().split()[0])
            there = {"running", "degraded", "starting"}
            wait_until(lambda: self.systemctl("is-system-running", check=False) in there, "systemd", 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)  # and the kernel ends what is in its namespace
        self._process.kill()
        self._process.wait()
        wait_until(self._removed, "the control groups are empty")

    def _removed(self) -> bool:
        for folder, _, _ in os.walk(self._group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not self._group.exists()

    # --- asked --------------------------------------------------------------------------------------------------------

    def run(self, *words: str, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a program beside it."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--mount", "--pid", "--net", "--ipc", "--cgroup", *words],
            env=self.environment, cwd=self.machine.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stderr}"
        return done

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--user", *words, check=check).stdout.strip()

    def show(self, unit: str) -> dict[str, str]:
        """Every property of a unit."""
        return dict(line.partition("=")[::2] for line in self.systemctl("show", "--all", unit).splitlines())

    def signal(self, unit: str, number: int) -> None:
        """Send a signal to a unit's main process, past the manager."""
        self.run("kill", f"-{number}", self.show(unit)["MainPID"])


@contextlib.contextmanager
def settings(systemd: SystemdUser, unit: str, **values: str) -> Iterator[Any]:
    """Other values for a unit's [Service] settings, as a person would give them (a drop-in)."""
    file = systemd.home / ".config/systemd/user" / f"{unit}.d" / "test.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\n" + "".join(f"{name}={value}\n" for name, value in values.items()))
    try:
        yield file
    finally:
        file.unlink()
        file.parent.rmdir()
