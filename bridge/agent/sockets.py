"""The sockets of this network namespace, as proc(5) lists them in /proc/net/tcp and its like."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Container, Dict, Iterator, List, NamedTuple, Optional, Set

from .netlink import Address

TABLES = "/proc/net/"
"""The process's, which is its first thread's."""
ESTABLISHED, SYN_SENT, SYN_RECV = 1, 2, 3
"""States (include/net/tcp_states.h); a connected UDP socket is ESTABLISHED."""


class Socket(NamedTuple):
    """One socket with a peer."""

    local: Address
    local_port: int
    remote: Address
    remote_port: int
    state: int
    inode: int
    """0: it is nobody's yet, as a connection that was not accepted."""


def sockets(*names: str) -> Iterator[Socket]:
    """The TCP (and, without `names`, the UDP) sockets that have a peer."""
    for name in names or ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(TABLES + name, encoding="ascii") as table:
                lines = table.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            found = _socket(line.split())
            if found is not None:
                yield found


def _socket(fields: List[str]) -> Optional[Socket]:
    try:
        local, local_port = _endpoint(fields[1])
        remote, remote_port = _endpoint(fields[2])
        return Socket(local, local_port, remote, remote_port, int(fields[3], 16), int(fields[9]))
    except (IndexError, ValueError, OverflowError):
        return None


def _endpoint(text: str) -> "tuple[Address, int]":
    """Each word of the address is in host order."""
    words, port = text.split(":")
    packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address, int(port, 16)


def open_connections(without: Container[Address] = (), limit: int = 256) -> List[str]:
    """Remote addresses of what is connected, but for sockets whose own address is in `without`.

    What carries the tunnel may be among them without being the SSH peer, when a relay in the same namespace hands the
    connection in over loopback, as in a codespace. A captured route would break those connections in any case: their
    source address is not the TUN's.
    """
    found: Dict[str, None] = {}
    for each in sockets():
        if each.state != ESTABLISHED or each.remote.is_loopback or each.local in without:
            continue
        if len(found) < limit:
            found[str(each.remote)] = None
    return list(found)


def owned(process: int) -> Set[int]:
    """The inodes of the sockets that a process has open; none where that may not be known."""
    found: Set[int] = set()
    folder = "/proc/%d/fd" % process
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError, ValueError):
                target = os.readlink("%s/%s" % (folder, name))
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def processes() -> List[int]:
    """The processes that can be seen from here."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
