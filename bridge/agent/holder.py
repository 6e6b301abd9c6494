"""The holder: what was set up, and how it is undone.

States: waiting for `setup` → serving → undone. Every step of `setup` that changes something registers its undoing
first, on one stack of closures, so a failure half-way and a normal stop take the same way back. Undoing never stops at
a failure. What ties it to the session, and how it outlives a broken connection, is :mod:`.tether`'s.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import socket
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from . import authsocket, meeting, privileges, resets
from . import routes as routing
from .back import Back
from .captured import Captured
from .loop import Loop
from .names import Names, texts
from .netlink import Interface, Netlink
from .packet import PacketCapture
from .probing import Probing
from .stream import Stream
from .tether import NotPassedOnError, Tether, seconds
from .tracing import Tracing
from .tun import TunError, open_tun

Capture = Union[routing.Routes, PacketCapture]

QUEUE = 8192
"""Packets the TUN may queue. A TUN drops at its ring's end, and a small packet takes as much of the ring as a
super-segment: ten thousand quiet flows lost one packet in five with 256. What bulk data may put into it is bounded by
the windows the stack shows, which grow by round trip, so a long ring costs no latency: a ping beside eight uploads at
10 Mbit/s and 20 ms took 150 ms with 64, 256 and 500 alike."""


class SetupError(Exception):
    """A `setup` that cannot be done; `code` is part of the protocol."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Holder:
    """Owns the TUN (or what stands in for it), its routes, DNS stub and the guardian, between `setup` and the end."""

    def __init__(self, loop: Loop, netlink: Netlink, connection: str, stdin: int, before: socket.socket) -> None:
        """`connection`: the text of SSH_CONNECTION; `before`: where the process in front of this one waits."""
        self._loop = loop
        self._netlink = netlink
        self._connection = connection
        self._stdin = stdin
        self.tether = Tether(loop, connection, before, self._cut, self._resumed)
        self._undo: List[Callable[[], None]] = []
        self._captured: Optional[Captured] = None
        self._packets: Optional[PacketCapture] = None
        self._back: Optional[Back] = None
        self._names: Optional[Names] = None
        self._index = 0
        self._raised = False
        """It was us who brought `lo` up."""
        self._tun = -1
        self._addresses: List[str] = []
        self._serving = False
        self._number: Any = None
        self._tracing = Tracing(loop, netlink, self._send)
        self._probing = Probing(loop, netlink, self._send)
        self._handlers: Dict[str, Callable[[Dict[str, Any]], None]] = {
            "setup": self._setup,
            "routes": self._change_routes,
            "host_routes": self._make_host_routes,
            "names": self._change_names,
            "resume": self.tether.pass_on,
            "dial": self._tell_back,
            "hang_up": self._tell_back,
            "trace": self._tracing.ask,
            "probe": self._probing.ask,
            "stop": self._stop,
        }

    # What the session says.

    def control(self, message: Dict[str, Any]) -> None:
        """Answer one control message; what is said meanwhile repeats its number, if it has one."""
        self._number = message.get("number")
        try:
            handle = self._handlers.get(message["type"])
            if handle is None:
                raise SetupError("bad_message", "unknown message %r" % message["type"][:40])
            handle(message)
        except (SetupError, TunError, NotPassedOnError) as error:
            self._fail(error.code, error.detail)
        except OSError as error:
            denied = error.errno in (errno.EPERM, errno.EACCES)
            self._fail("no_net_admin" if denied else "failed", str(error))
        except Exception as error:  # whatever is made of junk: a struct.error, an OverflowError
            self._fail("bad_message", "%s: %s" % (type(error).__name__, str(error)[:200]))
        finally:
            self._number = None

    def _change_routes(self, message: Dict[str, Any]) -> None:
        changed = self._keeper().wish(message["routes"], message["exclude"])
        self._send({"type": "routes_changed", **changed})

    def _make_host_routes(self, message: Dict[str, Any]) -> None:
        self._send({"type": "host_routes_changed", **self._keeper().wish_hosts(message["addresses"])})

    def _change_names(self, message: Dict[str, Any]) -> None:
        suffixes, search = texts(message["suffixes"]), texts(message["search"])
        if self._names is not None:
            self._names.change(suffixes, search)
        self._send({"type": "names_changed"})

    def _tell_back(self, message: Dict[str, Any]) -> None:
        if self._back is None:
            raise SetupError("bad_message", "%s before setup" % message["type"])
        self._back.control(message)

    def _stop(self, _message: Dict[str, Any]) -> None:
        self.undo()
        self._send({"type": "stopped"})
        self._loop.stop()

    @property
    def stream(self) -> Optional[Stream]:
        """The connection's frames."""
        return self.tether.stream

    def _cut(self) -> None:
        """There is no connection for a while."""
        if self._captured is not None:
            self._captured.carrier.cut()

    def _resumed(self, connection: str) -> None:
        """There is another connection, perhaps from elsewhere."""
        if self._captured is not None:
            self._captured.resumed(connection)

    def _keeper(self) -> Captured:
        if self._captured is None:
            raise SetupError("bad_message", "routes before setup")
        return self._captured

    def _send(self, message: Dict[str, Any]) -> None:
        self.tether.send(message if self._number is None else {"number": self._number, **message})

    def _fail(self, code: str, detail: str) -> None:
        if not self._serving:
            self.undo()
        self._send({"type": "error", "code": code, "detail": detail})

    # Setting up.

    def _setup(self, message: Dict[str, Any]) -> None:
        if self._undo:
            raise SetupError("bad_message", "there was a setup already")
        interfaces = [ipaddress.ip_interface(text) for text in message["addresses"]]
        self._addresses = [str(interface) for interface in interfaces]
        session = dict(message.get("session") or {})
        silence = seconds(message.get("silence"))
        for name in message.get("replace") or ():
            with contextlib.suppress(meeting.NobodyThereError):
                why = session.get("machine") or {}
                meeting.ask(name, {"ask": "end", "why": why.get("name", "")}, [], until_gone=True)
        captured = Captured(self._loop, self._netlink, self._connection, self._send)
        self._undo.append(captured.close)
        if session:
            self._undo.append(self.tether.open_door(session).close)
        if message.get("loopback_up", True):
            self._loopback_up()
        times = [time.monotonic()]
        routes, capture = self._capture(message, interfaces)
        times.append(time.monotonic())
        captured.start(routes, self._index, self._addresses, message.get("explicit", []))
        first = captured.wish(message["routes"], message["exclude"])
        holders = sorted({item["holder"] for item in first["skipped"] if "holder" in item})
        if holders and not first["routes"]:
            raise SetupError("held", ", ".join(holders))
        self._captured = captured
        captured.watch()
        times.append(time.monotonic())
        ready = {"type": "ready", **capture, **first}
        tun = ("", 0) if self._packets else (capture["tun"], self._index)
        self._names = Names(self._loop, self._netlink, self._undo, tun, message["dns"], self._fail)
        self._names.on_other_nameservers = captured.look
        ready.update(self._names.start())
        times.append(time.monotonic())
        stages = zip(("TUN", "routes", "names"), times, times[1:])
        ready["took"] = {name: round(end - begin, 4) for name, begin, end in stages}
        if "back" in message:
            back = self._back = Back(self._loop, message["back"])
            self._undo.append(back.close)
            ready.update(back.told)
        ready["privileges"] = self._give_up_privileges(session)
        if message.get("pass_tun", False):
            self._hand_over(ready)
        else:
            self._send(ready)
            self._attach()
        self._serving = True
        self.tether.hold(silence)

    def _capture(self, message: Dict[str, Any], interfaces: List[Interface]) -> Tuple[Capture, Dict[str, Any]]:
        """Open the TUN, or what serves where none is to be had; with the fields of `ready` that tell."""
        kind = "tun" if message.get("pass_tun", False) else message.get("capture", "tun")
        if kind != "packet":
            try:
                self._tun, name, offload = open_tun(message["tun"])
            except TunError as error:
                if kind != "auto" or error.code == "busy":
                    raise
                return self._capture_packets(message, "%s; " % error.detail)
            self._undo.append(self._close_tun)
            self._index = next(link.interface for link in self._netlink.links() if link.name == name)
            usable = self._configure(name, interfaces, int(message["mtu"]))
            routes = routing.Routes(self._netlink, self._index, usable, message.get("rto_min_ms"))
            return routes, {"tun": name, "offload": offload, "capture": "tun"}
        return self._capture_packets(message, "")

    def _capture_packets(self, message: Dict[str, Any], why: str) -> Tuple[Capture, Dict[str, Any]]:
        """`why` no TUN serves becomes part of the error, if there is one."""
        always = [ipaddress.ip_network(text) for text in message["gateways"]]
        named = [ipaddress.ip_network(text, strict=False) for text in message.get("explicit", [])]
        try:
            packets = PacketCapture(self._netlink, always, named)
        except TunError as error:
            raise TunError(error.code, why + error.detail) from None
        self._packets = packets
        self._undo.append(self._close_packets)
        found = {"tun": packets.name, "offload": True, "capture": "packet", "sums": packets.sums}
        return packets, {**found, "sources": packets.sources(), "no_tun": why.rstrip("; ")}

    def _give_up_privileges(self, session: Dict[str, Any]) -> Dict[str, Any]:
        """Keep what is still needed of root's power; what is left, for `ready`."""
        if self._back is not None and self._back.told.get("ssh_agent"):
            authsocket.remember_user()
        kept = list(privileges.for_resolv_conf())
        if self._index or self._raised:
            kept += privileges.TUN
        if self._index:
            kept += privileges.STUB
        if session.get("grace"):
            kept += privileges.RETURN
        return privileges.keep(kept)

    def _attach(self) -> None:
        if self.stream is not None and self._packets is not None:
            self.stream.attach_tun(self._packets.fileno(), self._packets.read, self._packets.write)
        elif self.stream is not None:
            self.stream.attach_tun(self._tun)

    def _loopback_up(self) -> None:
        for link in self._netlink.links():
            if link.name == "lo" and not link.up:
                index = link.interface
                self._netlink.set_link(index, up=True)
                self._raised = True
                self._undo.append(functools.partial(self._netlink.set_link, index, up=False))

    def _configure(self, name: str, interfaces: List[Interface], mtu: int) -> List[Interface]:
        """Address the TUN and bring it up; the interfaces that could be given (IPv6 may be switched off)."""
        netlink, index = self._netlink, self._index
        with contextlib.suppress(OSError):
            netlink.no_link_local(index)
        netlink.set_link(index, mtu=mtu, queue=QUEUE)
        with contextlib.suppress(OSError), open("/proc/sys/net/ipv6/conf/%s/disable_ipv6" % name, "w") as switch:
            switch.write("0")
        usable = []
        for interface in interfaces:
            try:
                netlink.add_address(index, interface)
                usable.append(interface)
            except OSError:
                if interface.version == 4:
                    raise
        netlink.set_link(index, up=True)
        return usable

    def _hand_over(self, ready: Dict[str, Any]) -> None:
        """Give the TUN away; the session's copy alone keeps it alive, so that it vanishes with the session."""
        if self.stream is None:
            return
        copy = os.dup(self._stdin)
        try:
            channel = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            raise SetupError("no_unix_socket", "stdin is no socket, so the TUN cannot be handed over") from None
        try:
            if channel.family != socket.AF_UNIX:
                raise SetupError("no_unix_socket", "stdin is no unix socket, so the TUN cannot be handed over")
            self.stream.send_descriptor(channel, self._tun, ready)
        except OSError as error:
            raise SetupError("no_unix_socket", "the TUN cannot be handed over: %s" % error) from None
        finally:
            channel.close()
        self._close_tun()

    # Undoing.

    def undo(self) -> None:
        """Put everything back as it was. Idempotent."""
        self._tracing.close()
        if self._tun >= 0 and self._serving:
            with contextlib.suppress(OSError):
                resets.reset_all(self._tun, self._addresses)
        while self._undo:
            self._undo_one()
        self._captured = self._back = self._names = None
        self._serving = False
        self.tether.let_go()

    def _undo_one(self) -> None:
        with contextlib.suppress(OSError):
            self._undo.pop()()

    def _close_tun(self) -> None:
        if self.stream is not None:
            self.stream.detach_tun()
        if self._tun >= 0:
            os.close(self._tun)
            self._tun = -1

    def _close_packets(self) -> None:
        if self.stream is not None:
            self.stream.detach_tun()
        packets, self._packets = self._packets, None
        if packets is not None:
            packets.close()
