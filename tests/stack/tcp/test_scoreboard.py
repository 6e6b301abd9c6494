"""The scoreboard against a model that has a mark for each byte (RFC 2018, RFC 6675)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netbridge.stack.tcp.scoreboard import LOST, LOST_AGAIN, SACKED, SENT, Scoreboard

SIZE = 60

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("sack", "lose", "resend", "advance", "lose again", "forgive", "forget")),
        st.integers(0, SIZE), st.integers(0, SIZE),
    ),
    max_size=40,
)


class Model:
    """A mark for every byte."""

    def __init__(self) -> None:
        self.base = 0
        self.marks = [SENT] * SIZE
        self.now = 0.0

    def step(self, board: Scoreboard, step: Step) -> None:
        verb, first, second = step
        start, end = sorted((max(first, self.base), max(second, self.base)))
        self.now += 1.0
        span = range(start, end)
        if verb == "advance":
            old = [mark for left, right, mark in board.advance(self.base, end) for _ in range(left, right)]
            assert old == self.marks[self.base : end]
            self.base = end
        elif verb == "forgive":
            board.forgive(self.now)
            self.marks = [{LOST: SENT, LOST_AGAIN: self.now}.get(mark, mark) for mark in self.marks]
        elif verb == "forget":
            board.forget()
            self.marks = [SENT if mark == SACKED else mark for mark in self.marks]
        elif start == end:
            return
        elif verb == "sack":
            news = {at: mark for left, right, mark in board.sack(start, end, SIZE) for at in range(left, right)}
            assert news == {at: self.marks[at] for at in span if self.marks[at] != SACKED}
            self.marks[start:end] = [SACKED] * len(span)
        elif verb == "resend":
            board.resend(start, end, self.now)
            self.marks[start:end] = [self.now] * len(span)
        elif verb == "lose again":
            sent_at = max(self.marks[start:end])
            assert sent_at < 0 or board.lose_again(start, end, sent_at)
            if sent_at >= 0:
                self.marks[start:end] = [LOST_AGAIN if mark == sent_at else mark for mark in self.marks[start:end]]
        else:
            unmarked = [at for at in range(self.base, end) if self.marks[at] == SENT]
            assert board.lose(end) == bool(unmarked)
            for at in unmarked:
                self.marks[at] = LOST

    def agrees(self, board: Scoreboard) -> None:
        marks = self.marks[self.base :]
        assert [mark for left, right, mark in board.look(self.base, SIZE) for _ in range(left, right)] == marks
        assert board.sacked == marks.count(SACKED)
        assert board.lost == sum(mark <= LOST for mark in marks)
        lost = [at for at in range(self.base, SIZE) if self.marks[at] <= LOST]
        found = board.first_lost()
        assert (found[0] if found else None) == (lost[0] if lost else None)
        ranges = list(board.ranges())
        assert all(start < end for start, end, _ in ranges)
        assert all(a[1] < b[0] or a[2] != b[2] for a, b in zip(ranges, ranges[1:], strict=False)), "not joined"
        assert all(board.holds(at) == (self.marks[at] == SACKED) for at in range(self.base, SIZE))


@given(STEPS)
def test_it_agrees_with_a_mark_for_each_byte(steps: list[Step]) -> None:
    board, model = Scoreboard(), Model()
    for step in steps:
        model.step(board, step)
        model.agrees(board)


def test_many_tiny_ranges_are_bounded() -> None:
    """CVE-2019-11478: what exceeds the bound is not remembered; what joins known ranges is."""
    board = Scoreboard()
    for at in range(1, 10_000, 2):
        board.sack(at, at + 1, 100)
    assert board.sacked == 100
    assert board.sack(0, 200, 100) != []
    assert board.sacked == 200
