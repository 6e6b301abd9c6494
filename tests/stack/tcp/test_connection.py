"""RFC 9293's event processing as conversations."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.segment import Options
from netbridge.stack.tcp.states import TRANSITIONS, Event, State

from .conversation import MSS, OUR_ISN, RecordingUser, Talk

# -- opening


def test_passive_open_answers_syn_and_names_mss_and_scale() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(1460, 7))
    segment = talk.hears("SA", 0, 1)
    assert segment.options == bytes([2, 4, MSS >> 8, MSS & 255, 1, 3, 3, 8])
    assert segment.window == 65535  # never scaled on a SYN (RFC 7323, section 2.2)
    assert talk.connection.sender.scale == 7


def test_no_scaling_unless_the_peer_offers_it() -> None:
    talk = Talk.established()
    assert talk.connection.receiver.scale == 0
    assert talk.connection.sender.scale == 0


def test_lost_syn_ack_is_sent_again_by_timer_and_by_repeated_syn() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    talk.passes(1.01)
    talk.hears("SA", 0, 1)
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    talk.silent()


def test_syn_ack_is_given_up_after_its_retries() -> None:
    talk = Talk(TcpConfig(syn_retries=2))
    talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
    for _ in range(3):
        talk.hears("SA", 0, 1)
        talk.passes(8.1)
    assert talk.state == "CLOSED"
    assert isinstance(talk.user.error, TimeoutError)
    assert talk.quiet


def test_active_open() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("SA", 0, 1, options=Options(500, None))
    talk.hears("A", 1, 1)
    assert talk.state == "ESTABLISHED"
    assert talk.connection.sender.mss == 500


def test_active_open_refused() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("RA", 0, 1)
    assert isinstance(talk.user.error, ConnectionRefusedError)
    talk.silent()


def test_reset_with_a_wrong_ack_does_not_end_an_active_open() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("RA", 0, 77)
    assert talk.state == "SYN-SENT"


def test_syn_sent_answers_a_wrong_ack_with_reset() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("A", 0, 99)
    talk.hears("R", 99)
    assert talk.state == "SYN-SENT"


def test_simultaneous_open() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    talk.says("A", 1, 1)
    assert talk.state == "ESTABLISHED"


def test_tiny_mss_is_raised() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(1, None))
    assert talk.connection.sender.mss == 88


# -- data in


def test_data_is_delivered_and_acknowledged_late_if_little() -> None:
    talk = Talk.established()
    talk.says("PA", 1, 1, b"hello")
    assert talk.user.data == b"hello"
    talk.silent()
    talk.passes(0.05)
    talk.hears("A", 1, 6)


def test_every_second_full_segment_is_acknowledged_at_once() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"a" * MSS)
    talk.silent()
    talk.says("A", 1 + MSS, 1, b"b" * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)


def test_a_super_segment_is_acknowledged_at_once() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"a" * (5 * MSS))
    talk.hears("A", 1, 1 + 5 * MSS)


def test_an_acknowledgement_rides_on_data() -> None:
    talk = Talk.established()
    talk.says("PA", 1, 1, b"ping")
    talk.writes(b"pong")
    talk.hears("A", 1, 5, b"pong")
    talk.passes(0.1)
    talk.silent()


def test_early_data_is_kept_and_the_hole_told() -> None:
    talk = Talk.established()
    talk.says("A", 1 + MSS, 1, b"b" * MSS)
    talk.hears("A", 1, 1)
    assert talk.user.data == b""
    talk.says("A", 1, 1, b"a" * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    assert talk.user.data == b"a" * MSS + b"b" * MSS


def test_old_data_in_front_is_cut() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"abcd")
    talk.says("A", 3, 1, b"cdef")
    assert talk.user.data == b"abcdef"
    talk.hears("A", 1, 7)


def test_data_beyond_the_window_is_cut() -> None:
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.says("A", 1, 1, b"x" * 3000)
    assert talk.user.data == b"x" * 2000
    talk.hears("A", 1, 2001)


def test_a_fin_that_came_early_counts_once_the_hole_is_filled() -> None:
    talk = Talk.established()
    talk.says("FA", 6, 1, b"world")
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1, b"hello")
    talk.hears("A", 1, 12)
    assert talk.user.data == b"helloworld"
    assert talk.state == "CLOSE-WAIT"
    assert talk.user.calls[-1] == "eof"


def test_urgent_data_is_in_line() -> None:
    talk = Talk.established()
    talk.says("UA", 1, 1, b"urgent")
    assert talk.user.data == b"urgent"


# -- the window


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


def test_a_window_probe_after_news_that_were_lost_is_no_keepalive() -> None:
    talk = Talk.established(TcpConfig(receive_window=4000), wscale=3)
    talk.user.room = 0
    talk.says("A", 1, 1, bytes(4000))
    assert talk.hears("A", 1, 4001).window == 0
    talk.reads()
    assert talk.hears("A", 1, 4001).window > 0  # lost
    talk.passes(3)
    talk.says("A", 4000, 1)
    talk.says("A", 4001, 1, b"x")
    talk.passes(3)
    talk.says("A", 4001, 1)
    assert talk.user.calls == ["connected", "probed after 3 s"]


def test_an_acknowledgement_on_any_old_number_is_not_believed() -> None:
    """RFC 5961: a blind sender must hit the window of both numbers, not one."""
    talk = Talk.established()
    talk.writes(b"x" * MSS)
    talk.hears("A", 1)
    talk.says("A", -500_000, 1 + MSS)
    assert talk.connection.sender.flight == MSS
    talk.says("A", 0, 1 + MSS)
    assert talk.connection.sender.flight == 0


def test_recovery_begins_also_after_gigabytes_without_a_loss() -> None:
    talk = Talk.established(sack=True)
    sender = talk.connection.sender
    for _ in range(5):
        for _ in range(8):  # 512 MiB in steps, without sending them all
            sender.una = sender.nxt = sender.largest = (sender.nxt + (1 << 26)) & 0xFFFFFFFF
            talk.writes(bytes(1))
            talk._out.clear()
            sender.acked(sender.nxt, talk.now)
        for _ in range(5):
            talk.writes(bytes(MSS))
        talk._out.clear()
        for _ in range(3):
            sender.duplicate()
        assert sender.in_recovery
        sender.acked(sender.largest, talk.now)
        assert not sender.in_recovery
        assert not sender.retransmit_now


def test_losses_behind_a_spurious_timeout_cost_no_timeout_each() -> None:
    """What the timeout put back is taken as being on its way; the holes in it are told, and filled at once."""
    talk = Talk.established(TcpConfig(congestion=Unlimited), sack=True)
    for number in range(10):
        talk.writes(bytes([number]) * MSS)
        talk.hears("A", 1 + number * MSS)
    talk.passes(1.0)
    talk.hears("A", 1)
    everything_but_3_and_6 = [(7001, 10_001), (4001, 6001)]
    talk.says("A", 1, 3001, sacks=everything_but_3_and_6)
    talk.hears("A", 3001, data=bytes([3]) * MSS)
    talk.hears("A", 6001, data=bytes([6]) * MSS)
    talk.silent()
    talk.says("A", 1, 10_001)
    assert talk.quiet


def test_the_threshold_falls_once_for_one_loss() -> None:
    """RFC 5681, section 3.1: not again when the timer sends the same segment another time."""
    talk = Talk.established(window=60_000)
    talk.connection.sender.cc.cwnd = 50_000
    talk.writes(bytes(50_000))
    talk._out.clear()
    talk.passes(4)
    talk._pump()
    assert talk.connection.sender.retries >= 2
    assert talk.connection.sender.cc.ssthresh == 25_000  # type: ignore[attr-defined]


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


def test_zero_window_is_probed_from_rto_on_doubling_to_a_minute() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 3000)
    talk.hears("A", 1, 1, b"x" * 1000)
    talk.says("A", 1, 1001, window=0)
    probes = []
    for _ in range(400):
        before = talk.now
        talk.passes(1.0)
        if talk._out:
            probes.append(before)
            talk.hears("A", 1000)  # a sequence number the peer has already taken
            talk.says("A", 1, 1001, window=0)
    gaps = [later - earlier for earlier, later in zip(probes, probes[1:], strict=False)]
    assert gaps[-1] == pytest.approx(60, abs=1.1)
    assert all(later >= earlier - 1.1 for earlier, later in zip(gaps, gaps[1:], strict=False))
    assert talk.state == "ESTABLISHED"
    talk.says("A", 1, 1001, window=8000)
    talk.hears("A", 1001, 1, b"x" * 1000)
    talk.hears("A", 2001, 1, b"x" * 1000)


def test_a_closed_window_is_given_up_when_the_peer_is_silent() -> None:
    talk = Talk.established(TcpConfig(persist_retries=5), window=1000)
    talk.writes(b"x" * 3000)
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1001, window=0)
    talk.passes(400)
    assert isinstance(talk.user.error, TimeoutError)


def test_a_silly_window_waits_for_a_segment() -> None:
    talk = Talk.established(window=10000)
    talk.writes(b"x" * 10000)
    for start in range(0, 10000, 1000):
        talk.hears("A", 1 + start)
    talk.writes(b"y" * 5000)
    talk.says("A", 1, 10001, window=100)
    talk.silent()
    talk.passes(2.0)  # but not for ever (RFC 1122's override)
    talk.hears("A", 10001, 1, b"y" * 100)


# -- data out


def test_small_writes_are_joined_while_they_wait() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    for byte in b"abc":
        talk.writes(bytes([byte]))
    talk.silent()
    talk.says("A", 1, 1)
    talk.hears("A", 1, 1, b"abc")


def test_a_chunk_leaves_as_one_super_segment_without_a_copy() -> None:
    talk = Talk.established(max_payload=60 * MSS, config=TcpConfig(congestion=Unlimited))
    chunk = b"x" * (60 * MSS)
    talk.writes(chunk)
    assert talk.hears("A", 1, 1).payload is chunk


def test_slow_start_begins_with_ten_segments() -> None:
    talk = Talk.established()
    talk.writes(b"x" * 30 * MSS)
    for number in range(10):
        talk.hears("A", 1 + number * MSS)
    talk.silent()
    talk.says("A", 1, 1 + 2 * MSS)
    for number in range(10, 14):
        talk.hears("A", 1 + number * MSS)
    talk.silent()


def test_retransmission_timeout_doubles_and_ends() -> None:
    talk = Talk.established(TcpConfig(retries=4))
    talk.writes(b"lost")
    talk.hears("A", 1, 1, b"lost")
    times = []
    while talk.state != "CLOSED":
        talk.passes(0.25)
        if talk._out and talk.state != "CLOSED":
            talk.hears("A", 1, 1, b"lost")
            times.append(talk.now)
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert gaps == [1.5, 3.0, 6.0]
    talk.hears("RA", 5)
    assert isinstance(talk.user.error, TimeoutError)


def test_after_a_timeout_one_segment_goes_and_an_ack_of_all_ends_it() -> None:
    talk = Talk.established()
    talk.writes(b"x" * 5 * MSS)
    for number in range(5):
        talk.hears("A", 1 + number * MSS)
    talk.passes(1.1)
    talk.hears("A", 1, 1, b"x" * MSS)
    talk.silent()
    talk.says("A", 1, 1 + 5 * MSS)
    talk.silent()
    assert talk.quiet


def test_fast_retransmit_after_three_duplicates_and_newreno_partial_ack() -> None:
    talk = Talk.established()
    talk.writes(b"".join(bytes([65 + number]) * MSS for number in range(8)))
    for number in range(8):
        talk.hears("A", 1 + number * MSS)
    for _ in range(2):
        talk.says("A", 1, 1)
        talk.silent()
    talk.says("A", 1, 1)
    talk.hears("A", 1, 1, b"A" * MSS)
    talk.says("A", 1, 1 + 3 * MSS)  # partial: the fourth is lost as well
    talk.hears("A", 1 + 3 * MSS, 1, b"D" * MSS)
    talk.says("A", 1, 1 + 8 * MSS)
    talk.silent()
    assert talk.quiet


def test_window_updates_are_not_duplicates() -> None:
    talk = Talk.established()
    talk.writes(b"x" * MSS)
    talk.hears("A", 1)
    for window in (60000, 50000, 40000, 30000):
        talk.says("A", 1, 1, window=window)
    talk.silent()


def test_rtt_follows_karn() -> None:
    talk = Talk.established()
    talk.writes(b"x")
    talk.hears("A", 1)
    talk.passes(0.1)
    talk.says("A", 1, 2)
    measured = talk.connection.sender.rtt.srtt
    talk.writes(b"y")
    talk.hears("A", 2)
    talk.passes(3)
    talk.hears("A", 2)
    talk.says("A", 1, 3)
    assert talk.connection.sender.rtt.srtt == measured


# -- closing


def test_close_by_us() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("A", 1, 2)
    assert talk.state == "FIN-WAIT-2"
    talk.says("FA", 1, 2)
    talk.hears("A", 2, 2)
    assert talk.state == "TIME-WAIT"
    talk.passes(31)
    assert talk.state == "CLOSED"
    assert talk.user.calls == ["connected", "eof", "closed"]
    assert talk.user.error is None
    assert talk.quiet


def test_close_by_the_peer() -> None:
    talk = Talk.established()
    talk.says("FA", 1, 1)
    talk.hears("A", 1, 2)
    assert talk.state == "CLOSE-WAIT"
    talk.closes()
    talk.hears("FA", 1, 2)
    talk.says("A", 2, 2)
    assert talk.state == "CLOSED"
    assert talk.quiet


def test_simultaneous_close() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("FA", 1, 1)
    talk.hears("A", 2, 2)
    assert talk.state == "CLOSING"
    talk.says("A", 2, 2)
    assert talk.state == "TIME-WAIT"
    talk.passes(31)
    assert talk.quiet


def test_half_close_lasts_for_hours() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("A", 1, 2)
    talk.passes(4 * 3600)
    assert talk.state == "FIN-WAIT-2"
    talk.says("PA", 1, 2, b"the reply")
    assert talk.user.data == b"the reply"


def test_the_fin_rides_on_the_last_data() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 1500)
    talk.hears("A", 1)
    talk.closes()
    talk.silent()
    talk.says("A", 1, 1001, window=1000)
    talk.hears("FA", 1001, 1, b"x" * 500)


def test_a_lost_fin_is_sent_again() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.passes(1.1)
    talk.hears("FA", 1, 1)


def test_eof_is_told_after_the_data_was_taken() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    assert talk.user.calls == ["connected"]
    talk.reads()
    assert talk.user.data == b"data"
    assert talk.user.calls == ["connected", "eof"]


def test_close_with_a_backlog_at_a_closed_window_ends_in_time() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 3000)
    talk.hears("A", 1)
    talk.says("A", 1, 1001, window=0)
    talk.connection.abandon(talk.now)
    assert talk.state == "FIN-WAIT-1"
    for _ in range(80):
        talk.passes(1)
        while talk._out:
            segment = talk._out.pop(0)
            if talk.state != "CLOSED":
                assert not segment.payload
                talk.says("A", 1, 1001, window=0)
    assert talk.state == "CLOSED"


def test_an_orphan_that_gets_on_is_not_cut() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 5000)
    talk.hears("A", 1)
    talk.connection.abandon(talk.now)
    for number in range(1, 5):
        talk.passes(50)
        talk._out.clear()
        talk.says("A", 1, 1 + number * 1000, window=1000)
        talk._out.clear()
    assert talk.state == "FIN-WAIT-1"


def test_fin_wait_2_of_an_abandoned_connection_ends() -> None:
    talk = Talk.established()
    talk.connection.abandon(talk.now)
    talk.hears("FA", 1)
    talk.says("A", 1, 2)
    assert talk.state == "FIN-WAIT-2"
    talk.passes(61)
    assert talk.state == "CLOSED"


# -- resets and what could be blind (RFC 5961)


def test_an_exact_reset_ends_it() -> None:
    talk = Talk.established()
    talk.says("R", 1)
    assert talk.state == "CLOSED"
    assert isinstance(talk.user.error, ConnectionResetError)
    talk.silent()


def test_a_reset_elsewhere_in_the_window_is_challenged_at_a_rate() -> None:
    talk = Talk.established()
    talk.says("R", 100)
    talk.hears("A", 1, 1)
    talk.says("R", 200)
    talk.silent()
    talk.passes(0.6)
    talk.says("R", 300)
    talk.hears("A", 1, 1)
    assert talk.state == "ESTABLISHED"
    assert (talk.counters.challenges, talk.counters.challenges_withheld) == (3, 1)


def test_a_reset_outside_the_window_is_nothing() -> None:
    talk = Talk.established()
    talk.says("R", 900_000)
    talk.silent()
    assert talk.counters.out_of_window == 1
    assert talk.state == "ESTABLISHED"


def test_a_syn_in_the_window_is_challenged() -> None:
    talk = Talk.established()
    talk.says("S", 50)
    talk.hears("A", 1, 1)
    assert talk.state == "ESTABLISHED"


def test_an_ack_of_what_was_never_sent_is_challenged() -> None:
    talk = Talk.established()
    talk.says("A", 1, 5000, b"blind")
    talk.hears("A", 1, 1)
    assert talk.user.data == b""


def test_a_very_old_ack_is_challenged() -> None:
    talk = Talk.established(window=1000)
    talk.says("A", 1, -70000, b"blind")
    talk.hears("A", 1, 1)
    assert talk.user.data == b""


def test_keepalive_probes_are_always_answered() -> None:
    talk = Talk.established()
    for _ in range(5):
        talk.says("A", 0, 1)
        talk.hears("A", 1, 1)
        talk.says("A", 0, 1, b"\0")
        talk.hears("A", 1, 1)


def test_a_keepalive_is_told_and_a_window_probe_is_not() -> None:
    talk = Talk.established()
    talk.passes(7)
    talk.says("A", 0, 1)
    talk.passes(2)
    talk.says("A", 0, 1)
    assert talk.user.calls[1:] == ["probed after 7 s", "probed after 2 s"]
    talk.says("A", 0, 1, b"x")  # may be data sent again
    talk.user.room = 0
    talk.says("A", 1, 1, bytes(65535))
    talk.says("A", 65535, 1)  # a closed window is asked for in the same way
    assert len(talk.user.calls) == 3


def test_own_keepalive_gives_up_on_a_silent_peer_only() -> None:
    config = TcpConfig(keepalive=100, keepalive_interval=10, keepalive_probes=3)
    talk = Talk.established(config)
    talk.passes(100.1)
    talk.hears("A", 0, 1)
    talk.says("A", 1, 1)
    talk.passes(99)
    talk.silent()
    talk.passes(200)
    for _ in range(3):
        talk.hears("A", 0, 1)
    assert talk.state == "CLOSED"
    assert isinstance(talk.user.error, TimeoutError)


def test_reset_is_ignored_in_time_wait() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1)
    talk.says("FA", 1, 2)
    talk.hears("A", 2, 2)
    talk.says("R", 2)
    assert talk.state == "TIME-WAIT"  # RFC 1337


def test_abort_sends_one_reset_and_frees_everything() -> None:
    talk = Talk.established()
    talk.user.room = 0
    talk.says("A", 1, 1, b"unread")
    assert talk.budget.used == 6
    talk.connection.abort()
    talk.hears("RA", 1, 7)
    talk.silent()
    assert talk.budget.used == 0
    assert talk.quiet


def test_the_table_leaves_closed_only_by_opening() -> None:
    leaving = {event for (state, event) in TRANSITIONS if state is State.CLOSED}
    assert leaving == {Event.OPEN, Event.ACCEPT, Event.ABORT}
    assert all(state in {key[0] for key in TRANSITIONS} for state in TRANSITIONS.values())


def test_our_isn_is_where_the_tests_say() -> None:
    assert Talk.established().connection.sender.iss == OUR_ISN


def test_what_the_user_has_not_read_outlives_an_orderly_end() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.closes()
    talk.hears("FA", 1, 6)
    talk.says("A", 6, 2)
    assert talk.state == "CLOSED"
    assert talk.user.calls == ["connected"]
    talk.reads()
    assert talk.user.data == b"data"
    assert talk.user.calls == ["connected", "eof", "closed"]
    assert talk.budget.used == 0


def test_a_fin_never_rides_on_a_retransmission_in_the_middle() -> None:
    talk = Talk.established()
    talk.writes(b"A" * MSS + b"B" * MSS)
    talk.hears("A", 1)
    talk.hears("A", 1 + MSS)
    for _ in range(3):
        talk.connection.receive(0xFFFFFFF1, 0xFFFFFF01, 0x10, 65535, memoryview(b""), None, talk.now)
    talk.connection.shutdown()
    talk.hears("A", 1, 1, b"A" * MSS)
    talk.hears("FA", 1 + 2 * MSS, 1, b"")


def test_an_ack_of_everything_after_a_timeout_covers_the_fin_too() -> None:
    talk = Talk.established()
    talk.writes(b"x" * 2 * MSS)
    talk.closes()
    talk.hears("A", 1)
    talk.hears("A", 1 + MSS)
    talk.hears("FA", 1 + 2 * MSS)
    talk.passes(0.8)
    talk.hears("A", 1, 1, b"x" * MSS)
    talk.says("A", 1, 2 + 2 * MSS)
    assert talk.state == "FIN-WAIT-2"
    talk.silent()


def test_data_written_before_the_handshake_ends_waits_for_it() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    talk.writes(b"a server that speaks first")
    assert not talk.connection.wants_to_send  # whoever pumps while it wants to send would pump for ever
    talk.silent()
    talk.says("A", 1, 1)
    talk.hears("A", 1, 1, b"a server that speaks first")


# -- found in review


def test_simultaneous_open_between_two_of_our_kind() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    talk.says("SA", 0, 1)  # answering this with another SYN-ACK would go on for ever
    assert talk.state == "ESTABLISHED"
    talk.hears("A", 1, 1)
    talk.silent()


def test_the_round_trip_of_an_active_open_is_the_handshakes() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.passes(0.25)
    talk.says("SA", 0, 1)
    talk.hears("A", 1, 1)
    assert talk.connection.sender.rtt.srtt == 0.25
    talk.passes(100)  # idle
    talk.writes(b"question")
    talk.hears("A", 1, 1)
    talk.passes(0.25)
    talk.says("A", 1, 9)
    assert talk.connection.sender.rtt.srtt == pytest.approx(0.25)


def test_a_repeated_syn_makes_the_first_timeout_three_seconds() -> None:
    for active in (True, False):
        talk = Talk()
        if active:
            talk.connection.open()
        else:
            talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
        first = "S" if active else "SA"
        talk.hears(first, 0)
        talk.passes(3.1)  # twice more, at 1 and 3 seconds: the last back-off was to 4
        talk.hears(first, 0)
        talk.hears(first, 0)
        if active:
            talk.says("SA", 0, 1)
            talk.hears("A", 1, 1)
        else:
            talk.says("A", 1, 1)
        assert talk.state == "ESTABLISHED"
        assert talk.connection.sender.rtt.rto == 3.0  # RFC 6298, section 5.7
        assert talk.connection.sender.rtt.srtt == 0.0  # Karn


def test_data_on_a_syn_ack_is_taken_within_the_window() -> None:
    talk = Talk(TcpConfig(receive_window=2000))
    talk.connection.open()
    talk.hears("S", 0)
    ack = (OUR_ISN + 1) & 0xFFFFFFFF
    # One burst: nothing leaves in between.
    talk.connection.receive(0xFFFFFFF0, ack, 0x12, 65535, memoryview(b"a" * 1500), Options(MSS, None), talk.now)
    talk.connection.receive(1500 - 15, ack, 0x10, 65535, memoryview(b"b" * 1500), None, talk.now)
    assert talk.user.data == b"a" * 1500 + b"b" * 500
    talk.hears("A", 1, 2001)


def test_acknowledgements_after_a_timeout_bear_the_highest_sequence_number() -> None:
    """The peer has perhaps taken everything: with a lower number it would take them for old, and ignore the ACK."""
    talk = Talk.established()
    talk.writes(b"x" * 5 * MSS)
    for number in range(5):
        talk.hears("A", 1 + number * MSS)
    talk.passes(1.1)
    talk.hears("A", 1, 1, b"x" * MSS)
    talk.says("A", 1, 1, b"y" * 2 * MSS)
    talk.hears("A", 1 + 5 * MSS, 1 + 2 * MSS, b"")
    talk.connection.abort()
    talk.hears("RA", 1 + 5 * MSS)


def test_a_fin_waits_for_the_window_and_leaves_when_it_opens() -> None:
    talk = Talk.established(TcpConfig(retries=3), window=1000)
    talk.writes(b"x" * 1000)
    talk.closes()
    talk.hears("A", 1, 1, b"x" * 1000)
    talk.silent()
    talk.says("A", 1, 1001, window=0)
    talk.silent()
    for _ in range(100):  # the peer answers every probe: never given up
        talk.passes(10)
        while talk._out:
            talk.hears("A", 1000, 1, b"")
            talk.says("A", 1, 1001, window=0)
    assert talk.state == "FIN-WAIT-1"
    assert not talk.connection.wants_to_send
    talk.says("A", 1, 1001, window=1000)
    talk.hears("FA", 1001, 1, b"")
    talk.says("A", 1, 1002)
    assert talk.state == "FIN-WAIT-2"


def test_a_bare_fin_is_taken_at_a_closed_window() -> None:
    """BSD sends it there, and Linux takes it."""
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 2000)
    talk.hears("A", 1, 2001, window=0)
    talk.says("FA", 2001, 1)
    talk.hears("A", 1, 2002, window=0)
    assert talk.state == "CLOSE-WAIT"
    assert "eof" not in talk.user.calls
    talk.reads()
    assert talk.user.calls[-1] == "eof"


def test_a_reset_with_data_is_taken_at_a_closed_window() -> None:
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 2000)
    talk.hears("A", 1, 2001, window=0)
    talk.says("R", 2001, 0, b"because")
    assert talk.state == "CLOSED"


def test_nothing_wants_to_be_sent_once_it_is_over() -> None:
    """Whoever pumps would otherwise pump for ever."""
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 3000)
    talk.closes()
    talk.hears("A", 1)
    talk.says("R", 1)
    assert talk.state == "CLOSED"
    assert not talk.connection.wants_to_send


def test_data_that_was_sent_again_is_acknowledged_each_time() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    for _ in range(3):  # the acknowledgements get lost; the peer's timer may be short
        talk.says("A", 1, 1, b"x" * MSS)
        talk.hears("A", 1, 1 + 2 * MSS)


class Aborting(RecordingUser):
    """Resets the connection when it gets data it does not like."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def data_received(self, data: memoryview) -> int:
        self.connection.abort()
        return len(data) // 2


