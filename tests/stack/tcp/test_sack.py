"""Selective acknowledgements: what is reported, what is made of reports, and what a liar gains."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited
from netbridge.stack.tcp.segment import Options, emit_sacks, parse_options

from .conversation import MSS, OUR_ISN, Talk


def part(number: int) -> bytes:
    """The payload of our segment `number`, whose first byte is 1 + number * MSS."""
    return bytes([number]) * MSS


def sending(count: int, config: TcpConfig | None = None, *, max_payload: int | None = None) -> Talk:
    """A peer with SACK has `count` segments of ours on their way."""
    talk = Talk.established(config, sack=True, max_payload=max_payload)
    for number in range(count):
        talk.writes(part(number))
        talk.hears("A", 1 + number * MSS, data=part(number))
    return talk


# -- negotiation (RFC 2018, section 2)


def test_offered_when_opening() -> None:
    talk = Talk()
    talk.connection.open()
    assert parse_options(talk.hears("S", 0).options).sack_permitted


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_agreed_only_when_both_want_it(ours: bool, theirs: bool) -> None:
    talk = Talk(TcpConfig(sack=ours))
    talk.connection.accept(7, 65535, Options(MSS, None, sack_permitted=theirs))
    talk._pump()
    assert parse_options(talk._out[0].options).sack_permitted == (ours and theirs)


def test_not_reported_to_a_peer_that_did_not_ask() -> None:
    talk = Talk.established(sack=False)
    talk.says("A", 1 + MSS, 1, part(1))
    assert talk.hears("A", 1, 1).options == b""


# -- reports (section 4)


def test_what_lies_beyond_a_hole_is_reported_the_latest_first() -> None:
    talk = Talk.established(sack=True)
    talk.says("A", 1001, 1, part(1))
    talk.hears("A", 1, 1, sacks=[(1001, 2001)])
    talk.says("A", 5001, 1, part(5))
    talk.hears("A", 1, 1, sacks=[(5001, 6001), (1001, 2001)])
    talk.says("A", 3001, 1, part(3))
    talk.hears("A", 1, 1, sacks=[(3001, 4001), (5001, 6001), (1001, 2001)])
    talk.says("A", 2001, 1, part(2))  # joins two
    talk.hears("A", 1, 1, sacks=[(1001, 4001), (5001, 6001)])
    talk.says("A", 1, 1, part(0))
    talk.hears("A", 1, 4001, sacks=[(5001, 6001)])
    talk.says("A", 4001, 1, part(4))
    talk.hears("A", 1, 6001, sacks=[])
    assert talk.user.data == b"".join(part(number) for number in range(6))


def test_only_four_ranges_fit() -> None:
    talk = Talk.established(sack=True)
    for number in range(1, 14, 2):
        talk.says("A", 1 + number * 10, 1, b"0123456789")
        told = talk.hears("A", 1, 1)
    assert len(told.options) == 36
    assert len(parse_options(told.options).sacks) == 4


def test_data_does_not_swallow_the_report() -> None:
    talk = Talk.established(sack=True)
    talk.connection.write(part(0))
    talk.says("A", 1001, 1, part(1))
    assert talk.hears("A", 1, 1, part(0)).options == b""
    talk.hears("A", 1001, 1, sacks=[(1001, 2001)])
    talk.silent()


# -- recovery (RFC 6675)


def test_only_the_holes_are_sent_again() -> None:
    talk = sending(10)
    talk.says("A", 1, 1, sacks=[(1001, 2001)])
    talk.says("A", 1, 1, sacks=[(1001, 3001)])
    talk.silent()
    talk.says("A", 1, 1, sacks=[(4001, 5001), (1001, 3001)])  # the third
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 1, sacks=[(4001, 8001), (1001, 3001)])
    talk.hears("A", 3001, data=part(3))
    talk.says("A", 1, 1, sacks=[(4001, 10001), (1001, 3001)])
    talk.silent()
    talk.says("A", 1, 3001, sacks=[(4001, 10001)])
    talk.silent()  # 3001 is on its way
    talk.says("A", 1, 10001)
    assert not talk.connection.sender.in_recovery
    assert talk.quiet


def test_enough_bytes_beyond_a_hole_need_no_third_report() -> None:
    """RFC 6675, section 5, step (4): IsLost(SND.UNA) alone begins recovery."""
    talk = sending(6)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))


def test_a_whole_super_segment_is_sent_again_in_one() -> None:
    talk = Talk.established(TcpConfig(congestion=Unlimited), sack=True, max_payload=8 * MSS)
    for number in range(6):
        talk.writes(bytes([number]) * 8 * MSS)
        talk.hears("A", 1 + 8 * MSS * number)
    for number in range(2, 5):
        talk.says("A", 1, 1, sacks=[(1 + 16 * MSS, 1 + 8 * MSS * (number + 1))])
    first = talk.hears("A", 1)
    second = talk.hears("A", 8001)
    assert bytes(first.payload) + bytes(second.payload) == bytes(8 * MSS) + b"\1" * 8 * MSS
    talk.silent()


def test_the_window_of_recovery_is_what_is_still_on_its_way() -> None:
    """Two reports let new segments out (RFC 3042); the third halves the window, and half of what arrives leaves."""
    talk = sending(10)
    talk.writes(part(10) * 10)
    talk.silent()  # ten segments are the initial window
    talk.passes(0.1)
    talk.says("A", 1, 1, sacks=[(1001, 2001)])
    talk.hears("A", 10_001)
    talk.says("A", 1, 1, sacks=[(1001, 3001)])
    talk.hears("A", 11_001)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))
    assert talk.connection.sender.cc.ssthresh == 5 * MSS
    left = 0
    for end in range(5001, 13_001, 1000):  # everything else arrives
        talk.says("A", 1, 1, sacks=[(1001, end)])
        left += len(talk._out)
        talk._out.clear()
    assert left == 4
    talk.says("A", 1, 13_001)
    assert talk.connection.sender.cc.cwnd == 5 * MSS


def test_the_end_is_not_forgotten() -> None:
    """A FIN that came early is reported within the range; what is missing is sent again without it."""
    talk = sending(4)
    talk.closes()
    talk.hears("FA", 4001)
    talk.says("A", 1, 1, sacks=[(1001, 4002)])
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 4002)
    assert talk.state == "FIN-WAIT-2"


def test_a_timeout_keeps_what_was_reported() -> None:
    """RFC 6675, section 5.1: it tells what need not be sent again."""
    talk = sending(4, TcpConfig(congestion=Unlimited))
    talk.says("A", 1, 1, sacks=[(1001, 2001)])
    talk.says("A", 1, 1, sacks=[(1001, 3001)])
    talk.passes(1.1)
    talk.hears("A", 1, data=part(0))  # RACK's timer
    talk.hears("A", 1, data=part(0))  # the retransmission timer
    talk.says("A", 1, 3001)
    talk.hears("A", 3001, data=part(3))
    talk.says("A", 1, 4001)
    assert talk.quiet


def test_a_peer_may_throw_away_what_it_reported() -> None:
    """RFC 2018, section 8: it acknowledges less than it reported to hold, and gets it again."""
    talk = sending(4)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 1001)
    talk.silent()  # the report may be on its way still
    talk.passes(0.5)
    talk.hears("A", 1001, data=part(1))
    talk.says("A", 1, 2001)
    talk.hears("A", 2001, data=part(2))
    talk.hears("A", 3001, data=part(3))
    talk.says("A", 1, 4001)
    assert talk.quiet


# -- liars (RFC 2018 section 5; CVE-2019-11477, -11478)


@pytest.mark.parametrize(
    "block", [(3001, 4001), (0, 1001), (2001, 1001), (1001, 1001), (1, 0x8000_0000), (0x9000_0000, 0xA000_0000)]
)
def test_reports_about_what_is_not_on_its_way_are_ignored(block: tuple[int, int]) -> None:
    talk = sending(3)
    for _ in range(5):
        talk.says("A", 1, 1, sacks=[block])
    talk.silent()
    assert talk.connection.sender.board is None


def test_the_option_is_read_as_it_is_written() -> None:
    blocks = ((1, 2), (OUR_ISN, 5), (7, 9), (11, 13))
    assert parse_options(emit_sacks(blocks)).sacks == blocks
    assert len(emit_sacks(blocks)) == 36
    for cut in range(36):
        parse_options(emit_sacks(blocks)[:cut])
    assert parse_options(bytes((5, 9)) + bytes(7)).sacks == ()
