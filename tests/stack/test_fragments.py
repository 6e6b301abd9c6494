from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    defragment6,
)

from netbridge.stack import ipv4
from netbridge.stack.checksum import fold, verifies
from netbridge.stack.errors import WireError
from netbridge.stack.fragments import MAX_BYTES, MAX_FRAGMENTS, TIMEOUT, Reassembler, fragment
from netbridge.stack.packet import Fragment, IpPacket
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, dissect, fragments, packed, parse, raw, whole

PAYLOAD = bytes(random.Random(1).randbytes(4000))
WHOLE4 = IP(src=CLIENT4, dst=SERVER4, id=77, ttl=9) / UDP(sport=1, dport=2) / PAYLOAD
WHOLE6 = IPv6(src=CLIENT6, dst=SERVER6, hlim=9) / UDP(sport=1, dport=2) / PAYLOAD
PIECES4 = fragments(WHOLE4)
PIECES6 = fragments(
    IPv6(src=CLIENT6, dst=SERVER6, hlim=9) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0")])
    / IPv6ExtHdrFragment(id=99) / UDP(sport=1, dport=2) / PAYLOAD,
)


def piece(offset: int, data: bytes, *, more: bool = True, identification: int = 1) -> Fragment:
    """An IPv4 fragment."""
    flags = "MF" if more else 0
    packet = IP(src=CLIENT4, dst=SERVER4, proto=99, id=identification, flags=flags, frag=offset // 8) / data
    parsed = parse(raw(packet))
    assert isinstance(parsed, Fragment)
    return parsed


def add(reassembler: Reassembler, data: bytes, now: float = 0.0) -> IpPacket | None:
    parsed = parse(data)
    assert isinstance(parsed, Fragment)
    return reassembler.add(parsed, now)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("pieces", [PIECES4, PIECES6], ids=["v4", "v6"])
def test_in_any_order(pieces: list[bytes], order: tuple[int, ...]) -> None:
    assert len(pieces) == 3
    reassembler = Reassembler()
    results = [add(reassembler, pieces[index]) for index in order]
    assert results[:2] == [None, None]
    packet = results[2]
    assert packet is not None
    assert not packet.dont_fragment
    assert (packet.protocol, packet.ttl) == (17, 9)
    assert bytes(packet.payload[8:]) == PAYLOAD
    assert len(reassembler) == 0
    assert reassembler.bytes_held == 0
    # What was rebuilt is a packet that parses again to the same thing, without a trace of the fragments.
    again = parse(bytes(packet.packet))
    assert isinstance(again, IpPacket)
    assert again.payload == packet.payload


def test_the_rebuilt_ipv4_header_keeps_options_and_is_right() -> None:
    packet = IP(src=CLIENT4, dst=SERVER4, options=[IPOption_RR(routers=["1.2.3.4"])]) / UDP(sport=1, dport=2) / PAYLOAD
    reassembler = Reassembler()
    results = [add(reassembler, part) for part in fragments(packet)]
    assert results[-1] is not None
    data = bytes(results[-1].packet)
    assert verifies(data[: (data[0] & 15) * 4])
    assert dissect(data).len == len(data)
    assert dissect(data).flags == 0


def test_exact_duplicates_are_fine() -> None:
    reassembler = Reassembler()
    results = [add(reassembler, data) for data in (*PIECES4[:2], *PIECES4[:2], PIECES4[2])]
    assert results[-1] is not None
    assert reassembler.counters.contradicting == 0


FIRST = (8, b"a" * 64, True)


@pytest.mark.parametrize("other", [
    (8, b"b" * 64, True),  # same place, other bytes
    (8, b"a" * 64, False),  # same place, says it is the last
    (8, b"a" * 56, True),  # inside
    (8, b"a" * 72, True),  # longer
    (0, b"a" * 80, True),  # around
    (64, b"a" * 16, True),  # tail on head
    (32, b"a" * 8, True),  # in the middle
    (32, b"a" * 8, False),  # ends before what we have
], ids=str)
def test_any_overlap_drops_the_datagram_and_all_that_still_comes(other: tuple[int, bytes, bool]) -> None:
    for sequence in ((FIRST, other), (other, FIRST)):
        reassembler = Reassembler()
        for offset, data, more in sequence:
            assert reassembler.add(piece(offset, data, more=more), 0.0) is None
        assert reassembler.counters.contradicting == 1
        for offset, data, more in (FIRST, (0, b"c" * 8, True), (72, b"c" * 8, False)):
            assert reassembler.add(piece(offset, data, more=more), 1.0) is None
        assert len(reassembler) == 1  # the tombstone
        assert reassembler.expire(TIMEOUT) == []
        assert len(reassembler) == 0
        assert reassembler.bytes_held == 0


def test_two_ends_contradict_each_other() -> None:
    reassembler = Reassembler()
    reassembler.add(piece(64, b"z" * 8, more=False), 0.0)
    reassembler.add(piece(128, b"z" * 8, more=False), 0.0)
    assert reassembler.counters.contradicting == 1
    reassembler.add(piece(64, b"z" * 8, more=False, identification=2), 0.0)
    reassembler.add(piece(72, b"z" * 8, more=True, identification=2), 0.0)
    assert reassembler.counters.contradicting == 2


def test_a_datagram_has_at_most_so_many_pieces() -> None:
    reassembler = Reassembler()
    for index in range(MAX_FRAGMENTS + 1):
        assert reassembler.counters.too_many == 0
        reassembler.add(piece(16 * index, b"12345678"), 0.0)
    assert reassembler.counters.too_many == 1


def test_bomb_of_first_fragments_stays_within_the_budget() -> None:
    reassembler = Reassembler()
    one = bytearray(raw(IP(src=CLIENT4, dst=SERVER4, proto=99, flags="MF") / (b"x" * 1024)))
    for index in range(20_000):
        one[4:6], one[10:12] = index.to_bytes(2, "big"), bytes(2)
        one[10:12] = (0xFFFF ^ fold(int.from_bytes(one[:20], "big"))).to_bytes(2, "big")
        fragment = parse(bytes(one), trusted=True)
        assert isinstance(fragment, Fragment)
        reassembler.add(fragment, index * 1e-5)
        assert reassembler.bytes_held <= MAX_BYTES
    assert reassembler.counters.evicted > 0
    assert len(reassembler) < 4096
    reassembler.expire(100.0)
    assert reassembler.bytes_held == 0


def test_bomb_of_tiny_datagrams_and_of_tombstones_stays_within_the_budget() -> None:
    reassembler = Reassembler(max_bytes=100_000)
    for index in range(1_000):
        for data in (b"x" * 8, b"y" * 8):
            reassembler.add(piece(8, data, identification=index), 0.0)
            assert reassembler.bytes_held <= 100_000
    assert len(reassembler) < 200


def test_the_oldest_go_first_when_the_budget_is_spent() -> None:
    reassembler = Reassembler(max_bytes=8000)
    for index in range(10):
        reassembler.add(piece(0, bytes(1000), identification=index), float(index))
    assert reassembler.counters.evicted > 0
    last = reassembler.add(piece(1000, b"end", more=False, identification=9), 9.0)
    assert last is not None


@pytest.mark.parametrize("version", [4, 6])
def test_ping_of_death(version: int) -> None:
    if version == 4:
        packet: Any = IP(src=CLIENT4, dst=SERVER4, proto=1, id=1, frag=8191) / bytes(1480)
    else:
        packet = IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(offset=8191, m=0, id=1, nh=58) / bytes(1200)
    with pytest.raises(WireError):
        parse(raw(packet))


def test_sum_beyond_64_kib_by_the_options_of_the_first_fragment() -> None:
    """Each piece fits behind a short header; the whole does not fit behind the first one's long header."""
    reassembler = Reassembler()
    parts: list[Any] = []
    for offset in range(0, 65504, 8184):
        more = offset + 8184 < 65504
        options = [IPOption_RR(routers=["1.2.3.4"] * 9)] if offset == 0 else []
        flags = "MF" if more else 0
        parts.append(IP(src=CLIENT4, dst=SERVER4, proto=99, id=1, flags=flags, frag=offset // 8, options=options)
                     / bytes(min(8184, 65504 - offset)))
    for part in parts[:-1]:
        assert add(reassembler, raw(part)) is None
    with pytest.raises(WireError, match="too long"):
        add(reassembler, raw(parts[-1]))
    assert reassembler.bytes_held == 0


def test_timeout_tells_those_whose_first_fragment_came() -> None:
    reassembler = Reassembler()
    assert reassembler.next_timeout() is None
    add(reassembler, PIECES4[0], 10.0)
    add(reassembler, PIECES6[1], 11.0)
    assert reassembler.next_timeout() == 10.0 + TIMEOUT
    assert reassembler.expire(10.0 + TIMEOUT - 0.1) == []
    assert reassembler.expire(10.0 + TIMEOUT) == [PIECES4[0]]
    assert reassembler.next_timeout() == 11.0 + TIMEOUT
    assert reassembler.expire(50.0) == []
    assert reassembler.counters.expired == 2
    assert add(reassembler, PIECES4[1], 51.0) is None
    assert add(reassembler, PIECES4[2], 51.0) is None


def test_datagrams_do_not_mix() -> None:
    reassembler = Reassembler()
    others = fragments(IP(src=CLIENT4, dst=SERVER4, id=78) / UDP(sport=1, dport=2) / PAYLOAD[::-1])
    results = [add(reassembler, data) for pair in zip(PIECES4, others, strict=True) for data in pair]
    assert [bytes(packet.payload[8:]) for packet in results if packet] == [PAYLOAD, PAYLOAD[::-1]]


def test_trust_needs_every_piece_to_be_trusted() -> None:
    for distrusted in (0, 1, 2, None):
        reassembler = Reassembler()
        packet = None
        for index, data in enumerate(PIECES4):
            fragment = parse(data, trusted=index != distrusted)
            assert isinstance(fragment, Fragment)
            packet = reassembler.add(fragment, 0.0)
        assert packet is not None
        assert packet.checksum_trusted == (distrusted is None)


def test_the_rebuilt_v6_packet_is_walked_again() -> None:
    option = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    parts = fragments(
        IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(id=3) / option / UDP(sport=1, dport=2) / PAYLOAD,
    )
    reassembler = Reassembler()
    packet = [add(reassembler, part) for part in parts][-1]
    assert packet is not None
    assert packet.protocol == 17
    assert bytes(packet.payload[8:]) == PAYLOAD


class Model:
    """What reassembly means, byte by byte and without any cleverness."""

    def __init__(self) -> None:
        self.pieces: dict[int, tuple[bytes, bool]] = {}
        self.bytes: dict[int, int] = {}
        self.dead = False

    def add(self, offset: int, data: bytes, more: bool) -> bytes | None:
        if self.dead or self.pieces.get(offset) == (data, more):
            return None
        ends = {start + len(piece) for start, (piece, follows) in self.pieces.items() if not follows}
        places = range(offset, offset + len(data))
        if any(place in self.bytes or place >= min(ends, default=1 << 20) for place in places):
            self.dead = True
        elif not more and (ends or (self.bytes and max(self.bytes) >= places.stop)):
            self.dead = True
        if self.dead:
            return None
        self.pieces[offset] = data, more
        self.bytes.update(zip(places, data, strict=True))
        ends |= set() if more else {places.stop}
        if ends and len(self.bytes) == min(ends):
            result = bytes(self.bytes[place] for place in sorted(self.bytes))
            self.__init__()  # type: ignore[misc]
            return result
        return None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.booleans(), st.booleans()), max_size=40))