def test_the_user_may_abort_from_inside_data_received() -> None:
    for late in (False, True):
        talk = Talk.established()
        if late:
            talk.user.room = 0
            talk.says("A", 1, 1, b"x" * 100)
            talk.says("A", 101, 1, b"x" * 100)
            assert talk.budget.used == 200
        talk.connection._user = user = Aborting(talk.connection)
        talk.connection.receiver.reader = user.data_received
        if late:
            talk.connection.drain(talk.now)
        else:
            talk.says("A", 1001, 1, b"early")
            talk.hears("A", 1, 1)
            talk.says("A", 1, 1, b"x" * 1000)
        talk.hears("RA", 1)
        talk.silent()
        assert talk.budget.used == 0
        assert talk.connection.receiver.backlog_bytes == 0
        assert user.calls == []
        assert talk.quiet


def test_abort_frees_what_outlived_an_orderly_end() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.closes()
    talk.hears("FA", 1, 6)
    talk.says("A", 6, 2)
    assert talk.state == "CLOSED"
    assert talk.budget.used == 2
    talk.connection.abort()
    assert talk.budget.used == 0
    talk.reads()
    assert talk.user.calls == ["connected"]
    talk.silent()


def test_after_a_reset_no_end_of_file_is_told() -> None:
    talk = Talk.established()
    talk.user.room = 0
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.says("R", 6)
    assert talk.user.calls == ["connected", "closed"]
    talk.reads()
    assert talk.user.calls == ["connected", "closed"]


