"""What a running bridge costs, seen from outside and in its own words."""

from __future__ import annotations

import os
import socket
import struct

from tests.world import Bridge

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""


def descriptors(bridge: Bridge) -> int:
    """Open descriptors of the bridge's process."""
    return len(os.listdir(f"/proc/{bridge.pid}/fd"))


def resident(bridge: Bridge) -> float:
    """Megabytes."""
    with open(f"/proc/{bridge.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmRSS:"))


def processor(pid: int) -> float:
    """Seconds of processor time a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def counter(bridge: Bridge, name: str) -> int:
    """One counter of `netbridge status --json`: "ip.malformed"."""
    room, _, which = name.partition(".")
    return int(bridge.status()["counters"][room][which])


def drain(connection: socket.socket) -> bytes:
    """Everything until the end."""
    chunks = []
    while data := connection.recv(1 << 18):
        chunks.append(data)
    return b"".join(chunks)