def test_whatever_comes_the_result_is_what_the_model_says(ranges: list[tuple[int, int, bool, bool]]) -> None:
    original = bytes(range(72))
    reassembler, model = Reassembler(), Model()
    for start, length, more, changed in ranges:
        if start == 0 and not more:
            continue  # that is no fragment
        data = original[start * 8 : (start + length) * 8]
        data = data[::-1] if changed else data
        expected = model.add(start * 8, data, more)
        packet = reassembler.add(piece(start * 8, data, more=more), 0.0)
        assert (packet and bytes(packet.payload)) == expected
        assert (reassembler.bytes_held == 0) == (len(reassembler) == 0)


@given(st.permutations(range(9)), st.lists(st.integers(0, 8), max_size=5))
def test_any_order_with_any_duplicates_completes(order: list[int], repeated: list[int]) -> None:
    reassembler, original = Reassembler(), bytes(range(72))
    results = []
    for index in order[:-1] + [index for index in repeated if index != order[-1]] + order[-1:]:
        results.append(reassembler.add(piece(index * 8, original[index * 8 : index * 8 + 8], more=index < 8), 0.0))
    assert [bytes(packet.payload) for packet in results if packet] == [original]


# -- output


@given(st.sampled_from([4, 6]), st.integers(1501, 9000), st.integers(1280, 1500))
def test_fragments_sent_are_put_together_by_scapy_and_by_us(version: int, length: int, mtu: int) -> None:
    data = bytes(random.Random(length).randbytes(length))
    source, destination = (packed(SERVER4), packed(CLIENT4)) if version == 4 else (packed(SERVER6), packed(CLIENT6))
    packets = fragment(version, source, destination, 99, data, mtu, ttl=9, tos=4)
    assert all(len(packet) <= mtu for packet in packets)
    reassembler = Reassembler()
    results = [add(reassembler, packet) for packet in packets]
    assert results[-1] is not None
    assert results[-1].payload == data
    assert (results[-1].ttl, results[-1].tos) == (9, 4)
    if version == 6:
        together: Any = defragment6([dissect(packet) for packet in packets])  # type: ignore[no-untyped-call]
        assert bytes(together)[40:] == data


