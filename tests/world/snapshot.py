"""Everything of a machine that a bridge might change, as text: equal text before and after means nothing was left."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine

PROJECT = Path(__file__).resolve().parent.parent.parent
COMMANDS = (
    "ip -o link",
    "ip -o addr",
    "ip -4 rule",
    "ip -6 rule",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -o neigh show nud permanent",
    "ls -ln /etc/resolv.conf",
    "cat /etc/resolv.conf",
    "cat /etc/hosts",
    "cat /etc/nsswitch.conf",
    "grep -v ^nsfs /proc/mounts",
    "nft list ruleset 2>/dev/null",
    "ss -Hltun | sort",
    "ss -Hlx | awk '{print $5}' | sort",
    "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv6/conf/all/disable_ipv6",
)


@dataclass(frozen=True)
class Snapshot:
    """The state of one machine. `pids` are its processes."""

    text: str
    resolv: bytes
    inode: int
    pids: frozenset[int]

    @classmethod
    def of(cls, machine: Machine) -> Snapshot:
        # What others have in these folders: sudo, running bridges, a clone of the project below /tmp.
        others = " ".join(f"! -path '{path}'" for path in ("/run/sudo*", "/run/netbridge", f"{PROJECT}/*"))
        commands = [*COMMANDS, f"find {' '.join(machine.private)} /dev/net {others} | sort"]
        script = "\n".join(f"echo '$ {command}'; {command}" if "'" not in command else command for command in commands)
        resolv = machine.folder / "resolv.conf"
        return cls(
            _steady(machine.shell(script).stdout),
            resolv.read_bytes(),
            resolv.stat().st_ino,
            frozenset(machine.processes()),
        )

    def difference(self, later: Snapshot, machine: Machine) -> str:
        """What is different now, as a diff; empty when nothing is."""
        lines = list(
            difflib.unified_diff(self.text.splitlines(), later.text.splitlines(), "before", "after", lineterm="", n=0)
        )
        if later.resolv != self.resolv:
            lines.append(f"resolv.conf: {self.resolv!r} became {later.resolv!r}")
        if later.inode != self.inode:
            lines.append("resolv.conf is another file now")
        new = later.pids - self.pids
        lines += [f"process {pid}: {words}" for pid, words in machine.processes().items() if pid in new]
        return "\n".join(lines)


def _steady(text: str) -> str:
    """Leave out what changes by itself: neighbour timers, and times in the listing of resolv.conf."""
    kept = []
    for line in text.splitlines():
        words = line.split()
        if line.endswith(" /etc/resolv.conf") and len(words) == 9:
            line = " ".join(words[:5])  # mode, links, owner, group, size
        kept.append(line)
    return "\n".join(kept)


def differences(before: Snapshot, machine: Machine) -> str:
    """What of `machine` is not as it was."""
    return before.difference(Snapshot.of(machine), machine)
