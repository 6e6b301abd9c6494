"""Opening a connection, from either side (RFC 9293, sections 3.5 and 3.10.7.3)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import Options

from .conversation import MSS, OUR_ISN, PEER_ISN, Talk


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


def test_our_isn_is_where_the_tests_say() -> None:
    assert Talk.established().connection.sender.iss == OUR_ISN


def test_data_written_before_the_handshake_ends_waits_for_it() -> None:
    talk = Talk()
    talk.connection.accept(0xFFFFFFF0, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    talk.writes(b"a server that speaks first")
    assert not talk.connection.wants_to_send  # whoever pumps while it wants to send would pump for ever
    talk.silent()
    talk.says("A", 1, 1)
    talk.hears("A", 1, 1, b"a server that speaks first")


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


def test_a_fin_on_a_syn_ack_is_taken() -> None:
    """RFC 9293, section 3.10.7.3: data and controls beside the SYN go on at the sixth step."""
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("SFA", 0, 1, b"all there is")
    assert talk.user.data == b"all there is"
    assert talk.user.calls == ["connected", "eof"]
    assert talk.state == "CLOSE-WAIT"
    talk.hears("A", 1, 14)


def test_data_before_the_handshake_ends_comes_again() -> None:
    """On a SYN, and on one that crosses ours, it is not taken, nor acknowledged (section 3.10.7.2)."""
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("S", 0, 0, b"early")
    talk.hears("SA", 0, 1)
    talk.says("A", 1, 1, b"early")
    assert talk.user.data == b"early"


def test_fin_with_the_last_ack_of_the_handshake() -> None:
    talk = Talk()
    talk.connection.accept(PEER_ISN, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    talk.says("FA", 1, 1, b"question")
    assert talk.user.calls == ["connected", "eof"]
    assert talk.state == "CLOSE-WAIT"
    talk.hears("A", 1, 10)


def test_data_without_an_ack_does_not_open() -> None:
    talk = Talk()
    talk.connection.accept(PEER_ISN, 65535, Options(MSS, None))
    talk.hears("SA", 0, 1)
    talk.says("", 1, 0, b"no ACK")
    assert talk.state == "SYN-RECEIVED"
    assert talk.counters.without_ack == 1
    talk.says("A", 1, 77)
    talk.hears("R", 77)
    assert talk.state == "SYN-RECEIVED"


def test_a_crossing_syn_ack_of_what_was_never_sent_is_answered_once() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    talk.says("SA", 0, 77)
    talk.hears("A", 1, 1)
    talk.silent()
    assert talk.state == "SYN-RECEIVED"
