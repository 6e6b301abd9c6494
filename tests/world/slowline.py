"""A second cable between laptop and corp, on which every packet takes its time: a long way, on one machine.

    laptop slow0 10.95.0.1, fd95::1  ──── delay each way ────  corp slow0 10.95.0.2, fd95::2

On a veth an answer arrives while the call that asked is still running, which no real network does, and Linux treats
it otherwise: an ICMP error for a socket that is in use is dropped (TcpExtLockDroppedIcmps). And what needs large
windows shows only where the way is long. The kernel's own netem is no part of every kernel, so here a process holds
the two ends, each a TUN, and carries packets, with their virtio_net_hdr, from one to the other. It is also the
program that it starts: `slowline.py FD FD SECONDS`.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .machine import Machine

SLOW_LAPTOP = {4: "10.95.0.1", 6: "fd95::1"}
SLOW_CORP = {4: "10.95.0.2", 6: "fd95::2"}
SLOW_NETWORKS = {4: "10.95.0.0/24", 6: "fd95::/64"}
LARGEST = 65536 + 128


class SlowLine:
    """The cable between two machines of the world. A context manager; nothing is left when it closes."""

    def __init__(self, laptop: Machine, corp: Machine, seconds: float) -> None:
        """`seconds`: how long a packet takes, one way."""
        from netbridge.bridge.agent.tun import open_tun

        self._ends = [machine.inside(lambda: open_tun("slow0")[0]) for machine in (laptop, corp)]
        for machine, addresses in ((laptop, SLOW_LAPTOP), (corp, SLOW_CORP)):
            machine.ip(
                f"addr add {addresses[4]}/24 dev slow0",
                f"addr add {addresses[6]}/64 dev slow0 nodad",
                "link set slow0 txqueuelen 10000 up",
            )
        self._carrier = subprocess.Popen(
            [sys.executable, __file__, *map(str, self._ends), str(seconds)], pass_fds=self._ends, close_fds=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._carrier.kill()
        self._carrier.wait(10)
        for end in self._ends:
            os.close(end)


def carry(one: int, other: int, seconds: float) -> None:
    """Every packet that comes out of one descriptor goes into the other, `seconds` later."""
    ways = [(one, other, deque[tuple[float, bytes]]()), (other, one, deque[tuple[float, bytes]]())]
    poller = select.poll()
    for end in (one, other):
        poller.register(end, select.POLLIN)
    while True:
        due = min((queue[0][0] for _source, _sink, queue in ways if queue), default=None)
        # poll() counts in milliseconds: what is left of one is spent looking.
        wait = None if due is None else max(0, int((due - time.monotonic()) * 1000))
        poller.poll(wait)
        for source, sink, queue in ways:
            try:
                while True:
                    queue.append((time.monotonic() + seconds, os.read(source, LARGEST)))
            except BlockingIOError:
                pass
            while queue and queue[0][0] <= time.monotonic():
                try:
                    os.write(sink, queue.popleft()[1])
                except BlockingIOError:
                    pass  # a full queue drops


if __name__ == "__main__":
    carry(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