@pytest.mark.parametrize("mss", [1000, 40_000, 65_480])
def test_large_segments_are_acknowledged_at_once_and_the_window_reopens(mss: int) -> None:
    """Two full segments may be more than the window."""
    talk = Talk.established(mss=mss, wscale=4)
    talk.says("A", 1, 1, b"x" * 40_000)
    talk.hears("A", 1, 40_001)
    talk.user.room = 0
    talk.says("A", 40_001, 1, b"y" * 65_536)
    talk.hears("A", 1, 105_537, window=0)
    talk.reads()
    assert talk.hears("A", 1, 105_537).window > 0


def test_a_closed_window_is_probed_even_if_the_link_was_busy_when_it_closed() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 1000)
    talk.hears("A", 1)
    talk.connection.write(b"y" * 500)
    talk.connection.receive(0xFFFFFFF1, (OUR_ISN + 1001) & 0xFFFFFFFF, 0x10, 0, memoryview(b""), None, talk.now)
    assert talk.connection.transmit(talk.now, 0) == []
    talk.passes(2)
    talk.hears("A", 1000, 1, b"")


def test_the_persist_timer_does_not_run_while_data_waits_for_the_link_only() -> None:
    talk = Talk.established()
    talk.connection.write(b"x" * 500)
    assert talk.connection.transmit(talk.now, 0) == []
    assert talk.connection.next_timeout() > 1e9


