"""The stack's link over a channel: frames, the window, acknowledgements, round-trip time.

Down (stack to codespace): `send` writes [frame header + packet header, payload] to the channel as buffers, joined by
whatever the transport uses (writev); nothing is copied but the header. Up: the decoder hands views of the channel's
own read buffer to the stack. Both directions are counted against a window, so what is in flight is bounded by both
ends.

The stack asks `ready` before bulk data; what it sends without asking (acknowledgements, resets, errors, echo replies)
is small and goes anyway, up to a bound: an other end that causes answers and does not take them must not fill this
machine's memory, nor may a flood of pings on a line that is slower this way. Beyond it packets are dropped. A peer
that breaks the protocol ends the link with a LinkError, and the channel with it.

A link that is `lasting` outlives its channel. Frames are kept until they are acknowledged; when the channel breaks the
link is cut off, `ready` is False, and what the stack sends without asking is kept as well, up to the same bound. With
another channel (`attach`, `resume`) both ends say how many bytes they took and send the rest again, so for the stack
nothing was lost.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from netbridge.stack.link.base import Buffer, Link, LinkError, LinkUser

from .agent.frames import (
    ACK,
    CONTROL,
    COUNT,
    HEADER,
    HEADER_LEN,
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
from .agent.window import AckCounter, SendWindow
from .plain import harmless
from .smalltalk import SmallTalk
from .transport.base import Channel, ChannelUser

SMALL = 4096
"""Frames smaller than this are gathered: each write by itself costs ssh, sshd and the agent a wake-up, and answers to
many requests come in one turn of the event loop."""
MOST_GATHERED = 64 * 1024
"""Bytes gathered before they are written at once."""
MAX_PINGS = 16
"""Unanswered PINGs remembered; more are not sent."""
UNASKED = 1 << 20
"""Bytes of packets sent in all while the link asks the stack to wait; four times what UDP is allowed by its own bound,
and 16,000 acknowledgements."""
MOST_PARTS = 1 << 15
"""Commas in a CONTROL message: four times the routes that are believed. A megabyte of small parts would be 350,000 of
them, and stop everything else for half a second."""
UNREAD_ACKS = 64
"""Acknowledgements sent while the other end reads nothing; each stands for all before it, so later ones can wait."""


@dataclass(slots=True)
class LinkCounters:
    """What went over the link."""

    packets_in: int = 0
    """PACKET frames that came from the codespace."""
    packets_out: int = 0
    """PACKET frames sent to the codespace."""
    bytes_in: int = 0
    """Payload bytes of those that came."""
    bytes_out: int = 0
    """Payload bytes of those sent."""
    acks_in: int = 0
    """Acknowledgements that came."""
    acks_out: int = 0
    """Acknowledgements sent."""
    unwanted: int = 0
    """Packets that came before a stack was there."""
    oversized: int = 0
    """Packets the stack wanted to send that no frame can carry; dropped."""
    dropped: int = 0
    """Packets dropped because the other end takes nothing, or too slowly for what it asks."""
    too_late: int = 0
    """Packets the stack wanted to send when the link had ended; dropped."""
    acks_withheld: int = 0
    """Acknowledgements that waited because the other end reads nothing."""
    pongs_withheld: int = 0
    """PINGs left without an answer because the other end reads nothing."""
    window: int = 0
    """Bytes that may be in flight to the codespace at present."""
    in_flight: int = 0
    """Bytes that are in flight to the codespace at present."""
    cut_off: int = 0
    """How often the channel broke and the link waited for another."""
    resumed: int = 0
    """How often the link went on with another channel."""
    sent_again: int = 0
    """Packets sent once more because the channel had broken."""


def message_of(payload: memoryview) -> dict[str, Any]:
    """The agent's message in a CONTROL frame, whose texts are harmless. Untrusted; raises FrameError."""
    if bytes(payload).count(b",") > MOST_PARTS:
        raise FrameError("control message of too many parts")
    try:
        return harmless(parse_control(payload))
    except ValueError as error:  # a FrameError is one
        raise FrameError(f"{error}") from error


