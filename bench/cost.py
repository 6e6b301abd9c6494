"""What a measurement costs: processor time by a cgroup of our own, memory by /proc.

The runner and with it everything it starts live in one cgroup of the cpuacct controller (or of cgroup 2), so that the
measuring tools, servers and short-lived helpers count too: all that a gigabyte costs. Kernel threads do not: what a
veth does in softirq is charged to whoever was running.
"""

from __future__ import annotations

import os
from pathlib import Path

CONTROLLERS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup"))


class CpuMeter:
    """Seconds of processor time used by this process and everything it ever started."""

    def __init__(self) -> None:
        self._group: Path | None = None
        for controller in CONTROLLERS:
            group = controller / f"netbridge-bench-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                self._group, self._parent = group, controller
                self.seconds()
            except OSError:
                self._group = None
                self._leave(controller, group)
                continue
            return

    @property
    def works(self) -> bool:
        return self._group is not None

    def seconds(self) -> float:
        assert self._group is not None
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        for line in (self._group / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise OSError("no usage in cpu.stat")

    def close(self) -> None:
        """Move back and remove the group, once everything else in it ended."""
        if self._group is not None:
            self._leave(self._parent, self._group)
            self._group = None

    @staticmethod
    def _leave(parent: Path, group: Path) -> None:
        try:
            (parent / "cgroup.procs").write_text(str(os.getpid()))
            group.rmdir()
        except OSError as error:
            print(f"cannot remove {group}: {error}")


def peak_megabytes(pid: int) -> float:
    """The most resident memory the process ever had; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it."""
    found, index = [pid], 0
    while index < len(found):
        try:
            found += [
                int(word) for word in Path(f"/proc/{found[index]}/task/{found[index]}/children").read_text().split()
            ]
        except OSError:
            pass
        index += 1
    return found