# -- memory


def test_unread_and_early_data_count_against_the_budget_of_all() -> None:
    talk = Talk.established(TcpConfig(receive_window=8000, receive_budget=1 << 20))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 1000)
    assert talk.budget.used == 1000
    talk.says("A", 3001, 1, b"z" * 1000)
    talk.says("A", 3001, 1, b"z" * 1000)
    assert talk.budget.used == 2000
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


def test_tiny_unread_segments_are_kept_together() -> None:
    talk = Talk.established()
    talk.user.room = 0
    for number in range(3000):
        talk.says("A", 1 + 2 * number, 1, b"ab")
    assert len(talk.connection.receiver.backlog) <= 2
    talk.reads()
    assert talk.user.data == b"ab" * 3000


@pytest.mark.parametrize("half", ["CLOSE-WAIT", "FIN-WAIT-2"])
def test_a_half_closed_connection_asks_whether_the_peer_lives(half: str) -> None:
    talk = Talk.established(TcpConfig(keepalive=60))
    if half == "CLOSE-WAIT":
        talk.says("FA", 1, 1)
        talk.hears("A", 1, 2)
        probe, seq = 0, 2
    else:
        talk.closes()
        talk.hears("FA", 1)
        talk.says("A", 1, 2)
        probe, seq = 1, 1
    assert talk.state == half
    talk.passes(60.5)
    talk.hears("A", probe)
    talk.says("R", seq)  # its kernel has forgotten it
    assert isinstance(talk.user.error, ConnectionResetError)
    assert talk.quiet


