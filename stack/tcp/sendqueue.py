"""The sequence space and the chunks of the data that goes out: queued, in flight, acknowledged.

Data stays in the chunks it came in (what one read of a host socket returned), from `unsent` to `sent` to acknowledged;
only small chunks are joined, so that a chunk of up to 64 KiB leaves as one super-segment without a copy.

When something was sent for the first time, a log of runs tells: what leaves within a sixteenth of a round trip is one
run, so a burst costs one entry however many packets it is, and what leaves when nothing is in flight costs none.
Positions in it are sequence numbers without the wrap, counted from the first byte of the connection.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf

from .congestion import CongestionControl
from .prr import Prr
from .rack import Rack
from .rto import MAX_RTO, MIN_RTO, RtoEstimator
from .scoreboard import Scoreboard
from .segment import ACK
from .seq import MASK

Chunk = bytes | memoryview
Piece = tuple[int, int, Chunk]
"""What to send: sequence number, flags, payload."""

JOIN_BELOW = 16 * 1024
"""Chunks smaller than this are joined with what follows: a copy costs less than one more packet."""

KEEP_APART = 4096
"""Sent chunks smaller than this are kept as one: an object for each tiny one costs twenty times its bytes."""

RUNS_A_ROUND = 16
SHORTEST_RUN, LONGEST_RUN = 0.00025, 0.001
"""Seconds: a run is a sixteenth of the round trip, a quarter of RACK's reordering window, within these."""
RUNS_SHIFT = 8
"""Whenever so many more runs (256) are in flight, runs become twice as long: a link that stands still is no leak."""

OPEN, RECOVERY, ASKING, REPAIR = range(4)
"""Phases: nothing is known to be lost; losses are repaired (RFC 6675); the retransmission timer expired, and its one
segment is a question; and, after an answer that shows that all was lost, all is sent again in slow start."""


NOTHING = -1.0

ACK_CWR = ACK | 0x80
"""New data that says that the sender has reacted to ECN (RFC 3168, section 6.1.2)."""


