"""This machine's resolver: whom it asks, whether they answer and how fast, and which suffixes are private."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence

from ..dns import Upstream
from ..dns.message import HEADER, RD
from ..dns.resolvconf import socket_address
from ..naming import Naming
from .report import Check, note, ok, warning

PATIENCE = 2.0
RESOLVED = "/run/systemd/resolve/io.systemd.Resolve"
ROOT_NS = b"\0\0\2\0\1"
"""The question for the root's nameservers: every resolver answers it somehow, and mostly from its cache."""

Asked = tuple[str, float | None]
"""A nameserver, and the seconds that its answer took; None: it gave none."""


async def checks(domains: Sequence[str]) -> AsyncIterator[Check]:
    """`domains`: those of --dns-domain."""
    upstream = Upstream(domains=domains)
    names = await Naming(upstream, list).look()
    asked = await asyncio.gather(*(asyncio.to_thread(_timed, server) for server in upstream.config.nameservers))
    yield nameservers(asked)
    yield suffixes(names.suffixes)
    if os.path.exists(RESOLVED):
        yield ok("systemd-resolved", "runs here; it is asked by its stub and by getaddrinfo")


def nameservers(asked: Sequence[Asked]) -> Check:
    """Those of resolv.conf."""
    told = [{"server": server, "seconds": seconds} for server, seconds in asked]
    if not asked:
        return warning(
            "nameservers", "resolv.conf names none", "Only the hosts file and getaddrinfo are asked.",
            "Connect to the network or the VPN that brings one.", nameservers=told,
        )
    alive = [f"{server} ({seconds * 1000:.0f} ms)" for server, seconds in asked if seconds is not None]
    dead = [server for server, seconds in asked if seconds is None]
    if not dead:
        return ok("nameservers", ", ".join(alive), nameservers=told)
    said = f"{', '.join(dead)} do{'es' if len(dead) == 1 else ''} not answer"
    rest = f"These do: {', '.join(alive)}." if alive else "None is left, so names are asked of getaddrinfo alone."
    return warning("nameservers", said, rest, "See resolv.conf, and whether the VPN they belong to is up.",
                   nameservers=told)  # fmt: skip


def suffixes(search: Sequence[str]) -> Check:
    """The private suffixes, which are asked here first."""
    if search:
        return ok("private names", f"below {', '.join(search)}", suffixes=list(search))
    return note("private names", "no search domain is set; names below --dns-domain are asked here first", suffixes=[])


def _timed(server: str) -> Asked:
    number = secrets.randbits(16)
    begun = time.monotonic()
    try:
        family, address = socket_address(server, 53)
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(address)
            asking.send(HEADER.pack(number, RD, 1, 0, 0, 0) + ROOT_NS)
            while time.monotonic() - begun < PATIENCE:
                if asking.recv(4096)[:2] == number.to_bytes(2, "big"):
                    return server, time.monotonic() - begun
    except OSError:
        pass
    return server, None
