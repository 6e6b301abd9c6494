"""Single addresses that are captured for a time, although a network of the target's own holds them.

The session asks for one when a name that it resolved leads there, and says for how long (the name's TTL), and again as
long as a flow goes there. Nothing runs out while the session is away, since it could not have asked; it gets some
seconds after its return.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections import OrderedDict
from typing import Callable, List, Optional, Sequence

from .loop import Loop, Timer
from .netlink import Address, Netlink
from .routes import Protected, inside
from .sockets import open_connections

MOST = 1024
"""Routes that one bridge makes so; the one asked for longest ago goes first. The session has its own, lower limit."""
LONGEST = 4 * 3600.0
"""Seconds that a single wish may last."""
PATIENCE = 30.0
"""Seconds that everything lasts at least when the session comes back."""


class Refusals:
    """Why an address is not to be captured by itself, as this place is at one moment."""

    def __init__(
        self, netlink: Netlink, protected: Sequence[Protected], exclude: Sequence[str], bridge: Sequence[Address],
    ) -> None:  # fmt: skip
        """`exclude`: CIDRs that the session keeps out, `bridge`: the TUN's own addresses."""
        self._protected = list(protected)
        for text in exclude:
            with contextlib.suppress(ValueError):
                self._protected.append(Protected(ipaddress.ip_network(text, strict=False), "it is excluded"))
        self._addresses = netlink.addresses()
        self._neighbours = netlink.neighbours()
        self._connected = set(open_connections(bridge, limit=4096))

    def of(self, address: Address) -> str:
        """The reason, or nothing."""
        for item in self._protected:
            if inside(ipaddress.ip_network(address), item.network):
                return item.reason
        for info in self._addresses:
            if info.address == address:
                return "it is the target's own address"
            network = info.network
            if network.version == 4 and network.prefixlen < 31 and address in (network[0], network[-1]):
                return "it is an address of %s as a whole" % network
        if reason := self.of_a_neighbour(address):
            return reason
        if str(address) in self._connected:
            return "a connection beside the bridge is open to it"
        return ""

    def of_a_neighbour(self, address: Address) -> str:
        """The reason that may come to be when the address is captured already: a container that was started since."""
        return "the target has a neighbour with that address" if self._neighbours.get(address) else ""


class HostRoutes:
    """Which addresses, and until when."""

    def __init__(self, loop: Loop, is_there: Callable[[], bool], ran_out: Callable[[], None]) -> None:
        """`is_there` says whether the session is; `ran_out` is called when addresses were forgotten."""
        self._loop = loop
        self._is_there = is_there
        self._ran_out = ran_out
        self._until: "OrderedDict[Address, float]" = OrderedDict()
        self._timer: Optional[Timer] = None

    @property
    def addresses(self) -> List[Address]:
        """All of them, the one asked for longest ago first."""
        return list(self._until)

    def __contains__(self, address: object) -> bool:
        return address in self._until

    def keep(self, address: Address, seconds: float) -> None:
        """From now on and for so long; 0: no longer."""
        self._until.pop(address, None)
        if seconds > 0:
            self._until[address] = time.monotonic() + min(seconds, LONGEST)
            while len(self._until) > MOST:
                self._until.popitem(last=False)
        self._wait()

    def forget(self, address: Address) -> None:
        """It could not be done."""
        self._until.pop(address, None)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._until.clear()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._until:
            self._timer = self._loop.call_later(max(0.0, min(self._until.values()) - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        if not self._is_there():
            for address, until in self._until.items():
                self._until[address] = max(until, now + PATIENCE)
        over = [address for address, until in self._until.items() if until <= now]
        for address in over:
            del self._until[address]
        self._wait()
        if over:
            self._ran_out()
