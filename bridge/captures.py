"""Who gets the packets of a bridge's link to look at: the file of `--pcap`, and those who ask while it runs.

While nobody does, nothing stands between stack and link. Who asks (`{"ask": "capture", "filter": …}` at the control
socket) is answered in one line of JSON and gets a pcapng stream until it hangs up. One that reads too slowly misses
packets, which its stream then says; the bridge waits for nobody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import netbridge
from netbridge.stack.link import pcapng
from netbridge.stack.link.pcap import Tap
from netbridge.stack.packet import Buffer
from netbridge.stack.stack import Stack

from . import events
from .back.ends import End
from .capturefile import CaptureFile
from .capturefilter import Filter, parse_filter
from .errors import UsageError

QUEUED = 8 << 20
"""Bytes that wait for one who reads slowly: a hundred super-segments, a fraction of a second at full speed."""
MOST = 4
"""Who may look at the same time: each costs a copy of every packet."""

Clock = Callable[[], int]


class Captures:
    """All captures of one bridge."""

    def __init__(
        self, tell: events.EventSink, target: str, *, file: Path | None = None, size: int = 0,
        clock: Clock = time.time_ns,
    ) -> None:
        """`target`: TARGET. `file` gets all packets; at `size` bytes a new one is begun, 0: never. `clock`: nanoseconds
        since the epoch.
        """
        self.interface = ""
        """Its name over there, for readers."""
        self._tell = tell
        self._target = target
        self._path = file
        self._size = size
        self._clock = clock
        self._beginning = b""
        self._stack: Stack | None = None
        self._tap: Tap | None = None
        self._file: CaptureFile | None = None
        self._askers: set[_Asker] = set()

    def prepare(self) -> None:
        """Open the file, before anything is done at the target. Raises UsageError when it cannot be written."""
        if self._path:
            complain = lambda text: self._tell(events.Hint(text))
            self._file = CaptureFile(self._path, self._size, b"", complain)

    def open(self, stack: Stack) -> None:
        """The packets of this stack, which was just started, are there to be looked at."""
        self._beginning = pcapng.section(
            f"netbridge {netbridge.__version__}", self.interface, f"netbridge to {self._target}",
        )
        if self._file:
            self._file.begin(self._beginning)
        self._stack = stack
        self._look()

    def serve(self, request: Mapping[str, Any], asker: End) -> None:
        """Answer one who asks to look; see above."""
        why, code = "the bridge is not ready yet", "EAGAIN"
        try:
            wanted = parse_filter(str(request.get("filter") or ""))
            if len(self._askers) >= MOST:
                why, code = f"{MOST} captures are under way already", "EBUSY"
            elif self._stack is not None:
                self._askers.add(_Asker(self, asker, wanted))
                self._look()
                return
        except UsageError as error:
            why, code = error.why.rstrip("."), "EINVAL"
        assert asker.transport
        asker.transport.write(json.dumps({"error": why, "code": code}).encode() + b"\n")
        asker.transport.close()

    def close(self) -> None:
        """No packets come any more. Idempotent."""
        if self._file:
            self._file.close()
            self._file = None
        for asker in list(self._askers):
            asker.close()
        self._askers.clear()
        self._look()
        self._stack = None

    def forget(self, asker: _Asker) -> None:
        """This one went away."""
        self._askers.discard(asker)
        self._look()

    @property
    def beginning(self) -> bytes:
        """What each stream starts with."""
        return self._beginning

    def _look(self) -> None:
        """Stand between stack and link, or do not any more."""
        stack = self._stack
        wanted = self._file is not None or bool(self._askers)
        if stack is None or wanted == (self._tap is not None):
            return
        if self._tap is None:
            self._tap = Tap(stack.link, self._take)
            self._tap.put_in(stack)
            stack.stand_on(self._tap)
        else:
            self._tap.take_out()
            stack.stand_on(self._tap.inner)
            self._tap = None

    def _take(self, direction: int, header: Buffer, rest: Buffer) -> None:
        now = self._clock()
        if self._file is not None:
            self._file.write(pcapng.packet(now, direction, header, rest))
        for asker in self._askers:
            asker.take(now, direction, header, rest)


class _Asker:
    """One who looks."""

    def __init__(self, captures: Captures, end: End, wanted: Filter | None) -> None:
        self._end = end
        self._wanted = wanted
        self._missed = 0
        self._told_missed = 0
        end.on_over = lambda _why: captures.forget(self)
        assert end.transport
        end.transport.write(b'{"capturing": true}\n' + captures.beginning)

    def take(self, now: int, direction: int, header: Buffer, rest: Buffer) -> None:
        """One packet, if it is wanted."""
        if self._wanted is not None and not self._wanted(header):
            return
        transport = self._end.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > QUEUED:
            self._missed += 1
            return
        if self._missed > self._told_missed:
            self._told_missed = self._missed
            transport.write(pcapng.dropped(now, self._missed))
        transport.write(b"".join(pcapng.packet(now, direction, header, rest)))

    def close(self) -> None:
        """All was said; what waits is still read."""
        if self._end.transport is not None:
            self._end.transport.close()
