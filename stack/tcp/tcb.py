"""The transmission control block: what a connection is, apart from what happens to it (RFC 9293, section 3.3.1).

The three kinds of events of section 3.10 work on it in classes of their own: segments that arrive in :mod:`.arrival`,
the user's calls and the timeouts in :mod:`.connection`.
"""

from __future__ import annotations

from math import inf

from .budget import Budget
from .challenge import ChallengeLimit
from .config import TcpConfig
from .counters import TcpCounters
from .receiver import Receiver
from .segment import DEFAULT_MSS_V4, STAMP_LEN, Block, Segment
from .sender import Sender
from .states import TRANSITIONS, Event, State
from .timestamps import Stamps
from .user import ConnectionUser

CLOSED = State.CLOSED
TIME_WAIT = State.TIME_WAIT


class ControlBlock:
    """The state of one connection, and how it ends. Its key and addresses are its owner's business."""

    __slots__ = (
        "_ack_due", "_ack_every", "_ack_now", "_challenge_at", "_challenges", "_config", "_counters", "_default_mss",
        "_delayed_ack_at", "_duplicate", "_echo", "_end_told_later", "_eof_told", "_fin_early", "_fin_received",
        "_heard_at", "_keepalive", "_life_until", "_probe", "_probed_at", "_probes", "_quick", "_repeats", "_reset",
        "_retry_at", "_syn_again", "_syn_tries", "_user", "ecn", "fin_seq", "mss", "path_mss", "receiver", "sender",
        "stamps", "state", "user_timeout",
    )  # fmt: skip

    def __init__(
        self, config: TcpConfig, budget: Budget, user: ConnectionUser, *, iss: int, mss: int, max_payload: int,
        default_mss: int = DEFAULT_MSS_V4, counters: TcpCounters | None = None,
        challenges: ChallengeLimit | None = None, stamps: Stamps | None = None,
    ) -> None:  # fmt: skip
        """`mss`: what we take, and at most send, in a segment; `max_payload`: the largest payload the link takes;
        `default_mss`: what a peer takes that does not say; `stamps`: used if the peer agrees.
        """
        self._config = config
        self._counters = counters or TcpCounters()
        self._user = user
        self.state = CLOSED
        self.mss = mss
        self.path_mss = mss
        """What the path is known to take at most."""
        self._default_mss = default_mss
        self.user_timeout = config.user_timeout
        """Seconds that something may wait for the peer; 0: any time (RFC 5482)."""
        self._ack_every = min(2 * mss, config.receive_window // 2)
        """Bytes after which an acknowledgement is sent at once: two segments (RFC 9293, section 3.8.6.3), or half of
        the smallest window if that is less, lest the peer wait for the timer with its window full."""
        self.sender = Sender(
            iss, mss, max_payload, config.congestion(mss), config.min_rto, config.longest_persist, nagle=config.nagle
        )
        self.receiver = Receiver(config, budget, user.data_received)
        self.fin_seq = 0
        self._fin_received = False
        self._fin_early = False
        """A FIN came before some of the data in front of it."""
        self._end_told_later = False
        """The connection is over, in order, but its user has not taken all data yet."""
        self._eof_told = False
        self._ack_now = False
        self._ack_due = 0
        """Bytes received and not yet acknowledged."""
        self._delayed_ack_at = inf
        self._syn_again = False
        self._syn_tries = 0
        self._retry_at = inf
        """When the SYN or SYN-ACK is sent again."""
        self._life_until = inf
        """End of TIME-WAIT, of FIN-WAIT-2, or of the patience with an orphan or with a user that takes no data."""
        self._heard_at = inf
        self._keepalive = config.keepalive
        self._probes = 0
        """Keepalive probes without an answer."""
        self._probed_at = inf
        self._probe = False
        self._challenge_at = -inf
        self._challenges = challenges or ChallengeLimit(config.challenge_limit)
        self.stamps = stamps
        """Timestamps; from the peer's SYN on None unless both sides use them."""
        self.ecn = False
        """Both sides understand ECN; before the peer answered our SYN, whether it asks for it."""
        self._echo = 0
        """ECE while the peer has to hear of a mark, else 0: in the flags of all we send (RFC 3168, section 6.1.3)."""
        self._quick = 0
        """Acknowledgements still to be sent without delay."""
        self._duplicate: Block | None = None
        """What came twice and was not reported yet (RFC 2883)."""
        self._repeats = 0
        """Early segments that a peer without SACK counts the duplicate acknowledgements of."""
        self._reset: Segment | None = None

    def __repr__(self) -> str:
        return (
            f"<Connection {self.state.value} una={self.sender.una} nxt={self.sender.nxt} wnd={self.sender.wnd}"
            f" rcv={self.receiver.nxt} flight={self.sender.flight} queued={self.sender.queued}>"
        )

    @property
    def option_bytes(self) -> int:
        """Bytes of options that every segment carries, and that its payload therefore must leave free (RFC 6691)."""
        return STAMP_LEN if self.stamps is not None else 0

    def fire(self, event: Event) -> None:
        """Move by the table; the only place that changes the state."""
        self.state = TRANSITIONS[self.state, event]

    # -- the end

    def _tell_eof(self) -> None:
        if not self._eof_told and not self.receiver.backlog_bytes:
            self._eof_told = True
            self._user.eof_received()

    def _enter_time_wait(self, now: float) -> None:
        self.sender.release()
        self._life_until = now + self._config.time_wait

    def _forgotten(self, now: float) -> None:
        """The peer knows nothing of this connection any more, after an orderly end of its side: the user has its time
        for what it has not taken, counted from when it last took some.
        """
        self._end(None)
        if self._end_told_later:
            self._life_until = now + self._config.orphan

    def _end(self, error: OSError | None, *, tell: bool = True) -> None:
        if self.state is not CLOSED:
            self.fire(Event.TIMEOUT_2MSL if self.state is TIME_WAIT and error is None and tell else Event.ABORT)
        self.sender.release()
        if error is None and tell and self.receiver.backlog_bytes:
            self._end_told_later = True  # an orderly end: the user first gets what it has not read
            tell = False
        else:
            self.receiver.release()
        self._ack_now = self._syn_again = self._probe = False
        self._delayed_ack_at = self._retry_at = self._life_until = inf
        self._keepalive = 0.0
        if tell:
            self._user.closed(error)
