from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from netbridge.stack.checksum import add, checksum, fold, pseudo_header_sum, verifies


def by_the_rfc(data: bytes) -> int:
    """RFC 1071 section 4.1, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int(word) for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert add(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@given(st.binary(max_size=200))
def test_equals_the_sum_word_by_word(data: bytes) -> None:
    assert add(data) == by_the_rfc(data)
    assert checksum(data) == int(scapy_checksum(data))


@given(st.binary(max_size=100), st.binary(max_size=101))
def test_sums_of_parts_add_up(even: bytes, rest: bytes) -> None:
    even += b"\0" * (len(even) % 2)
    assert add(rest, add(even)) == add(even + rest)
    assert add(rest, int.from_bytes(even, "big")) == add(even + rest)


@given(st.binary(min_size=2, max_size=100), st.integers(0, 49))
def test_a_packet_with_its_checksum_verifies_and_with_a_flipped_bit_does_not(content: bytes, at: int) -> None:
    data = bytearray(content + b"\0" * (len(content) % 2))
    at = at * 2 % len(data)
    data[at : at + 2] = b"\0\0"
    data[at : at + 2] = checksum(data).to_bytes(2, "big")
    assert verifies(data)
    data[-1] ^= 0x10
    assert not verifies(data)



def test_zero_and_all_ones_are_told_apart() -> None:
    assert fold(0) == 0
    assert fold(65535) == 65535
    assert fold(65536) == 1
    assert checksum(bytes(20)) == 0xFFFF
    assert checksum(b"\xff\xff") == 0


def test_pseudo_header() -> None:
    source, destination = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    assert pseudo_header_sum(source, destination, 17, 28) == by_the_rfc(source + destination + b"\0\x11\0\x1c")
    source, destination = bytes(range(16)), bytes(range(100, 116))
    assert pseudo_header_sum(source, destination, 6, 70000) == by_the_rfc(
        source + destination + (70000).to_bytes(4, "big") + (6).to_bytes(4, "big"),
    )
