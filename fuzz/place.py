"""A place for an agent's holder that is all in memory: interfaces, routes, resolv.conf, sockets, names. Nothing of this
machine is touched, whatever the session asks for; what was changed is written down.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any
from unittest import mock

from netbridge.bridge.agent import (
    back,
    captured,
    front,
    hostroutes,
    meeting,
    names,
    probing,
    resets,
    resolvconf,
    resolved,
    stub,
    tracing,
)
from netbridge.bridge.agent import carrier as carrying
from netbridge.bridge.agent import holder as holding
from netbridge.bridge.agent.dnsask import A, query
from netbridge.bridge.agent.frames import control_frame
from netbridge.bridge.agent.loop import Timer
from netbridge.bridge.agent.netlink import AddressInfo, LinkInfo, RouteInfo
from netbridge.bridge.agent.tun import TunError

RESOLV_CONF = b"nameserver 10.0.0.2\nsearch example\n"


class Kernel:
    """What :class:`~.netlink.Netlink` is asked for, of two interfaces and the TUN that is made."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.tuns: dict[int, str] = {}
        self.made: dict[Any, int] = {}
        """Networks routed, by interface."""
        self.given: list[tuple[int, Any]] = []
        self.handed_over = False

    def links(self) -> list[LinkInfo]:
        own = [LinkInfo(1, "lo", 65536, up=True), LinkInfo(2, "eth0", 1500, up=True)]
        return own + [LinkInfo(index, name, 1500, up=True) for index, name in self.tuns.items()]

    def addresses(self) -> list[AddressInfo]:
        own = AddressInfo(2, ipaddress.ip_address("10.0.0.5"), ipaddress.ip_network("10.0.0.0/24"))
        return [own, *(AddressInfo(index, it.ip, it.network) for index, it in self.given)]

    def routes(self) -> list[RouteInfo]:
        default = RouteInfo(2, ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address("10.0.0.1"))
        return [default, *(RouteInfo(index, network, None) for network, index in self.made.items())]

    def neighbours(self) -> dict[Any, bool]:
        return {ipaddress.ip_address("10.0.0.9"): True}

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None, queue: int | None = None) -> None:
        self._ours(index)
        for number in (mtu, queue):
            if number is not None:
                struct.pack("=I", number)

    def no_link_local(self, index: int) -> None:
        self._ours(index)

    def add_address(self, index: int, interface: Any) -> None:
        self._ours(index)
        self.given.append((index, interface))

    def add_route(self, index: int, network: Any, *, source: Any = None, rto_min_ms: Any = None) -> None:
        self._ours(index)
        if rto_min_ms is not None:
            struct.pack("=I", rto_min_ms)
        if network in self.made:
            raise OSError(errno.EEXIST, "File exists")
        self.made[network] = index

    def delete_route(self, index: int, network: Any) -> None:
        self._ours(index)
        self.made.pop(network, None)

    def _ours(self, index: int) -> None:
        """Nothing but the TUN, or loopback that was down, is changed by a bridge."""
        assert index in self.tuns, index
        self.changes.append(self.tuns[index])

    # The TUN.

    def open_tun(self, name: str) -> tuple[int, str, bool]:
        made = name.encode()[:15].decode("utf-8", "replace").partition("\0")[0].replace("%d", "0")
        if not made or "/" in made:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.tuns[7] = made
        return 1000, made, True

    def close_tun(self) -> None:
        """With the last descriptor all that lies on it is gone; the session may have one."""
        if self.handed_over:
            return
        self.tuns.clear()
        self.made.clear()
        self.given.clear()


class Loop:
    """A loop in which time passes when it is told to."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.watched: set[int] = set()
        self.running = True

    def call_later(self, delay: float, callback: Any) -> Timer:
        assert -1 < delay < 1e9, delay
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def pass_time(self) -> None:
        """Let each timer that waits now fire."""
        waiting, self.timers = self.timers, []
        for timer in waiting:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def watch(self, descriptor: int, _events: int, _callback: Any) -> None:
        self.watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        self.watched.discard(descriptor)

    def stop(self) -> None:
        self.running = False


class Said:
    """The session's end of the stream: keeps what it is told."""

    connected = True
    heard_at = said_at = 0.0
    descriptors = (-1, -1)

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.said: list[dict[str, Any]] = []

    def send_control(self, message: dict[str, Any]) -> None:
        control_frame(message)
        self.said.append(message)

    def send_descriptor(self, _channel: Any, _descriptor: int, message: dict[str, Any]) -> None:
        self.send_control(message)
        self.kernel.handed_over = True

    def attach_tun(self, *_: Any) -> None: ...
    def detach_tun(self) -> None: ...
    def ask(self) -> None: ...

    def disconnect(self) -> None:
        self.connected = False


