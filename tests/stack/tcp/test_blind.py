"""Segments that may be forged (RFC 5961)."""

from __future__ import annotations

from .conversation import MSS, Talk


def test_an_acknowledgement_on_any_old_number_is_not_believed() -> None:
    """RFC 5961: a blind sender must hit the window of both numbers, not one."""
    talk = Talk.established()
    talk.writes(b"x" * MSS)
    talk.hears("A", 1)
    talk.says("A", -500_000, 1 + MSS)
    assert talk.connection.sender.flight == MSS
    talk.says("A", 0, 1 + MSS)
    assert talk.connection.sender.flight == 0


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


def test_an_ack_from_before_the_first_byte_is_challenged() -> None:
    """Nothing of ours was ever acknowledged there, so no old duplicate can say it; as Linux, it halves the target."""
    talk = Talk.established()
    talk.writes(b"x" * 100)
    talk.hears("A", 1)
    talk.says("A", 1, 101)
    talk.says("A", 1, 1, b"old but true")
    assert talk.user.data == b"old but true"
    talk.says("A", 13, 0, b"blind")
    assert talk.user.data == b"old but true"
    assert talk.counters.challenges == 1


def test_two_ends_that_were_both_lied_to_do_not_answer_each_other_for_ever() -> None:
    """An ACK storm: a byte forged to each of two ends makes every acknowledgement of one look to the other like a
    probe, on the number before the next, that acknowledges what was never sent.
    """
    talk = Talk.established()
    for _ in range(50):
        talk.says("A", 0, 2)
    assert len(talk.left()) == 1
    talk.says("A", 0, 1)
    talk.hears("A", 1, 1)  # a true probe is answered as ever
