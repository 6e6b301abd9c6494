"""Policy routing of DNS that comes out of container networks (fib rules, ip-rule(8)): what comes in by a bridge
interface and is for port 53 of one of some nameservers is delivered to this host instead of being forwarded.

A rule names the interface, the port and a table of ours; the table holds a `local` route on the TUN for each
nameserver. Nothing of the packet filter is touched, and what this host asks itself goes its usual way. When everything
of ours is killed, the kernel takes the routes away with the TUN: the rules that stay then lead into an empty table and
change nothing, until the next start removes them.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
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
FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_IP_PROTO, FRA_DPORT_RANGE, FR_ACT_TO_TBL = 3, 6, 15, 22, 24, 1
"""<linux/fib_rules.h>"""
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 18, 1
RTN_LOCAL, RT_SCOPE_HOST = 2, 254

NUMBER = 5353
"""Our table and the priority of our rules: after the table `local`, before everything else."""
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
    body = _HEADER.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += _attribute(FRA_IIFNAME, rule.interface.encode() + b"\0") + _attribute(FRA_PRIORITY, _U32.pack(NUMBER))
    body += _attribute(FRA_TABLE, _U32.pack(NUMBER)) + _attribute(FRA_IP_PROTO, bytes([rule.protocol]))
    return body + _attribute(FRA_DPORT_RANGE, _PORTS.pack(53, 53))


def rules(netlink: Netlink) -> List[Rule]:
    """Our rules that are there."""
    found = []
    for body in netlink._dump(RTM_GETRULE, _HEADER.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)):
        values = _attributes(body[_HEADER.size :])
        if values.get(FRA_TABLE) == _U32.pack(NUMBER) and FRA_DPORT_RANGE in values and FRA_IIFNAME in values:
            name = values[FRA_IIFNAME].rstrip(b"\0").decode(errors="replace")
            found.append(Rule(name, values.get(FRA_IP_PROTO, b"\0")[0]))
    return found


def set_rules(netlink: Netlink, interfaces: Iterable[str]) -> None:
    """Have rules for exactly these interfaces, UDP and TCP."""
    wanted = {Rule(name, protocol) for name in interfaces for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP)}
    there = rules(netlink)
    for rule in wanted.difference(there):
        netlink._change(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(rule))
    for rule in there:
        if rule not in wanted:
            with contextlib.suppress(FileNotFoundError):
                netlink._change(RTM_DELRULE, 0, _rule(rule))


def deliver(netlink: Netlink, index: int, nameservers: Sequence[str]) -> None:
    """In our table, deliver what is sent to these addresses to this host, as long as the interface lives."""
    for nameserver in nameservers:
        body = _HEADER.pack(socket.AF_INET, 32, 0, 0, 0, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0)
        body += _attribute(RTA_DST, ipaddress.IPv4Address(nameserver).packed)
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


