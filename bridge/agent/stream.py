"""The agent's end of the link: frames from stdin, frames to stdout, both non-blocking, with no copy that can be
avoided.

In: one large `readv` into a standing buffer; the decoder yields views of it, and each packet is written to the TUN
from there. Out: packets are read from the TUN straight into their place in a buffer (:mod:`.kept`), 4 bytes left free
for each frame's header, and the whole batch is one `write`. While part of a batch waits for the pipe, the TUN is not
read: the kernel queues, and drops by its own rules. The same holds while the send window is closed, and while there is
no connection: a link that broke leaves the TUN as it is, and `resume` goes on with two other descriptors where the
session's count of bytes says.

What a slow pipe makes wait besides the batch is bounded: of ACKs only the newest counts, and one is made when the
pipe takes bytes again; PONGs and control messages beyond a bound end the link.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from .frames import (
    ACK,
    CONTROL,
    COUNT,
    HEADER,
    HEADER_LEN,
    MAX_CONTROL,
    MAX_PACKET,
    PACKET,
    PING,
    PONG,
    Decoder,
    FrameError,
    ack_frame,
    control_frame,
    frame_header,
    parse_control,
)
from .kept import FILL, Kept
from .loop import READ, WRITE, Loop
from .window import AckCounter, SendWindow

F_SETPIPE_SZ = 1031
PIPE_SIZE = 1 << 20
"""What /proc/sys/fs/pipe-max-size allows without privilege; a default pipe of 64 KiB costs a wakeup a super-segment."""
READ_SIZE = 1 << 20
READS = 4
"""Reads of stdin in a row before the TUN gets its turn."""
MAX_WAITING = 2 * MAX_CONTROL
"""Control, PONG bytes that may wait for a slow pipe."""

Read = Callable[[int, List[memoryview]], int]
Write = Callable[[int, memoryview], int]


class Stream:
    """Frames on two descriptors, which it owns. `tun` is the TUN's descriptor once there is one."""

    def __init__(
        self, loop: Loop, reading: int, writing: int,
        on_control: Callable[[Dict[str, Any]], None], on_lost: Callable[[Optional[Exception]], None],
    ) -> None:  # fmt: skip
        """`on_lost` is told when the connection ended by itself, once; the descriptors are closed by then."""
        self._loop = loop
        self._in = -1
        self._out = -1
        self._on_control = on_control
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._inbound = memoryview(bytearray(READ_SIZE))
        self._kept = Kept()
        self._pending: Optional[memoryview] = None
        self._again: Deque[memoryview] = deque()
        """What is written once more after a resumption, before anything else."""
        self._waiting = bytearray()
        self._tun = -1
        self._tun_watched = False
        self._read_packet: Read = os.readv
        self._write_packet: Write = os.write
        self.window = SendWindow()
        self.acks = AckCounter()
        self.heard_at = 0.0
        """When anything came from the session last, or the connection began."""
        self.said_at = 0.0
        """When the first packets were sent to it that it may still have to answer: since `heard_at`, if later."""
        self.dropped = 0
        """Packets the TUN did not take."""
        self._connect(reading, writing)

    # The connection, and another one.

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return self._in >= 0

    @property
    def descriptors(self) -> Tuple[int, int]:
        """The connection's: (in, out); -1 without one."""
        return self._in, self._out

    def resume(self, reading: int, writing: int, total: int, answer: Dict[str, Any]) -> None:
        """Go on with other descriptors; the session has taken `total` bytes of packets, and is sent the rest again.

        `answer`, with the bytes taken here, goes first. FrameError when `total` cannot be; nothing has changed then.
        """
        again = self._kept.after(total)
        self.window.restart(total, time.monotonic())
        self.disconnect()
        self._decoder = Decoder()
        try:
            self._connect(reading, writing)
        except OSError as error:  # nothing that can be waited for
            self._lost(error)
            return
        self.acks.told = self.acks.taken
        self._again.extend(again)
        self.send_control({**answer, "taken": self.acks.taken})
        self._go_on()
        self._watch_tun()

    def disconnect(self) -> None:
        """Close the connection, if there is one, and tell nobody; packets wait from here on."""
        for descriptor in (self._in, self._out):
            if descriptor >= 0:
                self._loop.unwatch(descriptor)
                os.close(descriptor)
        self._in = self._out = -1
        self._pending = None
        self._again.clear()
        self._waiting.clear()
        self._watch_tun()

    def _connect(self, reading: int, writing: int) -> None:
        self._in, self._out = reading, writing
        self.heard_at = time.monotonic()
        self.said_at = 0.0
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE_SIZE)
        self._loop.watch(reading, READ, self._readable)

    def _lost(self, error: Optional[Exception]) -> None:
        if self._in >= 0:
            self.disconnect()
            self._on_lost(error)

    # The TUN.

    def attach_tun(self, descriptor: int, read: Read = os.readv, write: Write = os.write) -> None:
        """Begin to carry the packets of a TUN, or of what is read and written like one."""
        self._tun, self._read_packet, self._write_packet = descriptor, read, write
        self._watch_tun()

    def detach_tun(self) -> None:
        """Stop carrying packets; the descriptor may be closed then."""
        if self._tun >= 0:
            self._loop.unwatch(self._tun)
            self._tun, self._tun_watched = -1, False

    # Control messages.

    def send_control(self, message: Dict[str, Any]) -> None:
        """Queue a control message; without a connection it is for nobody."""
        self._write_small(control_frame(message))

    def ask(self) -> None:
        """Have the session say a word, whatever else it has to say."""
        self._write_small(frame_header(PING, 8) + bytes(8))

    def send_descriptor(self, channel: socket.socket, descriptor: int, message: Dict[str, Any]) -> None:
        """Send a control message whose first byte carries a descriptor, over the unix socket that stdin is.

        Used when the session runs on the same machine. OSError when the socket does not take it at once.
        """
        frame = control_frame(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
        if self._pending is not None or channel.sendmsg([frame], rights) != len(frame):
            raise BlockingIOError("the session does not read")

    def drain(self, timeout: float) -> None:
        """Try for `timeout` seconds to get everything queued written, blocking. For the very end."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError):
            while (self._pending is not None or self._waiting) and time.monotonic() < deadline:
                self._writable(WRITE)
                time.sleep(0.002)

    # From the session to the TUN.

    def _readable(self, _events: int) -> None:
        view = self._inbound
        self.heard_at = time.monotonic()
        for _ in range(READS):
            try:
                count = os.readv(self._in, [view])
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error)
                return
            if not count:
                self._lost(None)
                return
            try:
                self._take(view[:count])
            except FrameError as error:
                self._lost(error)
                return
            if count < READ_SIZE or self._in < 0:
                break
        if self.acks.due(burst_ended=True):
            self._acknowledge()

    def _take(self, data: memoryview) -> None:
        tun, acks, write = self._tun, self.acks, self._write_packet
        for kind, payload in self._decoder.feed(data):
            if kind == PACKET:
                acks.taken += len(payload)
                if tun >= 0:
                    try:
                        write(tun, payload)
                    except OSError:  # EINVAL: not a packet the kernel takes; EIO: the device is down
                        self.dropped += 1
                if acks.due(burst_ended=False):
                    self._acknowledge()
            elif kind == ACK:
                total = COUNT.unpack(payload)[0]
                if self.window.acknowledge(total, time.monotonic()):
                    self._watch_tun()
                self._kept.acknowledge(total)
            elif kind == CONTROL:
                self._on_control(parse_control(payload))
                tun, write = self._tun, self._write_packet
            elif kind == PING:
                self._write_small(frame_header(PONG, 8) + bytes(payload))

    # From the TUN to the session.

    def _tun_readable(self, _events: int) -> None:
        window = self.window
        if self._pending is not None or not window.open:
            self._watch_tun()
            return
        tun, read, pack = self._tun, self._read_packet, HEADER.pack_into
        batch, begin = self._kept.room()
        position = begin
        limit = min(FILL, begin + window.size - window.in_flight)
        frames, gone = 0, False
        try:
            while position < limit:
                start = position + HEADER_LEN
                count = read(tun, [batch[start : start + MAX_PACKET]])
                pack(batch, position, PACKET << 24 | count)
                position = start + count
                frames += 1
        except BlockingIOError:
            pass
        except OSError:  # EIO: the device was taken down, EBADFD: deleted; the session decides what to do
            gone = True
        if frames:
            now = time.monotonic()
            if self.said_at <= self.heard_at:
                self.said_at = now
            payload = position - begin - frames * HEADER_LEN
            self._kept.add(position, payload)
            window.add(payload, now)
            self._write(batch[begin:position])
        if gone:
            self.detach_tun()
            self.send_control({"type": "error", "code": "tun_lost", "detail": "the interface was taken away"})

    def _watch_tun(self) -> None:
        """Read the TUN exactly while there is a connection, the window is open and nothing waits."""
        wanted = self._tun >= 0 and self._in >= 0 and self._pending is None and self.window.open
        if wanted != self._tun_watched:
            self._tun_watched = wanted
            if wanted:
                self._loop.watch(self._tun, READ, self._tun_readable)
            else:
                self._loop.unwatch(self._tun)

    # Writing.

    def _acknowledge(self) -> None:
        if self._pending is None and not self._waiting:
            self.acks.told = self.acks.taken
            self._write_small(ack_frame(self.acks.taken))

    def _write_small(self, frame: bytes) -> None:
        if self._in < 0:
            return
        self._waiting += frame
        if len(self._waiting) > MAX_WAITING:
            self._lost(FrameError("the session asks and does not read the answers"))
        elif self._pending is None:
            data, self._waiting = self._waiting, bytearray()
            self._write(memoryview(data))

    def _write(self, data: memoryview) -> None:
        """Write what the pipe takes; the rest waits, and with it everything else."""
        try:
            count = os.write(self._out, data)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._lost(error)
            return
        if count < len(data):
            if self._pending is None:
                self._loop.watch(self._out, WRITE, self._writable)
            self._pending = data[count:]
            self._watch_tun()
        elif self._pending is not None:
            self._pending = None
            self._loop.unwatch(self._out)
            if self._waiting:
                self._write_small(b"")
            elif self.acks.due(burst_ended=True):
                self._acknowledge()
            self._go_on()
            self._watch_tun()

    def _go_on(self) -> None:
        """Write what is to be sent again, as far as the pipe takes it."""
        while self._again and self._pending is None:
            self._write(self._again.popleft())

    def _writable(self, _events: int) -> None:
        if self._pending is not None:
            self._write(self._pending)
