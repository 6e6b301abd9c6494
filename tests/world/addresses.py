"""Who has which address in the world; README of the picture in the package's docstring."""

from __future__ import annotations

CODESPACE = {4: "172.30.7.2", 6: "fd30:7::2"}
LAPTOP = {4: "172.30.7.1", 6: "fd30:7::1"}
LAPTOP_IN_CORP = {4: "10.99.0.1", 6: "fd99::1"}
CORP = {4: "10.99.0.2", 6: "fd99::2"}
CORP_NETWORKS = ("10.99.0.0/24", "fd99::/64")
CORP_TO_BRANCH = {4: "10.97.0.1", 6: "fd97::1"}
"""Corp's end of the line to the branch office."""
BRANCH = {4: "10.97.0.2", 6: "fd97::2"}
"""Two router hops from the codespace's bridge: corp forwards to it."""
BRANCH_NETWORKS = ("10.97.0.0/24", "fd97::/64")
NARROW = 1300
"""Bytes: the MTU of the line between corp and the branch office."""

SILENT = {4: "10.99.0.77", 6: "fd99::77"}
"""On corp's network, but no such computer: address resolution fails after three seconds."""
UNREACHABLE = {4: "10.98.0.1", 6: "fd98::1"}
"""The laptop's routing table says host unreachable."""
PROHIBITED = {4: "10.98.0.2", 6: "fd98::2"}
"""The laptop's routing table says administratively prohibited."""
BLACK_HOLE = {4: "10.98.0.3", 6: "fd98::3"}
"""Corp drops whatever is sent there: connects run into their timeout."""
BEYOND_NETWORKS = ("10.98.0.0/24", "fd98::/64")

SSH_PORT = 2222
HTTP_PORT = 80
POSTGRES_PORT = 5432
REDIS_PORT = 6379
IPERF_PORT = 5201
ECHO_PORT = 7
CLOSED_PORT = 81

CODESPACE_RESOLVER = "127.0.0.53"


def url(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
