"""The receive window: its edge, its growth, the memory behind it (RFC 9293, section 3.8.6; RFC 7323)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.reassembly import BLOCK_COST

from .conversation import MSS, Talk


def test_a_reader_that_does_not_read_closes_the_window_and_reopens_it() -> None:
    talk = Talk.established(TcpConfig(receive_window=4000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 4000)
    talk.hears("A", 1, 4001, window=0)
    talk.says("A", 4001, 1, b"p")  # a window probe
    talk.hears("A", 1, 4001, window=0)
    talk.reads()
    talk.hears("A", 1, 4001, window=8000)  # the reader took a window: it doubles
    assert talk.user.data == b"x" * 4000


def test_the_window_opens_by_a_segment_at_least() -> None:
    talk = Talk.established(TcpConfig(receive_window=8000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 8000)
    talk.hears("A", 1, 8001, window=0)
    talk.reads(room=500)
    talk.silent()
    talk.says("A", 8001, 1, b"p")
    talk.hears("A", 1, 8001, window=0)


def test_the_right_edge_never_moves_back_beyond_the_rounding() -> None:
    """A scaled window cannot say every number (RFC 7323, section 2.4); what was meant is always within what shows."""
    talk = Talk.established(TcpConfig(receive_window=4000), wscale=3)
    scale = talk.connection.receiver.scale
    talk.user.room = 0
    for start in range(0, 4000, 999):
        data = b"x" * min(999, 4000 - start)
        talk.says("A", 1 + start, 1, data)
        talk.passes(0.05)
        segment = talk.hears("A", 1, 1 + start + len(data))
        assert 4000 <= start + len(data) + (segment.window << scale) < 4000 + (1 << scale)


def test_small_segments_close_the_window_of_a_reader_that_sleeps() -> None:
    """Rounded up anew at each acknowledgement, the edge would run away from it."""
    talk = Talk.established(TcpConfig(receive_window=4000), wscale=3)
    talk.user.room = 0
    at = 1
    while talk.user.data == b"" and at < 20_000:
        talk.says("A", at, 1, bytes(100))
        talk.passes(0.05)
        window = talk.hears("A", 1).window
        at += 100
        if not window:
            break
    assert at < 4500
    talk.says("A", at, 1)  # asked whether it is open: no keepalive
    talk.passes(2)
    talk.says("A", at - 1, 1)
    assert not any("probed" in call for call in talk.user.calls)


def test_the_window_grows_while_the_reader_keeps_up_only() -> None:
    talk = Talk.established(TcpConfig(receive_window=4000, max_receive_window=16000), wscale=0)
    at = 1
    for _ in range(10):
        talk.says("A", at, 1, b"x" * 4000)
        at += 4000
    assert talk.connection.receiver.buffer == 16000
    stalled = Talk.established(TcpConfig(receive_window=4000, max_receive_window=16000), wscale=0)
    stalled.user.room = 0
    stalled.says("A", 1, 1, b"x" * 4000)
    assert stalled.connection.receiver.buffer == 4000


def test_unread_and_early_data_count_against_the_budget_of_all() -> None:
    talk = Talk.established(TcpConfig(receive_window=8000, receive_budget=1 << 20))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 1000)
    assert talk.budget.used == 1000
    talk.says("A", 3001, 1, b"z" * 1000)
    talk.says("A", 3001, 1, b"z" * 1000)
    assert talk.budget.used == 2000 + BLOCK_COST
    talk.says("A", 1001, 1, b"y" * 2000)
    assert talk.budget.used == 4000
    talk.reads(room=2500)
    assert talk.budget.used == 1500
    talk.says("A", 5001, 1, b"early")
    talk.connection.abort()
    assert talk.budget.used == 0


def test_beyond_the_budget_no_window_opens_and_beyond_twice_that_nothing_is_kept() -> None:
    talk = Talk.established(TcpConfig(receive_window=60_000, receive_budget=20_000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 30_000)
    talk.hears("A", 1, 30_001, window=30_000)  # what was shown is not taken back
    talk.says("A", 30_001, 1, b"x" * 20_000)  # more than the budget allows: not acknowledged, so it comes again
    talk.hears("A", 1, 30_001, window=30_000)
    talk.says("A", 40_001, 1, b"x" * 20_000)
    talk.hears("A", 1, 30_001, window=30_000)
    assert talk.budget.used == 30_000
    assert talk.counters.early_refused == 1
    talk.reads(room=25_000)
    talk.hears("A", 1, 30_001, window=55_000)
    talk.says("FA", 30_001, 1, b"y" * 2500)
    talk.hears("A", 1, 32_502)
    talk.reads()
    assert talk.user.data == b"x" * 30_000 + b"y" * 2500
    assert talk.user.calls[-1] == "eof"


def test_what_does_not_fit_the_budget_does_not_take_the_fin_along() -> None:
    talk = Talk.established(TcpConfig(receive_window=60_000, receive_budget=10_000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 20_000)
    talk.hears("A", 1, 20_001)
    talk.says("FA", 20_001, 1, b"y" * 100)
    talk.hears("A", 1, 20_001)
    assert talk.state == "ESTABLISHED"
    talk.reads()
    talk.says("FA", 20_001, 1, b"y" * 100)
    assert talk.state == "CLOSE-WAIT"
    assert talk.user.data == b"x" * 20_000 + b"y" * 100


def test_a_little_is_kept_and_offered_however_much_others_hold() -> None:
    talk = Talk.established(TcpConfig(receive_window=60_000, receive_budget=20_000))
    talk.budget.used = 1_000_000  # other connections, whose readers sleep
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 10_000)
    talk.hears("A", 1, 10_001)
    talk.says("A", 10_001, 1, b"x" * 10_000)
    talk.hears("A", 1, 10_001)  # beyond the floor
    talk.reads()
    talk.says("A", 10_001, 1, b"x" * 10_000)
    talk.hears("A", 1, 20_001, window=60_000)


def test_what_was_acknowledged_is_never_dropped_for_the_budget() -> None:
    """The hole is filled while others hold more than all may: what lay behind it had been kept, and is given."""
    talk = Talk.established(TcpConfig(receive_window=60_000, receive_budget=1_000_000))
    talk.says("A", 10_001, 1, b"b" * 20_000)
    talk.user.room = 10_000
    talk.budget.used += 3_000_000
    talk.says("A", 1, 1, b"a" * 10_000)
    talk.hears("A", 1, 1)
    talk.hears("A", 1, 30_001)
    talk.reads()
    assert talk.user.data == b"a" * 10_000 + b"b" * 20_000


def test_a_trickle_does_not_widen_the_window() -> None:
    """A window is worth widening where the reader takes it within a second; a stalled reader could hold it all."""
    talk = Talk.established(TcpConfig(receive_window=4000, max_receive_window=64000), wscale=0)
    for at in range(0, 40_000, 1000):
        talk.says("A", 1 + at, 1, b"x" * 1000)
        talk.passes(0.5)
        assert talk.connection.receiver.buffer <= 8000
    assert talk.connection.receiver.buffer == 8000  # once, when there was nothing to go by
    talk.budget.widened += talk.budget.limit  # others want the memory
    for at in range(40_000, 60_000, 1000):
        talk.says("A", 1 + at, 1, b"x" * 1000)
        talk.passes(0.5)
    assert talk.connection.receiver.buffer == 4000
    assert talk.budget.widened == talk.budget.limit


def test_the_window_grows_only_while_it_is_what_holds_the_flow_up() -> None:
    """The handshake took 0.25 s: a window taken within four round trips was too small, a slower one was not."""
    for seconds, grown in ((0.5, True), (2.0, False)):
        talk = Talk.established(TcpConfig(receive_window=4 * MSS, max_receive_window=64 * MSS), wscale=7)
        receiver = talk.connection.receiver
        seq = 1
        for _ in range(2):
            for _ in range(4):
                talk.passes(seconds / 4)
                talk.says("A", seq, 1, bytes(MSS))
                seq += MSS
            first = receiver.buffer
        for _ in range(first // MSS):
            talk.passes(seconds * MSS / first)
            talk.says("A", seq, 1, bytes(MSS))
            seq += MSS
        assert (receiver.buffer > first) == grown
