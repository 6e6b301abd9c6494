"""What a peer may answer, true or not, beside a model of plain numbers: what was written leaves, and it gets through.

Hypothesis makes the story: writes, segments that vanish, acknowledgements, reports and windows that are right, old,
invented or taken back, time that passes. After each step whatever left is compared with what was written and with the
windows shown; something is always going to happen while data waits; and when the peer becomes honest in the end,
everything arrives.
"""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import CongestionControl, NewReno, Unlimited
from netbridge.stack.tcp.cubic import Cubic
from netbridge.stack.tcp.seq import MASK

from .conversation import OUR_ISN, Talk

TEXT = Random(0).randbytes(1 << 18)
"""What is written; position 1 is its first byte, as the sequence number counts."""


class Story(RuleBasedStateMachine):
    """A connection that sends, and a peer that says what it likes."""

    talk: Talk

    @initialize(
        control=st.sampled_from((NewReno, Cubic, Unlimited)),
        window=st.sampled_from((500, 3_000, 60_000)),
        payload=st.sampled_from((1000, 8000)),
        sack=st.booleans(),
        nagle=st.booleans(),
    )
    def opens(self, control: type[CongestionControl], window: int, payload: int, sack: bool, nagle: bool) -> None:
        config = TcpConfig(congestion=control, nagle=nagle, retries=10_000, persist_retries=10_000)
        self.talk = Talk.established(config, window=window, max_payload=payload, sack=sack)
        self.sack = sack
        self.written = 1
        """The position after all that was written."""
        self.sent = 1
        """The position after all that left."""
        self.edge = 1 + window
        """The farthest right edge that was ever shown."""
        self.got = bytearray(len(TEXT))
        """1 where the peer has the byte of that position."""
        self.vanish = 0
        """Segments that are to be lost next."""

    # -- what happens

    @rule(size=st.integers(1, 6000))
    def writes(self, size: int) -> None:
        self.talk.writes(TEXT[self.written - 1 : self.written - 1 + size])
        self.written += size

    @rule(count=st.integers(1, 5))
    def segments_vanish(self, count: int) -> None:
        self.vanish = count

    @rule(window=st.sampled_from((0, 100, 700, 3_000, 60_000)))
    def the_peer_tells_the_truth(self, window: int) -> None:
        self._says(self._whole, window, self._held if self.sack else [])

    @rule(
        ack=st.integers(-2_000, 2_000), window=st.sampled_from((0, 1, 999, 5_000)),
        reports=st.lists(st.tuples(st.integers(-3_000, 9_000), st.integers(1, 3_000)), max_size=3),
    )  # fmt: skip
    def the_peer_says_anything(self, ack: int, window: int, reports: list[tuple[int, int]]) -> None:
        """It may acknowledge only what left, or it would have to be believed about bytes that it does not have."""
        ack = min(max(self._whole + ack, 0), self._whole) if ack < 0 else min(self._whole, self._una + ack)
        self._says(ack, window, [(self._una + at, self._una + at + size) for at, size in reports])

    @rule(ahead=st.integers(1, 100_000))
    def the_peer_acknowledges_what_never_left(self, ahead: int) -> None:
        self.talk.says("A", 1, self.sent + ahead, window=60_000)

    @rule(seconds=st.sampled_from((0.0, 0.05, 0.3, 2.0, 30.0)))
    def time_passes(self, seconds: float) -> None:
        self.talk.passes(seconds)

    def _says(self, ack: int, window: int, reports: list[tuple[int, int]]) -> None:
        self.edge = max(self.edge, ack + window)
        self.talk.says("A", 1, ack, window=window, sacks=reports[:4])

    # -- what must hold

    @property
    def _una(self) -> int:
        return (self.talk.connection.sender.una - OUR_ISN) & MASK

    @property
    def _whole(self) -> int:
        return self.got.index(0, 1)

    @property
    def _held(self) -> list[tuple[int, int]]:
        """What the peer holds beyond the first hole."""
        found, at = [], self._whole
        while (start := self.got.find(1, at)) >= 0:
            at = self.got.index(0, start)
            found.append((start, at))
        return found

    @invariant()
    def only_what_was_written_leaves(self) -> None:
        if not hasattr(self, "talk"):
            return
        for segment in self.talk.left():
            start, size = (segment.seq - OUR_ISN) & MASK, len(segment.payload)
            if not size:
                continue
            assert bytes(segment.payload) == TEXT[start - 1 : start - 1 + size]
            assert start + size <= min(self.edge, self.written), "beyond the window"
            self.sent = max(self.sent, start + size)
            if self.vanish:
                self.vanish -= 1
            else:
                self.got[start : start + size] = b"\1" * size

    @invariant()
    def something_is_going_to_happen(self) -> None:
        if not hasattr(self, "talk"):
            return
        assert self.talk.state == "ESTABLISHED"
        if self._una < self.written:
            assert self.talk.connection.next_timeout() < inf, f"data waits for nothing: {self.talk.connection!r}"

    def teardown(self) -> None:
        """Whatever was said: when the peer becomes honest and nothing is lost any more, all of it arrives."""
        if not hasattr(self, "talk"):
            return
        self.vanish = 0
        self.only_what_was_written_leaves()
        for _ in range(500):
            self._says(self._whole, 60_000, [])
            self.only_what_was_written_leaves()
            if self._una == self.written:
                break
            if self._whole == self._una:
                self.talk.passes(max(self.talk.connection.next_timeout() - self.talk.now, 0.0))
                self.only_what_was_written_leaves()
        assert self._una == self.written, f"{self.written - self._una} bytes are left: {self.talk.connection!r}"


TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # which traces each line
)  # fmt: skip
