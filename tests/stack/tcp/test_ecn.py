"""Explicit congestion notification: agreed on, echoed, obeyed (RFC 3168, section 6.1)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno
from netbridge.stack.tcp.segment import Options

from .conversation import MSS, PEER_ISN, Talk


def asking() -> Talk:
    """Our SYN asked for it, and the answer is awaited."""
    talk = Talk(TcpConfig(ecn_request=True))
    talk.connection.open()
    talk.hears("SEC", 0, markable=False)
    return talk


# -- agreed on (section 6.1.1)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_agreed_to_when_the_peer_asks(ours: bool, theirs: bool) -> None:
    talk = Talk(TcpConfig(ecn=ours))
    talk.connection.accept(PEER_ISN, 65535, Options(MSS, None), ecn=theirs)
    talk.hears("SAE" if ours and theirs else "SA", 0, 1, markable=False)
    assert talk.connection.ecn == (ours and theirs)


def test_not_asked_for_unless_told_to() -> None:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)


@pytest.mark.parametrize(("answer", "agreed"), [("SAE", True), ("SA", False), ("SAEC", False), ("SAC", False)])
def test_only_ece_alone_is_consent(answer: str, agreed: bool) -> None:
    """Some hosts mirror the flags they do not know."""
    talk = asking()
    talk.says(answer, 0, 1)
    talk.hears("A", 1, 1, markable=False)
    assert talk.connection.ecn is agreed


def test_a_syn_sent_again_asks_no_more() -> None:
    """Something on the way may drop what has these flags (section 6.1.1.1)."""
    talk = asking()
    talk.passes(1.1)
    talk.hears("S", 0)
    talk.says("SAE", 0, 1)
    assert not talk.connection.ecn


def test_a_peer_that_falls_back_is_followed() -> None:
    talk = Talk()
    talk.connection.accept(PEER_ISN, 65535, Options(MSS, None), ecn=True)
    talk.hears("SAE", 0, 1)
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    assert not talk.connection.ecn


def test_both_ask_at_once() -> None:
    talk = asking()
    talk.says("SEC", 0)
    talk.hears("SAE", 0, 1)
    talk.says("SAE", 0, 1)
    assert talk.connection.ecn
    talk.hears("A", 1, 1)


# -- markable (sections 5.2, 6.1.4, 6.1.5)


def test_new_data_may_be_marked_and_nothing_else() -> None:
    talk = Talk.established(ecn=True)
    talk.writes(b"x" * MSS)
    talk.hears("A", 1, markable=True)
    talk.passes(0.8)
    talk.hears("A", 1, markable=False)  # sent again: a mark on it might get lost with it once more
    talk.says("A", 1, 1 + MSS)
    talk.says("A", 1, 1 + MSS, b"y" * 2 * MSS)
    talk.hears("A", 1 + MSS, 1 + 2 * MSS, b"", markable=False)
    talk.closes()
    talk.hears("FA", 1 + MSS, 1 + 2 * MSS, markable=False)


def test_nothing_may_be_marked_without_it() -> None:
    talk = Talk.established()
    talk.writes(b"x" * MSS)
    talk.hears("A", 1, markable=False)


# -- echoed (section 6.1.3)


def test_a_mark_is_echoed_on_everything_until_the_peer_says_it_sends_less() -> None:
    talk = Talk.established(ecn=True)
    talk.says("A", 1, 1, b"x" * MSS, marked=True)
    talk.hears("AE", 1, 1 + MSS)  # at once
    talk.writes(b"mine")
    talk.hears("AE", 1, 1 + MSS, b"mine")
    talk.says("A", 1 + MSS, 5, b"x" * 2 * MSS)
    talk.hears("AE", 5, 1 + 3 * MSS)
    talk.says("AC", 1 + 3 * MSS, 5, b"x")
    talk.hears("A", 5, 2 + 3 * MSS)
    assert talk.counters.marked == 1


def test_a_packet_that_tells_of_less_may_be_marked_itself() -> None:
    talk = Talk.established(ecn=True)
    talk.says("A", 1, 1, b"x", marked=True)
    talk.hears("AE", 1, 2)
    talk.says("AC", 2, 1, b"x", marked=True)
    talk.hears("AE", 1, 3)


def test_marks_outside_the_window_and_on_empty_segments_say_nothing() -> None:
    talk = Talk.established(ecn=True)
    talk.says("A", 900_000, 1, b"x", marked=True)
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1, marked=True)
    talk.says("AC", 1, 1)
    talk.silent()
    assert talk.counters.marked == 0


def test_without_it_flags_and_marks_mean_nothing() -> None:
    talk = Talk.established()
    talk.says("AEC", 1, 1, b"x" * 2 * MSS, marked=True)
    talk.hears("A", 1, 1 + 2 * MSS)


# -- obeyed (section 6.1.2)


def test_the_sender_hears_of_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk.established(ecn=True)
    heard: list[float] = []
    monkeypatch.setattr(type(talk.connection.sender), "ece", lambda _sender, _flight, now: heard.append(now))
    talk.writes(b"x" * MSS)
    talk.hears("A", 1)
    talk.says("AE", 1, 77_000)  # blind
    talk.hears("A", 1 + MSS)
    assert not heard
    talk.says("AE", 1, 1 + MSS)
    assert heard == [talk.now]


def test_an_echo_halves_the_window_once_and_the_next_new_data_says_so() -> None:
    talk = Talk.established(TcpConfig(congestion=NewReno), ecn=True)
    for number in range(10):
        talk.writes(bytes([number]) * MSS)
        talk.hears("A", 1 + number * MSS)
    talk.says("AE", 1, 1 + 2 * MSS)
    window = talk.connection.sender.cc.cwnd
    assert window < 10 * MSS
    talk.says("AE", 1, 1 + 4 * MSS)  # the same window's
    assert talk.connection.sender.cc.cwnd <= window
    talk.says("AE", 1, 1 + 10 * MSS)
    talk.writes(b"n" * 2 * MSS)
    talk.hears("AC", 1 + 10 * MSS, markable=True)
    talk.hears("A", 1 + 11 * MSS, markable=True)


def test_an_echo_that_nothing_new_could_answer_yet_is_the_same_mark() -> None:
    """The application has said all: no segment bears CWR, so each acknowledgement bears ECE, the last one as well, with
    next to nothing in flight. That must not reduce the window to next to nothing.
    """
    talk = Talk.established(ecn=True)
    for number in range(10):
        talk.writes(bytes([number]) * MSS)
        talk.hears("A", 1 + number * MSS)
    cc = talk.connection.sender.cc
    for number in (2, 4, 6, 8, 10):
        talk.says("AE", 1, 1 + number * MSS)
    assert cc.ssthresh == 5 * MSS
    talk.writes(b"n" * 2 * MSS)
    talk.hears("AC", 1 + 10 * MSS)
    talk.hears("A", 1 + 11 * MSS)
    talk.says("AE", 1, 1 + 10 * MSS, b"y")  # it left before CWR came
    assert cc.ssthresh == 5 * MSS
    talk.says("AE", 2, 1 + 12 * MSS)  # and this is another mark
    assert cc.ssthresh < 5 * MSS


def test_an_echo_on_the_acknowledgement_of_everything_halves_what_was_in_flight() -> None:
    talk = Talk.established(ecn=True)
    for number in range(10):
        talk.writes(bytes([number]) * MSS)
        talk.hears("A", 1 + number * MSS)
    talk.says("AE", 1, 1 + 10 * MSS)
    assert talk.connection.sender.cc.ssthresh == 5 * MSS
