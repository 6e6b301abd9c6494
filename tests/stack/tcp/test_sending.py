"""Data out: packets, timeouts, recovery (RFC 5681, 6298, 6582)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited
from netbridge.stack.tcp.segment import Options

from .conversation import MSS, Talk


def test_recovery_begins_also_after_gigabytes_without_a_loss() -> None:
    talk = Talk.established(sack=True)
    sender = talk.connection.sender
    for _ in range(5):
        for _ in range(8):  # 512 MiB in steps, without sending them all
            sender.una = sender.nxt = (sender.nxt + (1 << 26)) & 0xFFFFFFFF
            sender.base += 1 << 26
            talk.writes(bytes(1))
            talk._out.clear()
            sender.acked(sender.nxt, talk.now)
        sender.cc.cwnd = 10 * MSS
        for _ in range(5):
            talk.writes(bytes(MSS))
        talk._out.clear()
        una = sender.una
        sender.take_sacks([((una + MSS) & 0xFFFFFFFF, (una + 4 * MSS) & 0xFFFFFFFF)])
        sender.transmit(talk.now, 1 << 20)
        assert sender.in_recovery
        sender.acked(sender.nxt, talk.now)
        assert sender.transmit(talk.now, 1 << 20) == []
        assert not sender.in_recovery
        assert sender.board is None


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
    assert talk.connection.sender.cc.ssthresh == 25_000


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


def test_an_older_segment_does_not_bring_its_window_back() -> None:
    talk = Talk.established(window=8000)
    talk.says("A", 1, 1, b"a" * 100, window=8000)
    talk.says("A", 101, 1, b"b" * 100, window=4000)
    talk.says("A", 1, 1, b"a" * 100, window=9000)  # late, as the network wills
    assert talk.connection.sender.wnd == 4000


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


def test_tiny_chunks_in_flight_are_kept_as_one() -> None:
    """Limits count payload; an object for each byte would cost twenty times that, and a walk through all at a loss."""
    talk = Talk.established(TcpConfig(congestion=Unlimited), sack=True)
    for number in range(5000):
        talk.writes(bytes((number & 255, 1)))
    talk._out.clear()
    sender = talk.connection.sender
    assert sender.flight == 10_000
    assert len(sender.sent) < 10
    talk.says("A", 1, 1, sacks=[(4001, 9001)])
    assert bytes(talk.hears("A", 1).payload[:4]) == bytes((0, 1, 1, 1))
    talk.says("A", 1, 10_001)
    assert not sender.sent
