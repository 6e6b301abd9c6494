"""The sending half: the queue of chunks, what is in flight, the peer's window, loss recovery and the persist timer.

Data stays in the chunks it came in (what one read of a host socket returned), from `unsent` to `sent` to acknowledged;
only small chunks are joined, so that a chunk of up to 64 KiB leaves as one super-segment without a copy. A
retransmission timeout moves everything in flight back to `unsent` and goes on from SND.UNA (go-back-N, as BSD does):
an acknowledgement that then jumps ahead drops what the peer already has. Lost segments are sent again by RFC 6675 from
what the peer reports to hold (:mod:`.scoreboard`), and to a peer without SACK by RFC 5681 and RFC 6582.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from .congestion import CongestionControl
from .rto import MAX_RTO, MIN_RTO, RtoEstimator
from .scoreboard import DUPLICATE_THRESHOLD, Scoreboard
from .segment import ACK, FIN, PSH, Block
from .seq import HALF, MASK, add

Chunk = bytes | memoryview
Piece = tuple[int, int, Chunk]
"""What to send: sequence number, flags, payload."""

JOIN_BELOW = 16 * 1024
"""Chunks smaller than this are joined with what follows: a copy costs less than one more packet."""


class Sender:
    """Sequence space and buffers of the data that goes out."""

    __slots__ = (
        "_first_hole", "_longest_persist", "board", "cc", "deadline", "duplicates", "fin_end", "fin_queued",
        "fin_sent", "in_recovery", "iss", "largest", "max_payload", "max_wnd", "mss", "nxt", "persisting", "queued",
        "recover", "retransmit_now", "retransmitted", "retries", "rtt", "sack", "scale", "sent", "una", "unsent",
        "wl1", "wl2", "wnd",
    )  # fmt: skip

    def __init__(
        self, iss: int, mss: int, max_payload: int, cc: CongestionControl, min_rto: float = MIN_RTO,
        longest_persist: float = MAX_RTO,
    ) -> None:  # fmt: skip
        self.iss = iss
        self.una = iss
        """SND.UNA."""
        self.nxt = iss
        """SND.NXT; goes back to SND.UNA at a retransmission timeout."""
        self.largest = iss
        """The highest sequence number ever sent (exclusive): what an acknowledgement may cover."""
        self.wnd = 0
        """SND.WND in bytes."""
        self.max_wnd = 0
        """The largest window the peer ever showed (MAX.SND.WND of RFC 5961)."""
        self.wl1 = 0
        self.wl2 = 0
        self.scale = 0
        """The peer's shift."""
        self.mss = mss
        """Payload of one segment on the wire; a super-segment is a multiple of it."""
        self.max_payload = max_payload
        """Payload of the largest packet handed to the link: one segment, or the largest super-segment."""
        self.cc = cc
        self.rtt = RtoEstimator(minimum=min_rto)
        self._longest_persist = longest_persist
        self.unsent: deque[Chunk] = deque()
        self.sent: deque[Chunk] = deque()
        self.queued = 0
        """Bytes in `unsent`."""
        self.fin_queued = False
        self.fin_sent = False
        self.fin_end: int | None = None
        """The sequence number after our FIN, once it was sent for the first time."""
        self.deadline = inf
        """When the retransmission or persist timer expires."""
        self.persisting = False
        """The deadline is the persist timer's."""
        self.retries = 0
        """Expiries in a row without an answer."""
        self.duplicates = 0
        self.sack = False
        """Both sides use selective acknowledgements."""
        self.board: Scoreboard | None = None
        """What the peer holds beyond SND.UNA; None while there is nothing."""
        self.in_recovery = False
        self._first_hole = False
        """The first hole of this recovery is still to be sent."""
        self.recover = iss
        """RFC 6582's recover: where recovery ends."""
        self.retransmit_now = False
        """Fast retransmit: the first segment of `sent` is to be sent again."""
        self.retransmitted = 0
        """Segments sent again, for the counters."""

    @property
    def flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return (self.nxt - self.una) & MASK

    @property
    def room(self) -> int:
        """Bytes that would leave at once if they were written now."""
        if self.board is not None:
            return self._usable() - self.queued
        limit = self.wnd if self.wnd < self.cc.cwnd else self.cc.cwnd
        return limit - ((self.nxt - self.una) & MASK) - self.queued

    @property
    def wants_to_send(self) -> bool:
        """Whether `transmit` would send something now."""
        if self.unsent:
            return self.retransmit_now or self.sendable
        return self.retransmit_now or (self.fin_queued and self._fin_fits)

    @property
    def _fin_fits(self) -> bool:
        """Whether the FIN is what comes next, and within the window.

        Beyond it the peer would drop it, and our later acknowledgements, which bear a higher number, as well.
        """
        return not self.fin_sent and not self.unsent and ((self.nxt - self.una) & MASK) < self.wnd

    @property
    def _waits(self) -> bool:
        """Whether something is to be sent that the window does not take (not: that the link has no room for)."""
        return bool(self.unsent or (self.fin_queued and not self.fin_sent)) and not self.wants_to_send

    @property
    def sendable(self) -> bool:
        """Whether `transmit` would send data now."""
        if not self.unsent:
            return False
        usable = self._usable()
        return usable >= self.mss or usable >= self.queued or self._worth_sending(usable)

    def _usable(self) -> int:
        """Bytes that both windows take now."""
        flight = (self.nxt - self.una) & MASK
        if self.board is not None and self.in_recovery:
            pipe = self.board.pipe(flight, self._enough, head_lost=True)
            return min(self.wnd - flight, self.cc.cwnd - pipe)
        return min(self.wnd, self.cc.cwnd) - flight

    @property
    def _enough(self) -> int:
        """Bytes reported above a hole that make it lost: two packets, as the link's may be super-segments."""
        return (DUPLICATE_THRESHOLD - 1) * self.max_payload

    def write(self, data: bytes) -> None:
        """Queue a chunk. It is kept, not copied."""
        self.unsent.append(data)
        self.queued += len(data)

    # -- what came back

    def acked(self, ack: int, now: float) -> int:
        """Take an acknowledgement with SND.UNA < `ack` <= `largest`; returns the sequence numbers newly covered."""
        before = self.nxt - self.una & MASK
        count = (ack - self.una) & MASK
        self.una = ack
        ahead = (self.nxt - ack) & HALF  # of what was sent again after a timeout: the first copies did arrive
        if ahead:
            self.nxt = ack
        self._drop(count)
        if ahead and self.cc.stalls and self.sack:
            self._resume()
        board = self.board
        if board is not None:
            board.advance(count)
            if not board:
                board = self.board = None
        if ack == self.fin_end:
            self.fin_sent = True  # the peer has it, though a timeout meanwhile put it back to be sent again
        rtt = self.rtt
        rtt.acked(ack, now)
        self.retries = 0
        self.persisting = False
        self.deadline = now + rtt.rto if self.nxt != ack else inf
        if not self.in_recovery:
            self.duplicates = 0
            self.cc.acked(count, before)
            if not (ack - self.recover) & HALF:
                self.recover = ack  # kept near: 2 GiB behind it would look like ahead
        elif (ack - self.recover) & HALF:
            # RFC 6582, section 3.2, step 3: the next hole is lost as well. With SACK and nothing reported beyond it, it
            # may only be late; one segment of it is then what RFC 6675 calls a rescue.
            if not self.sack:
                self.cc.partial(count)
            self.retransmit_now = True
        else:
            self.in_recovery = self.retransmit_now = False
            self.duplicates = 0
            self.cc.leave_recovery(self.flight)
        return count

    def take_sacks(self, blocks: Sequence[Block]) -> bool:
        """Note what the peer reports to hold; whether that is news."""
        # After a timeout everything is sent again in order, whatever was reported before (RFC 2018, section 8).
        if not self.sack or self.nxt != self.largest or self.nxt == self.una:
            return False
        board = self.board or Scoreboard(self.una)
        if not board.take(blocks, self.flight, self.flight - self.fin_sent):
            return False
        self.board = board
        return True

    def duplicate(self) -> None:
        """An acknowledgement that covers nothing new while data is in flight (RFC 5681, section 2).

        With SACK: one that reports something new (RFC 6675, section 2).
        """
        self.duplicates += 1
        board = self.board
        if self.in_recovery:
            if board is None:
                self.cc.duplicate()
            else:
                self.retransmit_now = True
        elif not (self.una - self.recover) & HALF and (
            self.duplicates >= DUPLICATE_THRESHOLD
            or (board is not None and board.next_hole(self._enough, head_lost=False, any_hole=False) is not None)
        ):
            self._enter_recovery()

    def _enter_recovery(self) -> None:
        self.in_recovery = True
        self.recover = self.largest
        self.retransmit_now = self._first_hole = True
        self.cc.enter_recovery(self.flight)
        if self.board is not None:
            self.board.high_rxt = self.board.base
        else:
            for _ in range(DUPLICATE_THRESHOLD):  # as many segments have left the network (RFC 5681, section 3.2)
                self.cc.duplicate()

    def update_window(self, seq: int, ack: int, window: int, now: float) -> None:
        """Take the window if the segment is newer than the one that set it last (RFC 9293, section 3.10.7.4)."""
        if (self.wl1 - seq) & HALF or (self.wl1 == seq and not (ack - self.wl2) & HALF):
            if self.persisting and window > self.wnd:
                self.persisting = False
                self.deadline = now + self.rtt.rto if self.nxt != self.una else inf
                self.retries = 0
                self.rtt.rto = self.rtt.base
            self.wnd = window
            if window > self.max_wnd:
                self.max_wnd = window
            self.wl1 = seq
            self.wl2 = ack

    def _drop(self, count: int) -> None:
        """Forget `count` acknowledged bytes, first of what is in flight, then of what was put back by a timeout."""
        sent = self.sent
        while count and sent:
            head = sent[0]
            size = len(head)
            if size > count:
                sent[0] = memoryview(head)[count:]
                return
            sent.popleft()
            count -= size
        unsent = self.unsent
        while count and unsent:
            head = unsent[0]
            size = len(head)
            if size > count:
                unsent[0] = memoryview(head)[count:]
                self.queued -= count
                return
            unsent.popleft()
            self.queued -= size
            count -= size

    # -- what goes out

    def transmit(self, now: float, quantum: int) -> list[Piece]:
        """The segments to send now, at most about `quantum` bytes of payload; 0: only see to the persist timer."""
        pieces: list[Piece] = []
        if self.retransmit_now and quantum > 0:
            self.retransmit_now = False
            if self.board is None:
                self._fast_retransmit(pieces, now)
            else:
                quantum = self._fill_holes(self.board, pieces, now, quantum)
        limit = self.wnd if self.wnd < self.cc.cwnd else self.cc.cwnd
        while self.unsent and quantum > 0:
            usable = limit - ((self.nxt - self.una) & MASK) if self.board is None else self._usable()
            if usable < self.mss and usable < self.queued and not self._worth_sending(usable):
                break
            payload = self._next_payload(usable if usable < self.max_payload else self.max_payload)
            size = len(payload)
            pieces.append((self.nxt, ACK if self.unsent else ACK | PSH, payload))
            quantum -= size
            self.queued -= size
            self.sent.append(payload)
            self._advance(size, now)
        if self.fin_queued and quantum > 0 and self._fin_fits:
            self.fin_sent = True
            seq, flags, payload = pieces[-1] if pieces else (0, 0, b"")
            if payload and (seq + len(payload)) & MASK == self.nxt:
                pieces[-1] = (seq, flags | FIN, payload)
            else:
                pieces.append((self.nxt, ACK | FIN, b""))
            self._advance(1, now)
            self.fin_end = self.nxt
        if self.deadline == inf and self.nxt == self.una and self._waits:
            # The window is closed (or silly) with nothing in flight whose answer could tell of its opening: probe
            # from RTO on, doubling (RFC 9293, section 3.8.6.1).
            self.persisting = True
            self.deadline = now + self.rtt.rto
        return pieces

    def _worth_sending(self, usable: int) -> bool:
        """Sender's silly-window avoidance (RFC 9293, section 3.8.6.2.1) for less than a segment and than the queue."""
        return usable > 0 and usable * 2 >= self.max_wnd

    def _advance(self, size: int, now: float) -> None:
        nxt = (self.nxt + size) & MASK
        if (self.largest - nxt) & HALF:
            if self.nxt == self.largest and not self.rtt.timing:
                self.rtt.start_timing(nxt, now)
            self.largest = nxt
        else:
            self.retransmitted += 1
        self.nxt = nxt
        if self.deadline == inf or self.persisting:
            self.persisting = False
            self.deadline = now + self.rtt.rto

    def _next_payload(self, room: int) -> Chunk:
        unsent = self.unsent
        head = unsent[0]
        size = len(head)
        if size > room:
            view = memoryview(head)
            unsent[0] = view[room:]
            return view[:room]
        unsent.popleft()
        if size >= JOIN_BELOW or not unsent or size == room:
            return head
        parts = [head]
        while unsent and size < room:
            head = unsent[0]
            more = len(head)
            if size + more > room:
                view = memoryview(head)
                parts.append(view[: room - size])
                unsent[0] = view[room - size :]
                break
            parts.append(unsent.popleft())
            size += more
        return b"".join(parts)

    def _fast_retransmit(self, pieces: list[Piece], now: float) -> None:
        self.rtt.stop_timing()
        if self.sent:
            head = self.sent[0]
            payload: Chunk = head if len(head) <= self.mss else memoryview(head)[: self.mss]
            # A FIN that left on this very segment goes along when nothing follows it.
            last = self.fin_sent and len(self.sent) == 1 and len(payload) == len(head)
            pieces.append((self.una, ACK | FIN if last else ACK, payload))
        elif self.fin_sent and self.una != self.nxt:
            pieces.append((self.una, ACK | FIN, b""))
        else:
            return
        self.retransmitted += 1
        self.deadline = now + self.rtt.rto

    def _fill_holes(self, board: Scoreboard, pieces: list[Piece], now: float, quantum: int) -> int:
        """Send again what is lost, as far as the congestion window lets (RFC 6675, section 5, step C).

        Returns what is left of the quantum. When the window stops it, the next acknowledgement goes on.
        """
        self.rtt.stop_timing()
        flight, enough = self.flight, self._enough
        data = flight - self.fin_sent
        while (hole := board.next_hole(enough, head_lost=True, any_hole=not self.unsent)) is not None:
            if quantum <= 0:
                self.retransmit_now = True
                break
            room = self.cc.cwnd - board.pipe(flight, enough, head_lost=True)
            if room < self.mss and not self._first_hole:
                break
            self._first_hole = False  # it alone does not ask (step 4.3)
            start, end = hole
            payload = self._copy(start - board.base, min(end - start, self.max_payload, max(room, self.mss)))
            board.high_rxt = start + len(payload)
            # A hole ends where the peer holds something, so the FIN, which is behind all data, is never in one.
            pieces.append((start & MASK, ACK | PSH if board.high_rxt - board.base == data else ACK, payload))
            quantum -= len(payload)
            self.retransmitted += 1
            self.deadline = now + self.rtt.rto
        return quantum

    def _copy(self, offset: int, size: int) -> Chunk:
        """`size` bytes in flight from `offset` behind SND.UNA on."""
        parts: list[Chunk] = []
        for chunk in self.sent:
            if offset >= len(chunk):
                offset -= len(chunk)
                continue
            part = memoryview(chunk)[offset : offset + size]
            parts.append(part)
            size -= len(part)
            offset = 0
            if not size:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- the timer

    def expire(self, now: float) -> bool:
        """The timer expired: prepare what it asks for. True when a window probe is to be sent by the caller."""
        self.retries += 1
        self.rtt.back_off()
        if self.persisting:
            self.deadline = now + min(self.rtt.rto, self._longest_persist)
            if self.wnd > 0 and self.unsent:
                # A silly window did not open further: use what there is (RFC 1122's override time-out).
                self._force(now)
                return False
            return True
        self.cc.timeout(self.flight, again=self.retries > 1)
        self.go_back()
        self.deadline = inf
        return False

    def go_back(self) -> None:
        """Put what is in flight back to be sent again from SND.UNA."""
        self.rtt.stop_timing()
        self.recover = self.largest
        self.in_recovery = False
        self.board = None
        self.duplicates = 0
        self.retransmit_now = False
        while self.sent:
            chunk = self.sent.pop()
            self.unsent.appendleft(chunk)
            self.queued += len(chunk)
        self.nxt = self.una
        self.fin_sent = False

    def _force(self, now: float) -> None:
        """Let the next `transmit` send into a silly window."""
        self.max_wnd = self.wnd
        self.persisting = False
        self.deadline = inf

    def _resume(self) -> None:
        """Take what `go_back` put back as being on its way: on this link it is delayed, most likely, and not lost.

        What is lost of it the peer's reports tell (RFC 6675), which may begin recovery at once.
        """
        self.recover = self.una
        unsent = self.unsent
        data = ((self.largest - self.nxt) & MASK) - (self.fin_end == self.largest)
        while data > 0:
            head = unsent[0]
            if len(head) > data:
                view = memoryview(head)
                unsent[0], head = view[data:], view[:data]
            else:
                unsent.popleft()
            self.sent.append(head)
            self.queued -= len(head)
            data -= len(head)
        self.fin_sent = self.fin_end == self.largest
        self.nxt = self.largest

    def probe_seq(self) -> int:
        """The sequence number of a window or keepalive probe: one the peer has already taken, so that it answers."""
        return add(self.una, -1)

    def release(self) -> None:
        """The connection ended: let go of the data."""
        self.unsent.clear()
        self.sent.clear()
        self.board = None
        self.queued = 0
        self.deadline = inf
        self.retransmit_now = False