class _Nobody(ChannelUser):
    """Hears what a channel says that was given up: its end may be told when the link speaks on another already."""

    def data_received(self, data: memoryview) -> None:
        pass

    def burst_ended(self) -> None:
        pass

    def channel_ready(self) -> None:
        pass

    def channel_lost(self, error: Exception | None) -> None:
        pass


_NOBODY = _Nobody()


class FramedLink(Link, ChannelUser):
    """A Link whose far end is the agent's TUN."""

    def __init__(
        self, channel: Channel, *,
        on_control: Callable[[dict[str, Any]], None], on_lost: Callable[[Exception | None], None],
        soon: Callable[[Callable[[], None]], object],
        on_cut: Callable[[Exception | None], None] = lambda _error: None,
    ) -> None:  # fmt: skip
        """`on_control` gets each CONTROL message; `on_lost` the link's end, also when no stack was started on it;
        `on_cut` the end of a channel that the link outlives; `soon` calls back at the end of the event loop's turn
        (its `call_soon`).
        """
        self.channel = channel
        self.lasting = False
        """Whether the link outlives its channel."""
        self.carrying = True
        """Whether packets travel: not while the link is cut off."""
        self.heard_at = time.monotonic()
        """When anything came from the agent last."""
        self.said_at = 0.0
        """When a packet was sent to it last."""
        self._attached = True
        """Whether the channel can be spoken on."""
        self._soon = soon
        self._on_cut = on_cut
        self.rtt: float | None = None
        """Seconds the last answered PING took."""
        self._on_control = on_control
        self._on_lost = on_lost
        self._user: LinkUser | None = None
        self._decoder = Decoder()
        self._window = SendWindow()
        self._acks = AckCounter()
        self._kept: deque[tuple[int, bytes, Buffer]] = deque()
        """Packets not acknowledged: bytes sent up to and with this one, frame header and packet header, payload."""
        self._counters = LinkCounters()
        self._pings: deque[tuple[int, float, Callable[[float], None] | None]] = deque()
        self._ping_number = 0
        self._waiting = False
        self._rider = b""
        """An ACK that goes with the next packet of this burst: TCP acknowledges at the same moment, and each small
        message costs ssh, sshd and the agent a wake-up."""
        self._gathered: list[Buffer] = []
        self._gathered_bytes = 0
        self._unasked = 0
        """Bytes sent since the link last had room."""
        self._small_talk = SmallTalk()
        self._unread_acks = 0
        """Acknowledgements sent since the channel took something last."""
        self._over = False

    # Link

    def start(self, user: LinkUser) -> None:
        """Begin to deliver packets."""
        self._user = user

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        """Send one packet as a frame; dropped and counted when too much waits or it is larger than IP packets are."""
        length = len(header) + len(payload)
        if length > MAX_PACKET or self._over:
            if self._over:
                self._counters.too_late += 1
            else:
                self._counters.oversized += 1
            return
        window = self._window
        if self.carrying and window.sent - window.acked < window.size and self.channel.ready:
            self._unasked = 0
        elif self._unasked + length > UNASKED:
            self._counters.dropped += 1
            return
        else:
            self._unasked += length
        head = HEADER.pack(PACKET << 24 | length) + header
        now = self.said_at = time.monotonic()
        window.add(length, now)
        self._kept.append((window.sent, head, payload))
        self._counters.packets_out += 1
        self._counters.bytes_out += length
        if not self.carrying:
            return
        if self._rider:
            head = self._rider + head
            self._rider = b""
        if length < SMALL:
            self._gather(head, payload, length)
        else:
            self._write((head, payload) if payload else (head,))

    def _gather(self, head: bytes, payload: Buffer, length: int) -> None:
        """Keep a small frame until this turn of the event loop ends, to leave together with its like."""
        gathered = self._gathered
        first = not gathered
        gathered.append(head)
        if payload:
            gathered.append(payload)
        self._gathered_bytes += length
        if first:
            self._soon(self._flush)
        elif self._gathered_bytes > MOST_GATHERED:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._write(())

    @property
    def ready(self) -> bool:
        """Whether the window is open and the channel keeps up."""
        window = self._window
        if window.sent - window.acked < window.size and self.carrying and self.channel.ready:
            return True
        self._waiting = True
        return False

    def close(self) -> None:
        """End the link and the channel."""
        self._end(None)

    def fail(self, error: Exception) -> None:
        """End the link and the channel because of `error`."""
        self._end(error)

    # Another channel

    def cut(self, error: Exception | None) -> None:
        """The channel is of no use any more; the link is cut off if it is lasting, else it ends."""
        if not self.lasting:
            self._end(error)
        elif self._attached and not self._over:
            self._attached = False
            self._counters.cut_off += self.carrying
            self.carrying = False
            self._gathered.clear()
            self._gathered_bytes = 0
            self._rider = b""
            self._pings.clear()
            self.channel.start(_NOBODY)
            self.channel.close()
            if self._user is not None:
                self._user.burst_ended()  # of what came last
            self._on_cut(error)

    def attach(self, channel: Channel) -> None:
        """Speak on this channel from now on; packets wait for `resume`."""
        self.channel = channel
        self._decoder = Decoder()
        self._attached = True
        self.heard_at = time.monotonic()

    def detach(self, channel: Channel) -> None:
        """Nothing came of this channel: wait for another."""
        if self.channel is channel:
            self.cut(None)

    @property
    def silent(self) -> float:
        """Seconds since anything was heard."""
        return round(time.monotonic() - self.heard_at, 3)

    @property
    def taken(self) -> int:
        """PACKET payload bytes taken since the link began: what the agent is told for its resuming."""
        return self._acks.taken

    def resume(self, total: int) -> None:
        """The agent has taken `total` bytes: send the rest again, and go on. FrameError when that cannot be."""
        window, kept = self._window, self._kept
        window.restart(total, time.monotonic())
        while kept and kept[0][0] <= total:
            kept.popleft()
        begin = window.sent
        if kept:
            end, head, payload = kept[0]
            begin = end - len(payload) - (len(head) - HEADER_LEN)
        if begin != total:
            raise FrameError(f"no packet begins after {total} bytes")
        self._acks.told = self._acks.taken
        self._counters.resumed += 1
        self._counters.sent_again += len(kept)
        self.carrying = True
        again = [buffer for _, head, payload in kept for buffer in (head, payload)]
        if again:
            self.channel.write(again)
        self.channel_ready()

    # Beside the packets

    @property
    def counters(self) -> LinkCounters:
        """The counters, with the present state of the window."""
        self._counters.window = self._window.size
        self._counters.in_flight = self._window.in_flight
        return self._counters

    def send_control(self, message: dict[str, Any]) -> None:
        """Send a CONTROL message; LinkError when the link is gone, ValueError when the message is too large."""
        if self._over or not self._attached:
            raise LinkError("link_lost: the link is gone")
        self._write((control_frame(message),))

    def ping(self, answered: Callable[[float], None] | None = None) -> bool:
        """Send a PING; `answered(seconds)` is called by its PONG. False when too many are unanswered."""
        if self._over or not self.carrying or len(self._pings) >= MAX_PINGS:
            return False
        self._ping_number += 1
        self._pings.append((self._ping_number, time.monotonic(), answered))
        self._write((frame_header(PING, 8) + COUNT.pack(self._ping_number),))
        return True

    # ChannelUser

    def data_received(self, data: memoryview) -> None:
        """Take bytes of the agent's stdout."""
        if not self._attached:
            return
        self.heard_at = time.monotonic()
        user = self._user
        acks = self._acks
        counters = self._counters
        try:
            for kind, payload in self._decoder.feed(data):
                if not self.carrying and kind in {PACKET, ACK}:
                    raise FrameError("packets before the link is resumed")
                if kind == PACKET:
                    length = len(payload)
                    counters.packets_in += 1
                    counters.bytes_in += length
                    if user is not None:
                        user.packet_received(payload)
                    else:
                        counters.unwanted += 1
                    acks.taken += length
                    if acks.due(burst_ended=False):
                        self._acknowledge()
                elif kind == ACK:
                    counters.acks_in += 1
                    total = COUNT.unpack(payload)[0]
                    if total == self._window.acked:
                        self._small_talk.said(0, self.heard_at)
                    self._window.acknowledge(total, time.monotonic())
                    kept = self._kept
                    while kept and kept[0][0] <= total:
                        kept.popleft()
                else:
                    self._other(kind, payload)
                    user = self._user
                if not self._attached:
                    return
        except FrameError as error:
            self._end(LinkError(f"link_lost: the agent broke the protocol: {error}"))

    def burst_ended(self) -> None:
        """A good moment to acknowledge, and to let the stack go on."""
        if self._over or not self.carrying:
            return
        if self._acks.due(burst_ended=True) and self._heard():
            self._acks.told = self._acks.taken
            self._counters.acks_out += 1
            self._rider = ack_frame(self._acks.taken)
        if self._user is not None:
            self._user.burst_ended()
        if self._rider:
            self._write((self._rider,))
            self._rider = b""
        self.channel_ready()

    def channel_ready(self) -> None:
        """Tell the stack when it waits and may go on."""
        if self._over or not self.carrying:
            return
        if self._unread_acks > UNREAD_ACKS and self.channel.ready and self._acks.due(burst_ended=True):
            self._acknowledge()
        if self._waiting and self._user is not None and self._window.open and self.channel.ready:
            self._waiting = False
            self._user.link_ready()

    def channel_lost(self, error: Exception | None) -> None:
        """The channel ended by itself; for a link that is not lasting that is always a loss."""
        self.cut(error or LinkError("link_lost: the agent's stream ended"))

    def _other(self, kind: int, payload: memoryview) -> None:
        if kind == CONTROL:
            self._small_talk.said(len(payload), self.heard_at)
            self._on_control(message_of(payload))
        elif kind == PING:
            self._small_talk.said(0, self.heard_at)
            if self.channel.ready:  # who asks and does not read gets no answers piled up
                self._write((frame_header(PONG, 8) + bytes(payload),))
            else:
                self._counters.pongs_withheld += 1
        elif kind == PONG:
            if not self._pings or COUNT.unpack(payload)[0] != self._pings[0][0]:
                raise FrameError("a PONG without its PING")
            _, sent, answered = self._pings.popleft()
            self.rtt = time.monotonic() - sent
            if answered is not None:
                answered(self.rtt)

    def _heard(self) -> bool:
        """Whether an acknowledgement is worth sending: who sends and reads nothing gets none piled up."""
        if self.channel.ready:
            self._unread_acks = 0
        else:
            self._unread_acks += 1
            if self._unread_acks > UNREAD_ACKS:
                self._counters.acks_withheld += 1
                return False
        return True

    def _acknowledge(self) -> None:
        if not self._heard():
            return
        self._acks.told = self._acks.taken
        self._counters.acks_out += 1
        self._write((ack_frame(self._acks.taken),))

    def _write(self, buffers: Sequence[Buffer]) -> None:
        """Write to the channel, after what was gathered."""
        if self._gathered:
            buffers = (*self._gathered, *buffers)
            self._gathered.clear()
            self._gathered_bytes = 0
        if not self._over and self._attached:
            self.channel.write(buffers)

    def _end(self, error: Exception | None) -> None:
        if self._over:
            return
        self._flush()
        if self._over:
            return
        if error is not None and self._attached:
            # The agent would keep everything for the grace; where it can still hear, it is over for it as well.
            with contextlib.suppress(BufferError):
                self.channel.write((control_frame({"type": "stop"}),))
        self._over = True
        self.carrying = self._attached = False
        self._pings.clear()
        self._kept.clear()
        self.channel.close()
        self._on_lost(error)
        if self._user is not None:
            self._user.link_lost(error)
