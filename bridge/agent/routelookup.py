"""Which route the kernel takes to one address, as `ip route get` tells it: nothing is sent, and no right is needed.

Asked twice, since one answer has the source address and the other the route's own prefix (RTM_F_FIB_MATCH, Linux 4.13;
older kernels ignore the flag and name the address itself). A route that leads nowhere is an errno and not a route.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Dict

from .netlink import (
    _ROUTE,
    _U32,
    NLM_F_ACK,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTM_GETROUTE,
    Address,
    Netlink,
    _attribute,
    _attributes,
    understood,
)

RTM_F_FIB_MATCH = 0x2000
KINDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
         8: "prohibit", 9: "throw"}  # fmt: skip
"""RTN_*, linux/rtnetlink.h."""


def lookup(netlink: Netlink, address: Address) -> Dict[str, Any]:
    """The route to `address`: interface, kind, route (its prefix), gateway, source, and error where there is none."""
    found: Dict[str, Any] = {"interface": "", "kind": "", "route": "", "gateway": "", "source": "", "error": ""}
    try:
        _fill(netlink, address, found)
    except OSError as error:
        if not found["interface"]:
            found["error"] = error.strerror or str(error)
    return found


@understood
def _fill(netlink: Netlink, address: Address, found: Dict[str, Any]) -> None:
    names = {link.interface: link.name for link in netlink.links()}
    for flags in (0, RTM_F_FIB_MATCH):
        prefix, kind, values = _ask(netlink, address, flags)
        if flags:
            network = ipaddress.ip_network((values.get(RTA_DST, bytes(len(address.packed))), prefix), strict=False)
            found["route"] = str(network)
        else:
            found["kind"] = KINDS.get(kind, str(kind))
            found["source"] = _text(values.get(RTA_PREFSRC))
        index = _U32.unpack(values[RTA_OIF])[0] if RTA_OIF in values else 0
        # The first answer is where packets go: to an address of this host over lo, wherever the address stands.
        found["interface"] = found["interface"] or names.get(index, "")
        found["gateway"] = found["gateway"] or _text(values.get(RTA_GATEWAY))


def _ask(netlink: Netlink, address: Address, flags: int) -> Any:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    netlink._send(RTM_GETROUTE, NLM_F_ACK, body + _attribute(RTA_DST, address.packed))
    answers = [answer for _kind, answer in netlink._answers()]
    _family, prefix, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(answers[0])
    return prefix, kind, _attributes(answers[0][_ROUTE.size :])


def _text(packed: Any) -> str:
    return str(ipaddress.ip_address(packed)) if packed else ""
