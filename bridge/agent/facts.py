"""What the agent tells about the place it runs in, before it changes anything."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import socket
from typing import Any, Dict, List, Optional

from . import PROTOCOL, VERSION, meeting, resolvconf
from .netlink import Netlink, Network


def ssh_peer(connection: str) -> Optional[str]:
    """The client's address in the text of SSH_CONNECTION (ssh(1)); None when there is none."""
    words = connection.split()
    return words[0] if words else None


def user_name() -> str:
    """Who logged in: sudo's caller, else the process's own user."""
    name = os.environ.get("SUDO_USER", "")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return name


def on_link(netlink: Netlink, *, without: int = 0) -> List[Network]:
    """The networks of all interfaces' addresses, without loopback, link-local and the interface `without`."""
    found: List[Network] = []
    for info in netlink.addresses():
        network = info.network
        if info.interface == without or network.is_loopback or network.is_link_local or network in found:
            continue
        found.append(network)
    return found


def gateways(netlink: Netlink) -> List[str]:
    """The gateways of all routes; on some clouds they are outside every on-link network."""
    found: List[str] = []
    for route in netlink.routes():
        if route.gateway is not None and str(route.gateway) not in found:
            found.append(str(route.gateway))
    return found


def has_ipv6() -> bool:
    """Whether interfaces can have IPv6 addresses here."""
    try:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", encoding="ascii") as file:
            return file.read().strip() == "0"
    except OSError:
        return False


def hello(netlink: Netlink, connection: str) -> Dict[str, Any]:
    """The `hello` message."""
    resolver = resolvconf.Resolver([], [], rotate=False)
    with contextlib.suppress(OSError):
        resolver = resolvconf.parse(resolvconf.read())
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "version": VERSION,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "user": user_name(),
        "host": socket.gethostname(),
        "facts": {
            "subnets": [str(network) for network in on_link(netlink)],
            "nameservers": resolver.nameservers,
            "search": resolver.search,
            "ssh_peer": ssh_peer(connection),
            "ipv6": has_ipv6(),
            "musl": resolvconf.is_musl(),
            "bridges": meeting.bridges(),
        },
    }
