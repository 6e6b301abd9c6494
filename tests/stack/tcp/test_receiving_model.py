"""What a peer may send in any order, beside a model of plain numbers: nothing is lost, and no promise taken back.

Hypothesis makes the story: segments new, old, early, overlapping and beyond the window, a reader that takes what it
likes, time that passes. After each step what was acknowledged, delivered, reported and shown as the window is compared
with what the peer really sent.
"""

from __future__ import annotations

from random import Random

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import parse_options
from netbridge.stack.tcp.seq import MASK

from .conversation import PEER_ISN, Talk

TEXT = Random(0).randbytes(1 << 18)
"""What the peer says; position 1 is its first byte, as the sequence number counts."""


class Story(RuleBasedStateMachine):
    """A connection, a peer that knows what it sent, and the last window it was shown."""

    talk: Talk

    @initialize(
        window=st.sampled_from((2_000, 5_000, 65_536)),
        budget=st.sampled_from((20_000, 1 << 20)),
        wscale=st.sampled_from((None, 7)),
        sack=st.booleans(),
    )
    def opens(self, window: int, budget: int, wscale: int | None, sack: bool) -> None:
        config = TcpConfig(receive_window=window, max_receive_window=8 * window, receive_budget=budget)
        self.talk = Talk.established(config, wscale=wscale, sack=sack)
        self.said = bytearray(len(TEXT))
        """1 where the peer has sent the byte of that position."""
        self.whole = 1
        """The first position it has not sent."""
        self.acknowledged = 1
        self.edge = 1
        """The right edge of the window, the farthest the peer was told."""
        self.sack = sack

    # -- what happens

    def _says(self, position: int, size: int) -> None:
        position = max(position, 1)
        self.said[position : position + size] = b"\1" * size
        self.whole = self.said.index(0, self.whole)
        self.talk.says("A", position, 1, TEXT[position - 1 : position - 1 + size])

    @rule(size=st.integers(1, 1400))
    def next_in_line(self, size: int) -> None:
        self._says(self._next, size)

    @rule(offset=st.integers(-3000, 9000), size=st.integers(1, 3000))
    def anything(self, offset: int, size: int) -> None:
        self._says(self._next + offset, size)

    @rule(back=st.integers(0, 2000), beyond=st.integers(0, 300))
    def up_to_the_edge(self, back: int, beyond: int) -> None:
        start = max(self.edge - back, 1)
        self._says(start, min(back, self.edge - 1) + beyond or 1)

    @rule()
    def a_probe(self) -> None:
        self.talk.says("A", self._next - 1, 1)

    @rule(room=st.integers(0, 8000))
    def the_user_reads(self, room: int) -> None:
        self.talk.reads(room)

    @rule(seconds=st.sampled_from((0.0, 0.05, 1.0)))
    def time_passes(self, seconds: float) -> None:
        self.talk.passes(seconds)

    # -- what must hold

    @property
    def _next(self) -> int:
        return (self.talk.connection.receiver.nxt - PEER_ISN) & MASK

    @invariant()
    def no_promise_is_taken_back(self) -> None:
        if not hasattr(self, "talk"):
            return
        receiver = self.talk.connection.receiver
        for segment in self.talk.left():
            ack = (segment.ack - PEER_ISN) & MASK
            assert ack >= self.acknowledged
            assert ack <= self.whole, "acknowledged what was never sent"
            # A window counts in units of the scale, so what is shown may fall short of the last by less than one (RFC
            # 7323, section 2.4). What was shown stays good all the same.
            edge = ack + (segment.window << receiver.scale)
            assert edge > self.edge - (1 << receiver.scale), "the right edge moved back"
            self.acknowledged, self.edge = ack, max(edge, self.edge)
            assert (receiver.adv - PEER_ISN) & MASK == self.edge
            for number, (left, right) in enumerate(parse_options(segment.options).sacks):
                start, end = (left - PEER_ISN) & MASK, (right - PEER_ISN) & MASK
                assert start < end
                assert 0 not in self.said[start:end], "reported what was never sent"
                assert start > ack or number == 0, "only the first may report a duplicate (RFC 2883)"
                assert self.sack

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "talk"):
            return
        receiver, user = self.talk.connection.receiver, self.talk.user
        assert user.data == TEXT[: len(user.data)]
        assert len(user.data) + receiver.backlog_bytes == self._next - 1
        assert self.talk.budget.used == receiver.backlog_bytes + receiver.early.cost

    def teardown(self) -> None:
        """Whatever happened, a peer that sends again what is missing gets it all through."""
        if not hasattr(self, "talk"):
            return
        end = max(self.said.rfind(1) + 1, 1)
        for _ in range(5000):
            self.talk.reads()
            self.no_promise_is_taken_back()
            if self._next >= end:
                break
            self._says(self._next, min(1000, end - self._next, max(self.edge - self._next, 1)))
        self.talk.reads()
        self.nothing_is_lost()
        assert self.talk.user.data == TEXT[: end - 1]
        assert self.talk.budget.used == 0


TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # which traces each line
)  # fmt: skip