def test_a_peer_that_sends_with_its_window_closed_is_not_given_up() -> None:
    talk = Talk.established(TcpConfig(retries=3), window=1000)
    talk.writes(b"x" * 2000)
    talk.hears("A", 1)
    talk.says("A", 1, 1001, window=0)
    at = 1
    for _ in range(200):
        talk.passes(1)
        talk._out.clear()
        talk.says("A", at, 1001, b"y", window=0)
        at += 1
    assert talk.state == "ESTABLISHED"
    assert talk.user.data == b"y" * 200


def test_an_older_segment_does_not_bring_its_window_back() -> None:
    talk = Talk.established(window=8000)
    talk.says("A", 1, 1, b"a" * 100, window=8000)
    talk.says("A", 101, 1, b"b" * 100, window=4000)
    talk.says("A", 1, 1, b"a" * 100, window=9000)  # late, as the network wills
    assert talk.connection.sender.wnd == 4000


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


def test_after_a_stall_nothing_is_sent_again_but_the_question() -> None:
    """The link stood still: what comes back shows that the first copies arrived."""
    talk = Talk.established(TcpConfig(congestion=Unlimited), sack=True)
    for number in range(10):
        talk.writes(bytes([number]) * MSS)
        talk.hears("A", 1 + number * MSS)
    talk.writes(b"new")
    talk.hears("A", 10_001)
    talk.closes()
    talk.hears("FA", 10_004)
    talk.passes(1.0)
    talk.hears("A", 1, data=bytes(MSS))
    talk.silent()
    talk.says("A", 1, 4501)
    talk.silent()
    assert talk.connection.sender.flight == 10_004 - 4500
    talk.passes(5.0)  # the rest was lost after all
    talk.hears("A", 4501)
    talk.says("A", 1, 10_005)
    assert talk.state == "FIN-WAIT-2"


def test_a_closed_window_is_asked_for_as_often_as_configured() -> None:
    talk = Talk.established(TcpConfig(longest_persist=5.0, persist_retries=30))
    talk.writes(b"x")
    talk.hears("A", 1)
    talk.says("A", 1, 2, window=0)
    talk.writes(b"y")
    talk.passes(100)
    assert len(talk._out) >= 20
