"""Policy routing of DNS that others are asked (fib rules, ip-rule(8)): what comes in by a bridge interface, or is sent
by this host itself, for port 53 of one of some nameservers, is delivered to this host instead of being sent there.

A rule names the interface, the port and a table of ours; the table holds a `local` route on the TUN for each
nameserver. Nothing of the packet filter is touched. When everything of ours is killed, the kernel takes the routes away
with the TUN: the rules that stay then lead into an empty table and change nothing, until the next start removes them.

What this host sends is looked up twice: without a source, and with the one that our route gave it, the TUN's. Rules for
it name these two sources and no other, because the kernel turns a reply round to see whether its source is sound, and
the real nameserver's would lead it to us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Dict, Iterable, List, NamedTuple, Sequence

from .netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_TABLE,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTPROT_STATIC,
    Netlink,
    _attribute,
    _attributes,
)

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
"""<linux/rtnetlink.h>"""
FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK = 2, 3, 6, 10, 15, 16
FRA_IP_PROTO, FRA_DPORT_RANGE, FR_ACT_TO_TBL = 22, 24, 1
"""<linux/fib_rules.h>"""
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 18, 1
RTN_LOCAL, RT_SCOPE_HOST = 2, 254

NUMBER = 5353
"""Our table and the priority of our rules: after the table `local`, before everything else."""
OWN = "lo"
"""The interface by which, for rules, comes in what this host itself sends (ip-rule(8))."""
MARK = 1 << 25
"""The bit of SO_MARK that says: not this. Not among those that Docker, Kubernetes, Cilium and Tailscale use."""
SINCE = (4, 17)
"""The kernel that knows rules for ports; an older one takes the rule and leaves the port out."""

_HEADER = struct.Struct("=BBBBBBBBI")
_LINK = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")
_PORTS = struct.Struct("=HH")


class Rule(NamedTuple):
    """One of our rules."""

    interface: str
    protocol: int
    source: str
    """Of this address only; empty: of any."""


def supported(release: str = "") -> bool:
    """Whether this kernel has rules for ports."""
    words = (release or os.uname().release).split("-")[0].split(".")
    with contextlib.suppress(ValueError):
        return (int(words[0]), int(words[1]) if len(words) > 1 else 0) >= SINCE
    return False


def bridges(netlink: Netlink) -> Dict[int, str]:
    """The names of all bridge interfaces that are up, by number: the networks of Docker, Podman, virtual machines."""
    found = {}
    for body in netlink._dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        values = _attributes(body[_LINK.size :])
        kind = _attributes(values.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")
        if flags & 1 and kind.rstrip(b"\0") == b"bridge":
            found[index] = values[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    return found


def _rule(rule: Rule) -> bytes:
    body = _HEADER.pack(socket.AF_INET, 0, 32 if rule.source else 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += _attribute(FRA_IIFNAME, rule.interface.encode() + b"\0") + _attribute(FRA_PRIORITY, _U32.pack(NUMBER))
    body += _attribute(FRA_TABLE, _U32.pack(NUMBER)) + _attribute(FRA_IP_PROTO, bytes([rule.protocol]))
    if rule.source:
        body += _attribute(FRA_SRC, socket.inet_aton(rule.source))
        body += _attribute(FRA_FWMARK, _U32.pack(0)) + _attribute(FRA_FWMASK, _U32.pack(MARK))
    return body + _attribute(FRA_DPORT_RANGE, _PORTS.pack(53, 53))


def rules(netlink: Netlink) -> List[Rule]:
    """Our rules that are there."""
    found = []
    for body in netlink._dump(RTM_GETRULE, _HEADER.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = _attributes(body[_HEADER.size :])
        if values.get(FRA_TABLE) == _U32.pack(NUMBER) and FRA_DPORT_RANGE in values and FRA_IIFNAME in values:
            name = values[FRA_IIFNAME].rstrip(b"\0").decode(errors="replace")
            source = socket.inet_ntoa(values.get(FRA_SRC, bytes(4))) if _HEADER.unpack_from(body)[2] else ""
            found.append(Rule(name, values.get(FRA_IP_PROTO, b"\0")[0], source))
    return found


def source_of(netlink: Netlink, index: int) -> str:
    """The IPv4 address of the interface. OSError when somebody took it away."""
    for it in netlink.addresses():
        if it.interface == index and it.address.version == 4:
            return str(it.address)
    raise OSError(errno.EADDRNOTAVAIL, "the bridge's interface has lost its IPv4 address")


def set_rules(netlink: Netlink, interfaces: Iterable[str], source: str = "") -> None:
    """Have rules for exactly these interfaces, UDP and TCP. `source`: the TUN's address, where OWN is among them."""
    wanted = set()
    for name in interfaces:
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
            for given in ("0.0.0.0", source) if name == OWN else ("",):  # noqa: S104  (a source, nothing is bound)
                wanted.add(Rule(name, protocol, given))
    there = rules(netlink)
    for rule in wanted.difference(there):
        netlink._change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(rule))
    for rule in there:
        if rule not in wanted:
            with contextlib.suppress(FileNotFoundError):
                netlink._change(RTM_DELRULE, 0, _rule(rule))


def deliver(netlink: Netlink, index: int, nameservers: Sequence[str], source: str) -> None:
    """In our table, deliver what is sent to these addresses to this host, as long as the interface lives.

    What this host sends gets `source`, an address of its own: an answer to any other would not stay here.
    """
    for nameserver in nameservers:
        body = _HEADER.pack(socket.AF_INET, 32, 0, 0, 0, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0)
        body += _attribute(RTA_DST, socket.inet_aton(nameserver)) + _attribute(RTA_PREFSRC, socket.inet_aton(source))
        body += _attribute(RTA_OIF, _U32.pack(index)) + _attribute(RTA_TABLE, _U32.pack(NUMBER))
        try:
            netlink._change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise


def table_is_empty(netlink: Netlink) -> bool:
    """Whether no bridge's routes are in our table."""
    for body in netlink._dump(RTM_GETROUTE, _HEADER.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        table = _HEADER.unpack_from(body)[4]
        values = _attributes(body[_HEADER.size :])
        if (_U32.unpack(values[RTA_TABLE])[0] if RTA_TABLE in values else table or RT_TABLE_MAIN) == NUMBER:
            return False
    return True


def heal(netlink: Netlink) -> bool:
    """Remove our rules if no bridge uses them; whether there were any."""
    if not rules(netlink) or not table_is_empty(netlink):
        return False
    set_rules(netlink, ())
    return True


