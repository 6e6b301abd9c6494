"""The local machine's network on macOS, as `netstat -rn` and `ifconfig` print it.

macOS has one routing table. What a socket that is bound to nothing never meets is left out: routes scoped to one
interface (flag I: each interface that is not the first has a default route of its own so), neighbours (L, W), and what
leads nowhere (R, B) or to many (m, b). A VPN's interface is a utun, and like all point-to-point interfaces says so.

Destinations are abbreviated as netstat(1) of the BSDs does it: zero bytes at the end are left out, and so is the prefix
length where it is the one of the address's old class (10 is 10.0.0.0/8, 192.168 is 192.168.0.0/24).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Iterator, Sequence

from .local import Address, Interface, LocalNetworks, LocalNetworksError, Network, Route, Snapshot

NETSTAT, IFCONFIG = "/usr/sbin/netstat", "/sbin/ifconfig"
PATIENCE = 5.0
"""Seconds for each command; they take milliseconds."""
_LEFT_OUT = frozenset("ILWRBmb")
_TUNNEL_NAMES = ("utun", "ppp", "ipsec", "tun", "tap")
_HEAD = re.compile(r"^(\S+): flags=[0-9a-f]+<([A-Z0-9_,]*)>")


class MacNetworks(LocalNetworks):
    """What the system's own programs print."""

    def __init__(self, netstat: str = NETSTAT, ifconfig: str = IFCONFIG) -> None:
        self._netstat = netstat
        self._ifconfig = ifconfig

    async def snapshot(self) -> Snapshot:
        four = await _output(self._netstat, "-rn", "-f", "inet")
        six = await _output(self._netstat, "-rnl", "-f", "inet6")
        interfaces = await _output(self._ifconfig, "-a")
        return Snapshot(tuple(parse_interfaces(interfaces)), (*parse_routes(four, 4), *parse_routes(six, 6)))


async def _output(*command: str) -> str:
    """What a program prints. Raises LocalNetworksError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        )
    except OSError as error:
        raise LocalNetworksError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise LocalNetworksError(f"{command[0]} said nothing for {PATIENCE:.0f} s") from None
    if process.returncode:
        raise LocalNetworksError(f"{command[0]} failed: {err.decode(errors='replace').strip()[:200]}")
    return out.decode(errors="replace")


def parse_interfaces(text: str) -> Iterator[Interface]:
    """The interfaces in the output of `ifconfig -a`."""
    name = ""
    flags: Sequence[str] = ()
    addresses: list[Address] = []
    for line in (*text.splitlines(), "end: flags=0<>"):
        if head := _HEAD.match(line):
            if name:
                yield Interface(
                    name, kind=name.rstrip("0123456789"), up="UP" in flags, loopback="LOOPBACK" in flags,
                    tunnel="POINTOPOINT" in flags or name.startswith(_TUNNEL_NAMES), addresses=tuple(addresses),
                )
            name, flags, addresses = head[1], head[2].split(","), []
            continue
        words = line.split()
        if len(words) > 1 and words[0] in ("inet", "inet6"):
            try:
                addresses.append(ipaddress.ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue


def parse_routes(text: str, version: int) -> Iterator[Route]:
    """The routes that ordinary traffic meets, in the output of `netstat -rn -f inet` (4) or `inet6` (6)."""
    columns: list[int] = []
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["Destination", "Gateway"]:
            columns = [words.index(name) for name in ("Flags", "Netif") if name in words]
        elif len(columns) == 2 and len(words) > max(columns):
            flags, interface = (words[column] for column in columns)
            if "U" not in flags or _LEFT_OUT & set(flags):
                continue
            network = _destination(words[0], version, host="H" in flags)
            if network is not None:
                yield Route(network, interface, _gateway(words[1]) if "G" in flags else None)


def _destination(text: str, version: int, *, host: bool) -> Network | None:
    """A destination as netstat abbreviates it; None for what cannot be read."""
    if text == "default":
        return ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
    address, slash, length = text.partition("/")
    if "%" in address:  # fe80::%en0/64
        address = address.partition("%")[0]
    try:
        if version == 4:
            octets = address.split(".")
            address = ".".join([*octets, *["0"] * (4 - len(octets))])
            if not slash:
                length = "32" if host else str(_class_length(int(octets[0])))
        elif not slash:
            length = "128"
        found = ipaddress.ip_network(f"{address}/{length}", strict=False)
        return found if found.version == version else None
    except ValueError:
        return None


def _class_length(first: int) -> int:
    """The prefix length of an address's class (RFC 791 section 3.2)."""
    return 8 if first < 128 else 16 if first < 192 else 24


def _gateway(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:  # link#6
        return None
