"""The agent's part of `netbridge doctor`: what this place permits, found out by doing it and undoing it at once.

A `probe` message is answered by one `probed` message; `{"fill": N}` in it asks for N bytes instead, by which the
session measures the line. A TUN is made and let go (with its device node, where that was not there before), a packet
capture begun and ended, resolv.conf opened for writing and left as it is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
from typing import Any, Callable, Dict, List

from . import resolvconf, resolved, tun
from .dnsask import NS, Ask
from .loop import Loop
from .netlink import Netlink
from .packet import PacketCapture
from .tun import TunError, open_tun

CAPABILITIES = {"net_admin": 12, "net_raw": 13, "sys_admin": 21, "mknod": 27}
"""Bits of CapEff that matter here (linux/capability.h)."""
MOST_FILL = 900000
"""Bytes of one answer; a control frame takes a million."""
PIECE = 1000
"""Bytes of one text of it: a session keeps no long ones."""
PATIENCE = 2.0
"""Seconds for a nameserver: whoever resolves by one that needs longer has given up."""
NAME = "nbprobe%d"


def capabilities(status: str = "/proc/self/status") -> Dict[str, bool]:
    """Which of CAPABILITIES this process has."""
    held = 0
    with contextlib.suppress(OSError, ValueError), open(status, encoding="ascii", errors="replace") as file:
        held = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    return {name: bool(held >> bit & 1) for name, bit in CAPABILITIES.items()}


def try_tun() -> Dict[str, Any]:
    """Make a TUN and let it go."""
    there = os.path.exists(tun.DEVICE)
    found: Dict[str, Any] = {"node": there, "code": "", "detail": "", "offload": False}
    folder = os.path.isdir(os.path.dirname(tun.DEVICE))
    try:
        descriptor, _name, found["offload"] = open_tun(NAME)
        os.close(descriptor)
    except TunError as error:
        found.update(code=error.code, detail=error.detail)
    except OSError as error:
        found.update(code="no_tun", detail=str(error))
    if not there:
        with contextlib.suppress(OSError):
            os.unlink(tun.DEVICE)
            if not folder:
                os.rmdir(os.path.dirname(tun.DEVICE))
    return found


def try_packets(netlink: Netlink) -> Dict[str, Any]:
    """Begin to capture packets without a TUN, and end it."""
    found: Dict[str, Any] = {"code": "", "detail": "", "interface": "", "sums": False}
    try:
        capture = PacketCapture(netlink, [])
    except TunError as error:
        found.update(code=error.code, detail=error.detail)
    except OSError as error:
        found.update(code="no_packet", detail=str(error))
    else:
        found.update(interface=capture.name, sums=capture.sums)
        capture.close()
    return found


def try_resolv_conf(path: str = resolvconf.PATH) -> Dict[str, Any]:
    """Whether resolv.conf could be edited, as `up` edits it."""
    found: Dict[str, Any] = {"exists": os.path.exists(path), "link": "", "error": "", "edited": False}
    try:
        if os.path.islink(path):
            found["link"] = os.path.realpath(path)
        if found["exists"]:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
            found["edited"] = resolvconf.HEAD in resolvconf.read(path)
        elif not os.access(os.path.dirname(path), os.W_OK):
            found["error"] = "there is none, and none can be made"
    except OSError as error:
        found["error"] = error.strerror or str(error)
    return found


def interfaces(netlink: Netlink) -> List[Dict[str, Any]]:
    """Interfaces that are up, with the networks that are on-link by them; loopback left out."""
    networks: Dict[int, List[str]] = {}
    for address in netlink.addresses():
        if not address.network.is_link_local:
            networks.setdefault(address.interface, []).append(str(address.network))
    return [
        {"name": link.name, "networks": networks.get(link.interface, [])}
        for link in netlink.links() if link.up and link.name != "lo"
    ]  # fmt: skip


class Probing:
    """Answers `probe` messages."""

    def __init__(self, loop: Loop, netlink: Netlink, send: Callable[[Dict[str, Any]], None]) -> None:
        self._loop = loop
        self._netlink = netlink
        self._send = send

    def ask(self, message: Dict[str, Any]) -> None:
        """Look, and answer when the nameservers had their time. TypeError, ValueError for nonsense."""
        if "fill" in message:
            whole, rest = divmod(max(0, min(int(message["fill"]), MOST_FILL)), PIECE)
            self._send({"type": "probed", "data": ["x" * PIECE] * whole + ["x" * rest]})
            return
        text = b""
        with contextlib.suppress(OSError):
            text = resolvconf.undo(resolvconf.read())
        servers = [server for server in resolvconf.parse(text).nameservers[:3] if _is_address(server)]
        found: Dict[str, Any] = {
            "type": "probed", "capabilities": capabilities(), "tun": try_tun(), "packet": try_packets(self._netlink),
            "resolv_conf": try_resolv_conf(), "nameservers": [], "interfaces": interfaces(self._netlink),
            "resolved": os.path.isdir(resolved.RUNS) and resolved.is_ours(),
            "programs": [name for name in ("docker", "ip", "resolvectl") if shutil.which(name)],
        }  # fmt: skip
        waiting = len(servers)

        def heard(answer: Dict[str, Any]) -> None:
            nonlocal waiting
            found["nameservers"].append(answer)
            waiting -= 1
            if not waiting:
                self._send(found)

        for server in servers:
            Ask(self._loop, server, "", [NS], heard, PATIENCE).start()
        if not servers:
            self._send(found)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    return True