class _Door:
    """Where nobody knocks."""

    address = "127.83.0.1"

    def __init__(self, *_: Any) -> None: ...
    def close(self) -> None: ...


class _Nothing:
    """Stands for what has nothing to do here; each method does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.address = self.path = ""
        self.running = False

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: None

    def told(self) -> dict[str, Any]:
        return {"containers": []}


class _Names:
    """Answers nobody: no thread is started."""

    def __init__(self, _loop: Any) -> None: ...
    def resolve(self, host: str, port: int, done: Any) -> None: ...
    def close(self) -> None: ...


class _Dial:
    def __init__(self, _loop: Any, addresses: Any, done: Any) -> None:
        self._done = done

    def start(self) -> None:
        self._done(None, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))

    def close(self) -> None: ...


class _Ask:
    """A nameserver that is silent."""

    def __init__(self, _loop: Any, server: str, name: str, types: Any, done: Any, patience: float) -> None:
        self._result = {"server": server, "name": name, "rcode": "", "addresses": [], "seconds": 0.0, "error": "silent"}
        self._done = done

    def start(self) -> None:
        query(self._result["name"], A)  # type: ignore[arg-type]
        self._done(self._result)

    def close(self) -> None: ...


STDIN, _ = socket.socketpair()
"""What the session's machine would hand the TUN over by."""


class Place:
    """One such place, and a holder in it."""

    def __init__(self) -> None:
        self.kernel, self.loop = Kernel(), Loop()
        self.session = Said(self.kernel)
        self.resolv_conf = RESOLV_CONF
        before: Any = _Nothing()
        before.fileno = lambda: 1001
        loop: Any = self.loop
        kernel: Any = self.kernel
        self.holder = holding.Holder(loop, kernel, "192.0.2.9 50000 10.0.0.5 22", STDIN.fileno(), before)
        stream: Any = self.session
        self.holder.tether.stream = stream

    def read(self, path: str = resolvconf.PATH) -> bytes:
        if path != resolvconf.PATH:
            raise FileNotFoundError(errno.ENOENT, "there is none")
        return self.resolv_conf

    def install(self, nameserver: str, search: Any, *, alone: bool, path: str = resolvconf.PATH) -> None:
        self.resolv_conf = resolvconf.edit(resolvconf.undo(self.resolv_conf), nameserver, search, alone=alone)

    def heal(self, path: str = resolvconf.PATH) -> bool:
        self.resolv_conf = resolvconf.undo(self.resolv_conf)
        return True


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A place, while everything that would reach out of it is patched."""

    def nobody(*_: Any, **__: Any) -> Any:
        raise meeting.NobodyThereError("nobody")

    def refused(*_: Any) -> Any:
        raise TunError("no_packet", "there is none")

    def no_files(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(errno.ENOENT, "there is none")

    found = {"code": "", "detail": "", "node": True, "offload": False}
    with contextlib.ExitStack() as stack:
        def patch(where: Any, **what: Any) -> None:
            for name, instead in what.items():
                stack.enter_context(mock.patch.object(where, name, instead))

        patch(carrying, sockets=lambda *_: [], processes=list)
        patch(captured, open_connections=list)
        patch(captured.Captured, watch=lambda _self: None)
        patch(hostroutes, open_connections=lambda *_, **__: [])
        patch(back, Names=_Names, Dial=_Dial, AuthSocket=no_files)
        patch(tracing, Names=_Names, Dial=_Dial, Ask=_Ask, in_hosts=lambda *_: [], lookup=lambda *_: {"interface": ""})
        patch(probing, Ask=_Ask, try_tun=lambda: found, try_packets=lambda _netlink: found)
        patch(probing, try_resolv_conf=lambda: found, capabilities=dict)
        patch(stub, Door=_Door)
        patch(names, Guardian=_Nothing, Leading=_Leading)
        patch(resolved, tell=lambda *_: False, Teller=_Nothing)
        patch(meeting, ask=nobody, Door=_Nothing)
        patch(resets, reset_all=lambda *_: None)
        here = Place()
        patch(resolvconf, read=here.read, install=here.install, heal=here.heal)
        patch(holding, open_tun=here.kernel.open_tun, PacketCapture=refused, open=no_files)
        patch(os, close=_closing(here), dup2=lambda *_: None, write=lambda _descriptor, data: len(data))
        patch(front, tell=lambda *_: None)
        yield here


class _Leading(_Nothing):
    def start(self, asked: Any, *, own: bool) -> list[str]:
        return []


def _closing(here: Place) -> Any:
    close = os.close

    def closing(descriptor: int) -> None:
        if descriptor == 1000:
            here.kernel.close_tun()
        else:
            close(descriptor)

    return closing
