"""Names over there: the stub, resolv.conf, systemd-resolved and the guardian, as one thing that starts, changes and
ends.

Whatever of it cannot be had is left out with a reason, since without names the bridge still serves. Each step registers
its undoing before it is made, on the holder's own stack.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import leading, resolvconf, resolved
from .guardian import Guardian
from .leading import Leading
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
        self._leading: Optional[Leading] = None
        self._own: List[str] = []
        self._timer: Optional[Timer] = None
        self._teller = resolved.Teller()
        self.on_other_nameservers: Callable[[], None] = lambda: None
        """Called when this place got other nameservers of its own, which must not be captured."""

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
        except (OSError, StubError) as error:
            while len(self._undo) > before:
                with contextlib.suppress(OSError):
                    self._undo.pop()()
            return {"dns": False, "listen": None, "dns_reason": str(error)}
        self._stub, self._own = stub, resolver.nameservers
        self._undo.append(self._stop)
        return {"listen": stub.address, **self._lead(stub, resolver, self._put_in(stub, resolver))}

    def _put_in(self, stub: Stub, resolver: resolvconf.Resolver) -> str:
        """Let programs know of the stub; why that cannot be."""
        why = ""
        self._undo.append(_heal)
        try:
            self._install(stub, resolver)
        except OSError as error:
            why = "%s cannot be changed: %s" % (resolvconf.PATH, error.strerror or error)
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        return "" if self._tell_resolved() else why

    def _lead(self, stub: Stub, resolver: resolvconf.Resolver, why: str) -> Dict[str, Any]:
        """Let those know of the stub who do not look at resolv.conf; the fields of `ready` that tell."""
        own = bool(why) and any(not leading.is_loopback(server) for server in resolver.nameservers)
        self._leading = Leading(self._loop, self._netlink, self._index, stub, self._not_led)
        self._undo.append(self._leading.stop)
        asked = leading.nameservers(resolver.nameservers, alone=_alone(resolver) and not own)
        led = self._leading.start(asked, own=own)
        if own and led:
            why = ""
        return {"dns": not why, "dns_reason": why, **self._leading.told()}

    def change(self, suffixes: Sequence[str], search: Sequence[str]) -> None:
        """Other private suffixes and another search list from now on."""
        if (list(suffixes), list(search)) == (list(self._suffixes), list(self._search)):
            return
        self._suffixes, self._search = suffixes, search
        if self._stub is None:
            return
        self._stub.change_suffixes(suffixes)
        if self._tun:
            self._teller.tell(self._tun, self._mode, self._service, suffixes, search)
        with contextlib.suppress(OSError):
            self._install(self._stub, resolvconf.parse(resolvconf.undo(resolvconf.read())))

    def _not_led(self, why: str) -> None:
        if self._leading is not None and self._leading.running:  # else `ready` tells
            self._tell("containers", "names in containers are not answered: %s" % why)

    def _install(self, stub: Stub, resolver: resolvconf.Resolver) -> None:
        resolvconf.install(stub.address, self._search, alone=_alone(resolver))

    def _tell_resolved(self) -> bool:
        """What is told belongs to the TUN and vanishes with it; another interface's stays as it is."""
        return bool(self._tun) and resolved.tell(self._tun, self._mode, self._service, self._suffixes, self._search)

    def _look(self) -> None:
        """Somebody (a DHCP client, a network manager) may have written resolv.conf anew: join in."""
        assert self._stub is not None
        with contextlib.suppress(OSError):
            text = resolvconf.read()
            if resolvconf.HEAD not in text:
                resolver = resolvconf.parse(text)
                if resolver.nameservers != self._own:
                    self._own = resolver.nameservers
                    self._stub.change_own(self._own)
                    self.on_other_nameservers()
                    if self._leading is not None:
                        self._leading.change(leading.nameservers(self._own, alone=_alone(resolver)))
                self._install(self._stub, resolver)
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def _stop(self) -> None:
        self._stub = None
        if self._timer is not None:
            self._timer.cancel()


def _alone(resolver: resolvconf.Resolver) -> bool:
    """Whether other nameservers beside the stub would be asked at the same time, or in its turn."""
    return resolver.rotate or resolvconf.is_musl()


def _heal() -> None:
    resolvconf.heal()


def texts(value: Any) -> List[str]:
    """A list of names in a message; ValueError for what is none, or could break a line of resolv.conf."""
    names = [str(name) for name in value]
    for name in names:
        if not name or not name.isprintable() or any(mark.isspace() for mark in name):
            raise ValueError("no name: %r" % name[:80])
    return names