class SendQueue:
    """The state of the sending half, and what is done to its queue."""

    __slots__ = (
        "_cwr_end", "_data_flags", "_delivered", "_first_run_at", "_forced", "_full_at", "_longest_persist", "_moved",
        "_probe_end", "_probe_flight", "_probing", "_reports", "_rescued", "_run_at", "_run_starts", "_run_times",
        "_run_until", "_undo_copies", "_undo_since", "base", "board", "cc", "deadline", "duplicates", "fin_queued",
        "fin_sent", "iss", "look_at", "max_payload", "max_wnd", "mss", "nagle", "nxt", "persisting", "phase",
        "progress_at", "prr", "queued", "rack", "recover", "retransmit_now", "retransmitted", "retries", "rtt",
        "sack", "scale", "sent", "una", "undone", "unsent", "wl1", "wl2", "wnd",
    )  # fmt: skip

    def __init__(
        self, iss: int, mss: int, max_payload: int, cc: CongestionControl, min_rto: float = MIN_RTO,
        longest_persist: float = MAX_RTO, *, nagle: bool = False,
    ) -> None:  # fmt: skip
        self.iss = iss
        self.una = iss
        """SND.UNA."""
        self.nxt = iss
        """SND.NXT: the highest sequence number ever sent (exclusive), for it never goes back."""
        self.base = 0
        """The position of SND.UNA: what was acknowledged in all."""
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
        self.nagle = nagle
        """A small segment waits while others are in flight (RFC 9293, section 3.7.4)."""
        self.unsent: list[Chunk] = []
        self.sent: list[Chunk] = []
        self.queued = 0
        """Bytes in `unsent`."""
        self.fin_queued = False
        self.fin_sent = False
        self._data_flags = ACK
        """Of the next new data: ACK, and CWR after a reaction to ECN."""
        self._cwr_end = 0
        """The position up to which data had been sent at the last reaction to ECN."""
        self._first_run_at = 0.0
        """When the first run in flight was sent, which may begin before SND.UNA."""
        self._run_starts: list[int] = []
        """The position at which each later run in flight begins."""
        self._run_times: list[float] = []
        """When each of these was sent."""
        self._run_at = inf
        """When the last run began, whether or not it is in flight still; inf: nothing was ever sent."""
        self._run_until = -inf
        """What is sent later begins another run."""
        self._full_at = 0
        """The position up to which data had been sent when the congestion window was last made full use of."""

        self.deadline = inf
        """When the retransmission or persist timer expires."""
        self.persisting = False
        """The deadline is the persist timer's."""
        self.retries = 0
        """Expiries in a row without an answer."""
        self.progress_at = inf
        """When something was last acknowledged, or when what waits began to wait."""
        self.look_at = inf
        """When `look` wants to be called: RACK's reordering timer, or that of the tail loss probe."""

        self.sack = False
        """Both sides use selective acknowledgements."""
        self.phase = OPEN
        self.board: Scoreboard | None = None
        """What is known of the data in flight; None while nothing is, in phase OPEN only."""
        self.rack: Rack | None = None
        """Made at the first report of the peer."""
        self.prr: Prr | None = None
        """In RECOVERY, where there is a congestion window."""
        self.duplicates = 0
        self.recover = 0
        """RFC 6582's recover: the position where this phase ends."""
        self.retransmit_now = False
        """There is news about losses, or something to send because of them: `transmit` is to be called."""
        self.retransmitted = 0
        """Packets sent again, for the counters."""
        self.undone = 0
        """Recoveries and timeouts that were needless, and undone, for the counters."""
        self._delivered = 0
        """Bytes acknowledged or reported since losses were last looked at."""
        self._moved = False
        """SND.UNA moved on since then."""
        self._forced = False
        """The next copy leaves whatever the congestion window says."""
        self._rescued = False
        """RFC 6675's rescue retransmission was used in this recovery."""
        self._undo_since = NOTHING
        """When the first copy since the window was last reduced left; inf: not yet; negative: nothing to undo."""
        self._undo_copies = 0
        """Bytes of copies since then that the peer has not reported as needless."""
        self._probing = False
        """A tail loss probe is to be sent."""
        self._probe_end = -1
        """The position after the tail loss probe in flight; -1: none."""
        self._probe_flight = 0
        """What was in flight when it left, if it was a copy; else 0."""
        self._reports = 0
        """Copies the peer has reported as needless, in all."""

    @property
    def flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return (self.nxt - self.una) & MASK

    @property
    def in_recovery(self) -> bool:
        """Losses are being repaired that reports or duplicate acknowledgements told of."""
        return self.phase == RECOVERY

    @property
    def waiting_since(self) -> float:
        """Clock time since which data or the FIN waits for an acknowledgement, or for a window, without any progress;
        inf when nothing waits.
        """
        return inf if self.deadline == inf else self.progress_at

    def write(self, data: bytes) -> None:
        """Queue a chunk. It is kept, not copied."""
        self.unsent.append(data)
        self.queued += len(data)

    def _keep_sent(self, payload: Chunk) -> None:
        """Keep what has just left until it is acknowledged."""
        sent = self.sent
        if sent and len(payload) < KEEP_APART and len(sent[-1]) < KEEP_APART:
            sent[-1] = b"".join((sent[-1], payload))
        else:
            sent.append(payload)

    def _drop(self, count: int) -> None:
        """Forget `count` acknowledged sequence numbers."""
        sent = self.sent
        if len(sent) == 1 and len(sent[0]) <= count:
            sent.clear()
            return
        done = 0
        for chunk in sent:
            size = len(chunk)
            if size > count:
                if count:
                    sent[done] = memoryview(chunk)[count:]
                break
            done += 1
            count -= size
        if done:
            del sent[:done]

    def _next_payload(self, room: int) -> Chunk:
        unsent = self.unsent
        head = unsent[0]
        size = len(head)
        if size > room:
            view = memoryview(head)
            unsent[0] = view[room:]
            return view[:room]
        if size >= JOIN_BELOW or len(unsent) == 1 or size == room:
            del unsent[0]
            return head
        size = done = 0
        for chunk in unsent:
            size += len(chunk)
            if size > room:
                break
            done += 1
        parts = unsent[:done]
        del unsent[:done]
        if size > room:
            view = memoryview(unsent[0])
            cut = len(view) - (size - room)
            if cut:
                parts.append(view[:cut])
                unsent[0] = view[cut:]
        return b"".join(parts)

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

    # -- when it was sent

    def _begin_run(self, now: float) -> None:
        """What is sent next begins a run, unless the last one began in this very moment."""
        before, self._run_at = self._run_at, now
        if self.nxt == self.una:
            self._first_run_at = now
            self._run_until = now + SHORTEST_RUN
            if self._run_starts:
                self._run_starts.clear()
                self._run_times.clear()
            return
        if before == now:
            return
        starts = self._run_starts
        length = min(max(self.rtt.srtt / RUNS_A_ROUND, SHORTEST_RUN), LONGEST_RUN)
        self._run_until = now + length * (1 << (len(starts) >> RUNS_SHIFT))
        starts.append(self.base + ((self.nxt - self.una) & MASK))
        self._run_times.append(now)

    def _end_runs(self) -> None:
        """Forget the runs that are wholly acknowledged."""
        done = bisect_right(self._run_starts, self.base)
        if done:
            self._first_run_at = self._run_times[done - 1]
            del self._run_starts[:done], self._run_times[:done]

    def _sent_at(self, position: int) -> float:
        """When the byte at this position in flight was sent for the first time."""
        index = bisect_right(self._run_starts, position)
        return self._run_times[index - 1] if index else self._first_run_at

    def _sent_until(self, at: float, end: float) -> int:
        """The position up to which all in flight had been sent for the first time at that time; of the run of that very
        moment, what lies before `end`.
        """
        if at < self._first_run_at:
            return self.base
        starts, times = self._run_starts, self._run_times
        index = bisect_right(times, at)
        until = starts[index] if index < len(starts) else self.base + self.flight
        if end < until and at == (times[index - 1] if index else self._first_run_at):
            return max(starts[index - 1] if index else self.base, int(end))
        return until
