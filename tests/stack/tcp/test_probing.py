"""Probes of closed windows and of silent peers (RFC 9293, sections 3.8.4 and 3.8.6.1)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import ACK, Options
from netbridge.stack.tcp.seq import MASK

from .conversation import MSS, OUR_ISN, PEER_ISN, Talk


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


def test_a_window_far_smaller_than_that_of_the_syn_is_silly() -> None:
    """Half of the largest window that was seen is worth a small segment; the SYN's was seen (section 3.8.6.2.1)."""
    talk = Talk()
    talk.connection.accept(PEER_ISN, 65535, Options(MSS, None), ecn=False)
    talk.hears("SA", 0, 1)
    talk.passes(0.25)
    talk.says("A", 1, 1, window=9)
    talk.writes(b"x" * 10)
    talk.silent()
    talk.passes(0.75)
    talk.hears("A", 1, 1, b"x" * 9)


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
    assert talk.user.calls[-1] == "closed"
    assert isinstance(talk.user.error, ConnectionResetError) == (half == "FIN-WAIT-2")  # else it had said all
    assert talk.quiet


@pytest.mark.parametrize("reads", [True, False])
def test_what_was_said_before_the_peer_was_forgotten_is_read(reads: bool) -> None:
    """By a user that takes some now and then; one that takes nothing has a time limit."""
    talk = Talk.established(TcpConfig(keepalive=60, orphan=30))
    talk.user.room = 0
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.passes(60.5)
    talk.hears("A", 0)
    talk.says("R", 6)
    assert "closed" not in talk.user.calls
    if not reads:
        talk.passes(30.5)
        assert talk.user.calls == ["connected", "closed"]
        assert isinstance(talk.user.error, TimeoutError)
        assert talk.connection.next_timeout() > 1e9
        return
    talk.passes(20)
    talk.reads(1)
    talk.passes(20)
    assert "closed" not in talk.user.calls
    talk.reads()
    assert talk.user.data == b"data"
    assert talk.user.calls[-2:] == ["eof", "closed"]
    assert talk.user.error is None
    assert talk.connection.next_timeout() > 1e9


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


def test_a_closed_window_is_asked_for_as_often_as_configured() -> None:
    talk = Talk.established(TcpConfig(longest_persist=5.0, persist_retries=30))
    talk.writes(b"x")
    talk.hears("A", 1)
    talk.says("A", 1, 2, window=0)
    talk.writes(b"y")
    talk.passes(100)
    assert len(talk._out) >= 20


def test_after_a_jump_of_the_clock_each_probe_has_its_time() -> None:
    """The process stood still for a quarter of an hour: the peer is asked, and may answer."""
    talk = Talk.established(TcpConfig(keepalive=60.0))
    talk.now += 1000
    for _ in range(12):
        if talk.connection.next_timeout() <= talk.now:
            talk.connection.handle_timeout(talk.now)
    talk.hears("A", 0, 1)
    talk.silent()
    assert talk.state == "ESTABLISHED"
    assert talk.connection.next_timeout() > talk.now


def test_a_window_that_closes_in_the_midst_of_a_recovery_leaves_no_crumb_of_a_congestion_window() -> None:
    """The timer ends the recovery, whose congestion window was down to what was in flight; below one segment it would
    let nothing pass for ever.
    """
    talk = Talk.established(sack=True, window=10_000)
    talk.writes(b"x" * 1000)
    talk.writes(b"y" * 1000)
    talk.passes(0.25)
    talk.says("A", 1, 1, window=1700, sacks=[(1001, 1701)])  # the first is lost, the second cut at the window's edge
    talk.passes(0.2)
    talk.says("A", 1, 1701, window=0)
    talk.passes(3.0)
    talk.left()
    talk.says("A", 1, 2001, window=10_000)  # the rest had arrived; only its news was lost
    talk.writes(b"z" * 1500)
    talk.hears("A", 2001, 1)


def test_a_window_that_closes_while_a_copy_waits_for_the_link_is_probed() -> None:
    """The retransmission timer expired, but the link had no room; now the copy may not leave, and nothing else would
    ever ask whether the window opened again.
    """
    talk = Talk.established(sack=True)
    connection = talk.connection
    talk.writes(b"x" * 1000)
    talk.hears("A", 1)
    talk.now = connection.sender.deadline
    connection.handle_timeout(talk.now)
    assert not connection.transmit(talk.now, 0)
    connection.receive(
        (PEER_ISN + 1) & MASK, (OUR_ISN + 1) & MASK, ACK, 0, memoryview(b""), None, talk.now,
    )  # fmt: skip
    assert not connection.transmit(talk.now, 0)
    talk.passes(2.0)
    talk.hears("A", 0)
    talk.says("A", 1, 1)  # the news of the opening was lost: this answers the probe
    talk.hears("A", 1, data=b"x" * 1000)