def test_identifications_are_not_predictable() -> None:
    def identification(packet: bytes) -> int:
        return int.from_bytes(packet[4:6], "big")

    seen = [identification(fragment(4, packed(SERVER4), packed(CLIENT4), 99, bytes(100), 68, ttl=1, tos=0)[0])
            for _ in range(50)]
    steps = {(b - a) & 0xFFFF for a, b in itertools.pairwise(seen)}
    assert len(steps) > 40


def test_whole_is_not_confused_with_fragment() -> None:
    assert isinstance(whole(WHOLE4), IpPacket)
    assert isinstance(whole(WHOLE6), IpPacket)
    assert ipv4.OFFSET_MASK << 3 == 65528


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("codepoints", "whole"), [((2, 3, 2), 3), ((3, 2, 2), 3), ((2, 2, 2), 2), ((0, 0, 0), 0), ((0, 3, 2), None)]
)
def test_a_mark_on_one_piece_is_a_mark_on_the_whole(
    version: int, codepoints: tuple[int, ...], whole: int | None
) -> None:
    """RFC 3168, section 5.3; and a loss where a piece says that its sender would not understand it."""
    reassembler = Reassembler()
    marked = []
    for part, codepoint in zip(PIECES4 if version == 4 else PIECES6, codepoints, strict=True):
        packet = dissect(part)
        setattr(packet, "tos" if version == 4 else "tc", codepoint)
        if version == 4:
            del packet.chksum
        marked.append(raw(packet))
    assert add(reassembler, marked[0]) is add(reassembler, marked[1]) is None
    if whole is None:
        with pytest.raises(WireError):
            add(reassembler, marked[2])
    else:
        result = add(reassembler, marked[2])
        assert result is not None
        assert result.tos == whole
    assert reassembler.bytes_held == 0


def test_every_fragment_and_every_datagram_is_counted_once() -> None:
    reassembler = Reassembler(max_bytes=100_000)
    count = 0
    for index in range(300):
        for data in (b"x" * 8, b"x" * 8, *((b"y" * 8,) * (index & 1)), b"x" * 8):
            reassembler.add(piece(8, data, identification=index), 0.0)
            count += 1
    marks = [  # of which one says that the datagram may not be marked (RFC 3168, section 5.3)
        raw(IP(src=CLIENT4, dst=SERVER4, proto=99, id=999, tos=tos, flags=flags, frag=at) / bytes(16))
        for tos, flags, at in ((0, "MF", 0), (3, 0, 2))
    ]
    add(reassembler, marks[0])
    with pytest.raises(WireError):
        add(reassembler, marks[1])
    counters = reassembler.counters
    assert counters.evicted > 0
    for _ in range(2):
        gone = counters.merged + counters.repeated + counters.lost + counters.after_drop
        assert count + 2 == gone + reassembler.pieces
        over = counters.unfit + counters.contradicting + counters.evicted + counters.expired
        assert counters.begun == 301 == over + reassembler.unfinished
        reassembler.expire(100.0)
    assert reassembler.pieces == reassembler.unfinished == 0
