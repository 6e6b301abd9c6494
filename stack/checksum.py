"""The internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.

Because 65536 is 1 modulo 65535, the sum of the words of any byte string is the string itself, read as one big
number, modulo 65535. Python divides big numbers in C, so this is the fastest sum the language offers: 0.4 µs for a
header, 6 µs for 1,460 bytes, 270 µs for 64 KiB. Payloads should still not be summed where a link has offload.

The number 65535 itself is zero modulo 65535, but on the wire a sum of 0xffff and one of 0 are told apart (only
all-zero data sums to 0), hence `fold`.
"""

from __future__ import annotations

from .packet import Buffer


def fold(total: int) -> int:
    """A sum of any size (a plain sum of words, or bytes read as one number) as a 16-bit one's complement sum."""
    return total % 65535 or (65535 if total else 0)


def add(data: Buffer, initial: int = 0) -> int:
    """The folded sum of `data` (padded with a zero byte when odd) and `initial`, not complemented."""
    number = int.from_bytes(data, "big")
    return fold((number << 8 if len(data) & 1 else number) + initial)


def checksum(data: Buffer, initial: int = 0) -> int:
    """What goes into the checksum field: the complement of the sum of `data` and `initial`.

    `initial` is any sum to add, usually `pseudo_header_sum`. The field itself must be zero in `data`. 0 when `data`
    holds a right checksum already.
    """
    return 65535 ^ add(data, initial)


def verifies(data: Buffer, initial: int = 0) -> bool:
    """Whether `data`, its checksum field included, together with `initial` sums to what a right checksum gives."""
    return add(data, initial) == 65535


def pseudo_header_sum(source: Buffer, destination: Buffer, protocol: int, length: int) -> int:
    """The folded sum of the pseudo-header of IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section 8.1).

    `length` counts transport header and payload. Not complemented: it is what VIRTIO_NET_HDR_F_NEEDS_CSUM wants to
    find in the checksum field.
    """
    return fold(int.from_bytes(source, "big") + int.from_bytes(destination, "big") + protocol + length)
