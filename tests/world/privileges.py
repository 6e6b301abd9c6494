"""What a process may do, as the kernel tells it in /proc/PID/status."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netbridge.bridge.agent.privileges import NAMES


@dataclass(frozen=True)
class Privileges:
    """One process's. Capabilities by name."""

    name: str
    users: tuple[int, ...]
    """Real, effective, saved, file system's."""
    groups: tuple[int, ...]
    """The same of its group."""
    others: frozenset[int]
    """Supplementary groups."""
    effective: frozenset[str]
    permitted: frozenset[str]
    bounding: frozenset[str]
    no_new_privs: bool

    @classmethod
    def of(cls, pid: int) -> Privileges:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        values = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

        def numbers(name: str) -> tuple[int, ...]:
            return tuple(int(word) for word in values[name].split())

        def capabilities(name: str) -> frozenset[str]:
            bits = int(values[name], 16)
            return frozenset(word for number, word in enumerate(NAMES) if bits >> number & 1)

        return cls(
            values["Name"], numbers("Uid"), numbers("Gid"), frozenset(numbers("Groups")), capabilities("CapEff"),
            capabilities("CapPrm"), capabilities("CapBnd"), values["NoNewPrivs"] == "1",
        )
