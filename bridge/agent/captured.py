"""What is captured here, kept true while this place changes.

The session says what it wants captured and what not. What becomes of that depends on this place: its own networks, its
gateways and nameservers, what is open from before. All of these change while a bridge lives (a docker network appears,
DHCP gives another gateway), so they are looked at anew whenever the kernel tells of a change, a moment after the first
of several; when other networks are captured by it, the session hears `routes_changed`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from . import facts, resolvconf
from . import routes as routing
from .carrier import Carrier
from .hostroutes import HostRoutes, Refusals
from .loop import READ, Loop, Timer
from .netlink import Address, Netlink, Network
from .packet import PacketCapture
from .sockets import open_connections

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h)."""
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP, RTNLGRP_NEIGH = 270, 1, 2, 3
MOMENT = 0.2
"""Seconds between the first word of the kernel and the look: a container that starts changes ten things at once."""
LONGEST_MOMENT = 1.5
"""The same where a look takes long, since there are thousands of routes: a sixth of the time goes into looks."""

PEER = "it is the other end of the SSH connection"
CARRIER = "it carries the connection"
Notes = List[Dict[str, str]]


class Captured:
    """What the session wants, and what of it is captured."""

    def __init__(self, loop: Loop, netlink: Netlink, connection: str, send: Callable[[Dict[str, Any]], None]) -> None:
        """Look at this place before anything is changed. `connection`: the text of SSH_CONNECTION."""
        self._loop = loop
        self._netlink = netlink
        self._send = send
        self._routes: Optional[Union[routing.Routes, PacketCapture]] = None
        self._index = 0
        self._own: List[Address] = []
        self._peers: List[str] = []
        self._explicit: List[str] = []
        self._wanted: List[str] = []
        self._exclude: List[str] = []
        self._nameservers: List[str] = []
        self._before = open_connections()
        self._question: Any = None
        self._plan: Optional[routing.Plan] = None
        """The answer to that. With hundreds of holes it takes half a second to find; most changes change nothing."""
        self._told: Optional[Dict[str, Any]] = None
        self._kernel: Optional[socket.socket] = None
        self._timer: Optional[Timer] = None
        self._moment = MOMENT
        self.carrier = Carrier(loop, connection, self.look)
        self.hosts = HostRoutes(loop, lambda: not self.carrier.away, self.look)
        self._add_peer(connection)
        self._note_nameservers()

    def start(
        self, routes: Union[routing.Routes, PacketCapture], index: int, own: Sequence[str], explicit: Sequence[str],
    ) -> None:  # fmt: skip
        """`routes` are changed from now on; `index` is the TUN's, 0 without one, and `own` are its addresses;
        `explicit`: networks that a person named.
        """
        self._routes, self._index = routes, index
        self._own = self.carrier.own = [ipaddress.ip_interface(text).ip for text in own]
        self._explicit = list(map(str, explicit))

    def wish(self, wanted: Sequence[str], exclude: Sequence[str]) -> Dict[str, Any]:
        """Capture exactly this; what came of it: `routes`, `skipped`, and this place's `own` networks."""
        self._wanted, self._exclude = list(map(str, wanted)), list(map(str, exclude))
        self._told = self._apply()[0]
        return dict(self._told)

    def wish_hosts(self, addresses: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
        """Capture single addresses, each for so many `seconds`; the fields of `host_routes_changed`."""
        refused: Notes = []
        asked: Dict[str, Address] = {}
        refusals = Refusals(self._netlink, self._protected(), self._exclude, self._own)
        for item in addresses:
            text = str(item["address"])
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                refused.append({"route": text, "reason": "it is not an address"})
                continue
            seconds = float(item["seconds"])
            refusal = refusals.of_a_neighbour if address in self.hosts else refusals.of
            reason = refusal(address) if seconds > 0 else ""
            if reason:
                self.hosts.forget(address)
                refused.append({"route": text, "reason": reason})
                continue
            self.hosts.keep(address, seconds)
            if seconds > 0:
                asked[str(ipaddress.ip_network(address))] = address
        for item in self._apply()[1]:
            failed = asked.pop(item["route"], None)
            if failed is not None:
                refused.append({**item, "route": str(failed)})
        return {"installed": [str(address) for address in asked.values()], "skipped": refused}

    # What changes here.

    def watch(self) -> None:
        """Hear the kernel from now on."""
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._kernel = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._kernel.bind((0, GROUPS))
            self._loop.watch(self._kernel.fileno(), READ, self._heard)
        except OSError:  # what changes is then seen when the session asks
            if self._kernel is not None:
                self._kernel.close()
                self._kernel = None

    def _hear_of_neighbours(self, wanted: bool) -> None:
        """They change all the time, and matter only to single addresses that are captured."""
        if self._kernel is not None:
            change = NETLINK_ADD_MEMBERSHIP if wanted else NETLINK_DROP_MEMBERSHIP
            with contextlib.suppress(OSError):
                self._kernel.setsockopt(SOL_NETLINK, change, RTNLGRP_NEIGH)

    def _heard(self, _events: int) -> None:
        with contextlib.suppress(OSError):  # ENOBUFS: there was more than the socket holds
            while self._kernel is not None and self._kernel.recv(65536):
                pass
        if self._timer is None:
            self._timer = self._loop.call_later(self._moment, self.look)

    def look(self) -> None:
        """Something changed here, perhaps: do what is wanted as it is to be done now, and say so if it differs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._told is None:
            return
        began = time.monotonic()
        try:
            now = self._apply()[0]
        except OSError as error:  # the next word of the kernel brings the next look
            os.write(2, ("netbridge agent: the routes could not be looked at: %s\n" % error).encode())
            return
        self._moment = min(LONGEST_MOMENT, max(MOMENT, 5 * (time.monotonic() - began)))
        before, self._told = self._told, now
        if before != now:
            self._send({"type": "routes_changed", **now})

    def resumed(self, connection: str) -> None:
        """There is another connection, perhaps from elsewhere: its other end must not be captured either."""
        self._add_peer(connection)
        self.carrier.tied(connection)
        self.look()

    def close(self) -> None:
        """Follow nothing any more."""
        self._told = self._routes = None
        self.carrier.close()
        self.hosts.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kernel is not None:
            self._loop.unwatch(self._kernel.fileno())
            self._kernel.close()
            self._kernel = None

    # How it is decided.

    def _add_peer(self, connection: str) -> None:
        peer = facts.ssh_peer(connection)
        if peer and peer not in self._peers:
            self._peers = [*self._peers[-15:], peer]

    def _note_nameservers(self) -> None:
        """Those that resolv.conf names now, which keeps them behind the stub, and those that the resolver asks which it
        may name in their stead. One that was named stays protected.
        """
        for path in (resolvconf.PATH, *resolvconf.BEHIND):
            with contextlib.suppress(OSError):
                for server in resolvconf.parse(resolvconf.read(path)).nameservers:
                    if server not in self._nameservers:
                        self._nameservers = [*self._nameservers[-15:], server]

    def _protected(self) -> List[routing.Protected]:
        """What is never captured here, as things are now."""
        return [
            *routing.never_captured(),
            *routing.hosts(self._peers, PEER),
            *routing.hosts(self.carrier.addresses, CARRIER),
            *routing.hosts(self._nameservers, "it is the target's own nameserver"),
            *routing.hosts(facts.gateways(self._netlink), "it is the target's own gateway"),
            *routing.hosts(self._before, "a connection from before the bridge is open to it"),
        ]

    def _apply(self) -> Tuple[Dict[str, Any], Notes]:
        """Do it; what the session is told, and which of the single addresses failed."""
        if self._routes is None:
            raise ValueError("routes before setup")
        self._note_nameservers()
        own = facts.on_link(self._netlink, without=self._index)
        protected = self._protected()
        question = [*self._wanted], [*self._exclude], own, protected
        if self._plan is None or question != self._question:
            self._question, self._plan = question, routing.plan(*question, self._explicit)
        plan = self._plan
        singles: List[Network] = []
        self._hear_of_neighbours(bool(self.hosts.addresses))
        neighbours = self._netlink.neighbours() if self.hosts.addresses else {}
        for address in self.hosts.addresses:
            single = ipaddress.ip_network(address)
            if neighbours.get(address) or any(routing.inside(single, item.network) for item in protected):  # by now
                self.hosts.forget(address)
            elif routing.longest(single, plan.install) <= routing.longest(single, own):
                singles.append(single)
        installed, skipped = self._routes.apply(routing.Plan([*plan.install, *singles], plan.skipped))
        names = set(map(str, singles))
        failed = [item for item in skipped if item["route"] in names]
        for item in failed:
            self.hosts.forget(ipaddress.ip_network(item["route"]).network_address)
        told: Dict[str, Any] = {
            "routes": [text for text in installed if text not in names],
            "skipped": [item for item in skipped if item["route"] not in names],
            "own": list(map(str, own)),
        }
        if isinstance(self._routes, PacketCapture):
            told["sources"] = self._routes.sources()
        return told, failed
