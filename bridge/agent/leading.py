"""Names where the stub is not seen: what is asked of the codespace's nameservers is led to the stub all the same.

In containers nested in the codespace: their engine copies the codespace's resolv.conf without loopback addresses when
it starts them, or runs a resolver in them that asks the same nameservers. So what they ask comes out of a bridge
interface towards the nameservers' own addresses. And in the codespace itself, where resolv.conf cannot be changed (a
file system that is read-only), as long as its nameservers are not on loopback.

The stub listens on these addresses too, and policy routing (:mod:`.rules`) leads to it what comes from there. What the
stub itself asks these nameservers bears a mark and is not led astray.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import resolvconf, rules
from .loop import Loop, Timer
from .netlink import Netlink
from .stub import Stub

LOOK_EVERY = 2.0
"""Seconds between looks at the interfaces. A network is made seconds before its first container asks for a name."""
OF_THE_CLOUD = ["168.63.129.16"]
"""Azure's, which containers of a codespace are started with."""
IN_NEED = ["8.8.8.8", "8.8.4.4"]
"""What Docker gives containers when resolv.conf names nothing but loopback addresses, or did so when Docker started."""
RESOLVEDS = "/run/systemd/resolve/resolv.conf"
"""What Docker reads instead where resolv.conf names systemd-resolved's stub."""


def nameservers(own: Sequence[str], *, alone: bool = False, path: str = RESOLVEDS) -> List[str]:
    """The IPv4 addresses that containers here may ask. `alone`: resolv.conf names nothing but the stub meanwhile."""
    known = list(own)
    with contextlib.suppress(OSError):
        known += resolvconf.parse(resolvconf.read(path)).nameservers
    passed_on = [text for text in known if not is_loopback(text) and ":" not in text]
    in_need = IN_NEED if alone or not passed_on else []  # else who asks these means them
    return list(dict.fromkeys(passed_on + OF_THE_CLOUD + in_need))


def is_loopback(server: str) -> bool:
    """Whether a nameserver's address is one of this host's own for sure; what is no address counts as one."""
    try:
        return ipaddress.ip_address(server.split("%", 1)[0]).is_loopback
    except ValueError:
        return True


class Leading:
    """Leads to the stub what container networks ask; `index`: the TUN's number, 0 where there is none."""

    def __init__(self, loop: Loop, netlink: Netlink, index: int, stub: Stub, tell: Callable[[str], None]) -> None:
        """`tell` hears why containers' names are not answered any more, once."""
        self._loop = loop
        self._netlink = netlink
        self._index = index
        self._stub = stub
        self._tell = tell
        self._timer: Optional[Timer] = None
        self._wanted: List[str] = []
        self._listening: Dict[str, Callable[[], None]] = {}
        self._networks: List[str] = []
        self._own: List[str] = []
        self._failed = ""
        self.running = False

    def start(self, asked: Sequence[str], *, own: bool) -> bool:
        """Begin. `asked` are the addresses that may be asked; `own`: by the codespace itself, too. Whether it works."""
        self._wanted = list(asked)
        self._own = [rules.OWN] if own else []
        self._stub.mark = rules.MARK if own else 0
        self._look()
        self.running = not self._failed
        return self.running

    def change(self, asked: Sequence[str]) -> None:
        """They may ask others from now on; those of before stay, since containers keep what they were started with."""
        self._wanted += [address for address in asked if address not in self._wanted]
        self._networks = []

    def told(self) -> Dict[str, Any]:
        """The fields of `ready` that tell: the container networks, and why their names are not answered, if so."""
        networks = [name for name in self._networks if name != rules.OWN]
        return {"containers": networks, "containers_reason": self._failed if networks else ""}

    def stop(self) -> None:
        """Undo everything."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listening:
            rules.set_rules(self._netlink, ())
        for end in self._listening.values():
            end()

    def _look(self) -> None:
        try:
            networks = [*self._own, *sorted(rules.bridges(self._netlink).values())]
            if networks != self._networks:
                self._networks = networks
                self._lead(networks)
        except OSError as error:
            self._failed = str(error)
            self._tell(self._failed)
        else:
            self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def _lead(self, networks: List[str]) -> None:
        if networks and not self._index:
            raise OSError("without a TUN it cannot be done")
        if networks and not rules.supported():
            raise OSError("the kernel has no routing rules for ports before Linux %d.%d" % rules.SINCE)
        opened = {}
        try:
            for address in self._wanted:
                if networks and address not in self._listening:
                    opened[address] = self._stub.listen(address, foreign=True)
        except OSError:
            for end in opened.values():
                end()
            raise
        self._listening.update(opened)
        if self._listening:
            source = rules.source_of(self._netlink, self._index)
            rules.deliver(self._netlink, self._index, list(self._listening), source)
            rules.set_rules(self._netlink, networks, source)
