"""`netbridge` with bad weather on its link: `python stormy.py --seed N --vitals FILE [--loss P] … up TARGET …`.

Everything behind these options is the ordinary command line, run by the ordinary program; only the Engine gets its
link inside a FaultLink. So packets are harmed where they pass between TUN and stack, whatever the transport.

Once a second a line of JSON goes to FILE: what a process can know about itself only from inside.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any, TextIO

from netbridge.bridge import engine, session
from netbridge.bridge.state import memory
from netbridge.cli.main import main as netbridge
from netbridge.stack.link.base import Buffer, Link
from netbridge.stack.link.fault import FaultLink, Faults, _Direction
from netbridge.stack.link.offload import finish
from netbridge.stack.packet import ICMP, ICMPV6, TCP, UDP
from netbridge.stack.vnet import VNET_LEN

EVERY = 1.0
"""Seconds between two lines of vitals."""
ECHO_PORT = 7
STRANGER = b"\xba\xd0"
"""In an attacker's IPv6 addresses, as `tests/hostile/raw.py` makes them (this program is no part of a package)."""
FRAGMENT = 44
"""IPv6's next header for a fragment."""


def kind(packet: Buffer) -> str:
    """What a lost packet was: tcp, echo (a datagram of the UDP echo), fragment, udp, ping or other."""
    view = memoryview(packet)[VNET_LEN:]
    if view[0] >> 4 == 4:
        protocol, at = view[9], (view[0] & 15) * 4
        if int.from_bytes(view[6:8], "big") & 0x3FFF:
            protocol = FRAGMENT
    else:
        protocol, at = view[6], 40
    if protocol == UDP:
        ports = int.from_bytes(view[at : at + 2], "big"), int.from_bytes(view[at + 2 : at + 4], "big")
        return "echo" if ECHO_PORT in ports else "udp"
    if protocol in {ICMP, ICMPV6}:
        return "ping" if view[at] in {0, 8, 128, 129} else "other"
    return {TCP: "tcp", FRAGMENT: "fragment"}.get(protocol, "other")


class Weather(FaultLink):
    """Harms a bridge's link. IPv6's super-segments are cut before; bursts stay bursts."""

    def __init__(self, inner: Link, seed: int, faults: Faults) -> None:
        super().__init__(inner, seed=seed, sent=faults, received=faults)
        self.lost: Counter[str] = Counter()
        """Packets lost, by kind, both ways."""
        self._bursting = False

    @property
    def counters(self) -> object:
        """The real link's, for `netbridge status`."""
        return getattr(self.inner, "counters", None)

    @property
    def waiting(self) -> int:
        """Packets kept back at present."""
        return len(self._sent.waiting) + len(self._received.waiting)

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        for packet in self._packets(self._sent, header, payload):
            self._put(self._sent, packet)

    def packet_received(self, packet: memoryview) -> None:
        self._bursting = True
        for piece in self._packets(self._received, packet, b""):
            self._put(self._received, piece)

    def burst_ended(self) -> None:
        self._bursting = False
        super().burst_ended()

    def _put(self, direction: _Direction, packet: bytes) -> None:
        before = direction.counters.lost
        direction.put(packet)
        if direction.counters.lost != before:
            self.lost[kind(packet)] += 1

    def _packets(self, direction: _Direction, header: Buffer, payload: Buffer) -> list[bytes]:
        if header[VNET_LEN] >> 4 == 6 and (header[0] or header[1]):
            return finish(header, payload)
        return super()._packets(direction, header, payload)

    def _receive(self, packet: bytes) -> None:
        if self._bursting:  # its end comes from the real link: the stack answers a burst as it would without us
            if not self._closed:
                self.user.packet_received(memoryview(packet))
        else:
            super()._receive(packet)


class StormyEngine(engine.Engine):
    """An engine under `Weather` that tells how it feels."""

    seed = 0
    faults = Faults()
    vitals: TextIO

    def __init__(self, link: Link, *rest: Any, **more: Any) -> None:
        self._weather = Weather(link, self.seed, self.faults)
        super().__init__(self._weather, *rest, **more)

    async def open(self) -> None:
        await super().open()
        self._tell_vitals(asyncio.get_running_loop())

    def _tell_vitals(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.vitals.closed:
            self.vitals.write(json.dumps(self._vitals()) + "\n")
            self.vitals.flush()
            loop.call_later(EVERY, self._tell_vitals, loop)

    def _vitals(self) -> dict[str, Any]:
        stack, table, forwarder = self.stack, self.table, self.tcp
        assert stack is not None
        assert table is not None
        assert forwarder is not None
        tcp, counters = stack.tcp, stack.tcp.counters
        strangers = sum(flow.source[8:10] == STRANGER for flow in table)
        if strangers == len(tcp.flows):  # so that what is left is told from what only waits for the collector
            gc.collect()
        senders = [flow.connection.sender for flow in tcp.flows.values()]
        return {
            "time": time.monotonic(),
            "rss": memory()["resident"],
            "descriptors": len(os.listdir("/proc/self/fd")) - 1,
            "tasks": len(asyncio.all_tasks()),
            "blocks": sys.getallocatedblocks(),
            "garbage": len(gc.garbage),
            "flows": len(table),
            "strangers": strangers,
            "tcp_flows": len(tcp.flows),
            "requests": len(tcp.requests),
            "connecting": len(forwarder._connecting),
            "handshaking": len(forwarder.handshaking),
            "link_queue": len(tcp.waiting),
            "held": forwarder.held,
            "unread": tcp.budget.used,
            "in_flight": sum(sender.flight for sender in senders),
            "timers": len(stack.timers),
            "kept_back": self._weather.waiting,
            "opened": counters.opened,
            "bytes_up": counters.bytes_in,
            "bytes_down": counters.bytes_out,
            "retransmitted": counters.retransmitted + sum(sender.retransmitted for sender in senders),
            "broken": counters.broken,
            "bad_checksum": counters.bad_checksum,
            "busy": table.counters.udp.dropped_link_busy + table.counters.icmp.dropped_link_busy,
            "up": asdict(self._weather.received),
            "down": asdict(self._weather.sent),
            "lost": dict(self._weather.lost),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--vitals", type=argparse.FileType("w"), required=True)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--reorder", type=float, default=0.01)
    ours, rest = parser.parse_known_args()
    StormyEngine.seed = ours.seed
    StormyEngine.faults = Faults(loss=ours.loss, reorder=ours.reorder)
    StormyEngine.vitals = ours.vitals
    vars(session)["Engine"] = StormyEngine
    faulthandler.register(signal.SIGUSR1)  # where it stands, when it stands still
    sys.argv = ["netbridge", *rest]
    netbridge()


if __name__ == "__main__":
    main()
