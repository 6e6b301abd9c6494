"""Two thousand packets, read by us and by scapy; a million with `make scapy`. And that a wrong reading is noticed."""

from __future__ import annotations

from typing import Any
from unittest import mock

from . import run
from .packets import CHANGED, OURS, THEIRS, packet
from .readings import by_us


def test_two_thousand_packets_are_read_alike() -> None:
    tally = run.agree(7, 0, 2000)
    assert tally.packets == 2000
    assert not tally.differing, "\n".join(tally.differing)
    assert tally.kinds[OURS] > 700
    assert tally.kinds[THEIRS] > 50
    assert 100 < sum(tally.refused.values()) < 700


def test_a_wrong_reading_is_noticed() -> None:
    def wrong(data: bytes) -> dict[str, Any]:
        found = by_us(data)
        if found.get("window") is not None:
            found["window"] ^= 1
        return found

    with mock.patch.object(run, "by_us", wrong):
        tally = run.agree(7, 0, 100)
    assert tally.differing
    assert all(" window: " in fault for fault in tally.differing)


def test_a_segment_routing_header_with_a_wrong_count() -> None:
    """It says six segments and has room for one."""
    ends = bytes(15) + b"\1" + bytes(15) + b"\2"
    routing = bytes([59, 2, 4, 0, 5, 0, 0, 0]) + bytes(16)
    data = bytes.fromhex("60000000") + (len(routing) + 40).to_bytes(2, "big") + b"\x2b\x40" + ends + routing + bytes(40)
    tally = run.Tally()
    run.look(tally, 0, CHANGED, data)
    assert not tally.differing, tally.differing
    assert set(tally.explained) == {run.SEGMENT_ROUTING}, tally


def test_the_same_seed_gives_the_same_packets() -> None:
    assert [packet(3, number) for number in range(5)] == [packet(3, number) for number in range(5)]
    assert packet(3, 1) != packet(4, 1)
