"""Names over there: the stub, resolv.conf, systemd-resolved and the guardian, as one thing that starts, changes and
ends.

Whatever of it cannot be had is left out with a reason, since without names the bridge still serves. Each step registers
its undoing before it is made, on the holder's own stack.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import containers, resolvconf, resolved
from .containers import Containers
from .guardian import Guardian
from .loop import Loop, Timer
from .netlink import Netlink
from .stub import Stub, StubError

LOOK_EVERY = 5.0
"""Seconds between looks at resolv.conf."""


class Names:
    """What a bridge does about names. `tun` is the interface's name and number; "" and 0 where there is none."""

    def __init__(
        self, loop: Loop, netlink: Netlink, undo: List[Callable[[], None]], tun: Tuple[str, int],
        wanted: Dict[str, Any], tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        """`wanted`: the field `dns` of `setup`: mode, service, suffixes, search. `tell` hears of faults: code, text."""
        self._loop = loop
        self._netlink = netlink
        self._undo = undo
        self._tun, self._index = tun
        self._tell = tell
        self._mode: str = wanted["mode"]
        self._service: List[str] = wanted["service"]
        self._suffixes: Sequence[str] = wanted.get("suffixes", [])
        self._search: Sequence[str] = wanted.get("search", [])
        self._stub: Optional[Stub] = None
        self._containers: Optional[Containers] = None
        self._timer: Optional[Timer] = None

    def start(self) -> Dict[str, Any]:
        """Do it; the fields of `ready` that tell."""
        if self._mode == "off" or not self._service:
            return {"dns": False, "listen": None, "dns_reason": "not asked for"}
        resolver = resolvconf.Resolver([], [], rotate=False)
        with contextlib.suppress(OSError):
            resolver = resolvconf.parse(resolvconf.read())
        before = len(self._undo)
        try:
            stub = Stub(self._loop, self._mode, self._service, resolver.nameservers, self._suffixes)
            self._undo.append(stub.close)
            guardian = Guardian()
            self._undo.append(guardian.dismiss)
            self._undo.append(_heal)
            self._install(stub, resolver)
            self._undo.append(self._stop)
        except (OSError, StubError) as error:
            while len(self._undo) > before:
                with contextlib.suppress(OSError):
                    self._undo.pop()()
            return {"dns": False, "listen": None, "dns_reason": str(error)}
        self._stub = stub
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        self._tell_resolved()
        inner = Containers(self._loop, self._netlink, self._index, stub, self._no_containers)
        self._undo.append(inner.stop)
        inner.start(self._asked_by_containers(resolver))
        self._containers = inner
        return {"dns": True, "listen": stub.address, **inner.told()}

    def change(self, suffixes: Sequence[str], search: Sequence[str]) -> None:
        """Other private suffixes and another search list from now on."""
        if (list(suffixes), list(search)) == (list(self._suffixes), list(self._search)):
            return
        self._suffixes, self._search = suffixes, search
        if self._stub is None:
            return
        self._stub.change_suffixes(suffixes)
        self._tell_resolved()
        with contextlib.suppress(OSError):
            self._install(self._stub, resolvconf.parse(resolvconf.undo(resolvconf.read())))

    def _asked_by_containers(self, resolver: resolvconf.Resolver) -> List[str]:
        return containers.nameservers(resolver.nameservers, none_left=resolver.rotate or resolvconf.is_musl())

    def _no_containers(self, why: str) -> None:
        if self._containers is not None:  # else `ready` tells
            self._tell("containers", "names in containers are not answered: %s" % why)

    def _install(self, stub: Stub, resolver: resolvconf.Resolver) -> None:
        resolvconf.install(stub.address, self._search, alone=resolver.rotate or resolvconf.is_musl())

    def _tell_resolved(self) -> None:
        if self._tun:  # what is told belongs to the TUN and vanishes with it; another interface's stays as it is
            resolved.tell(self._tun, self._mode, self._service, self._suffixes, self._search)

    def _look(self) -> None:
        """Somebody (a DHCP client, a network manager) may have written resolv.conf anew: join in."""
        assert self._stub is not None
        with contextlib.suppress(OSError):
            text = resolvconf.read()
            if resolvconf.HEAD not in text:
                resolver = resolvconf.parse(text)
                self._stub.change_own(resolver.nameservers)
                if self._containers is not None:
                    self._containers.change(self._asked_by_containers(resolver))
                self._install(self._stub, resolver)
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def _stop(self) -> None:
        self._stub = None
        if self._timer is not None:
            self._timer.cancel()


def _heal() -> None:
    resolvconf.heal()


def texts(value: Any) -> List[str]:
    """A list of names in a message; ValueError for what is none, or could break a line of resolv.conf."""
    names = [str(name) for name in value]
    for name in names:
        if not name or not name.isprintable() or any(mark.isspace() for mark in name):
            raise ValueError("no name: %r" % name[:80])
    return names
