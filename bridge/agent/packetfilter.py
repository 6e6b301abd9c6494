"""The classic BPF program that tells packets to captured networks, on their way out of this host, from all others
(linux/filter.h; Documentation/networking/filter.rst).

IPv4 networks become sorted ranges, so that a range that is passed by costs one comparison; IPv6 networks are compared
word by word. Nothing but the destination is looked at, so fragments are found like whole packets.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Iterable, List, Sequence, Tuple

from .netlink import Network

MOST_INSTRUCTIONS = 4096 - 16
"""What networks may add: BPF_MAXINSNS, but for what every program has."""

Instruction = Tuple[int, int, int, int]

_LOAD_WORD, _AND, _RETURN, _JUMP_ALWAYS = 0x20, 0x54, 0x06, 0x05
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_NOT_LESS = 0x15, 0x25, 0x35
_NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: offsets count from the IP header."""
_PROTOCOL, _PACKET_TYPE = 0xFFFFF000, 0xFFFFF004
"""SKF_AD_OFF with SKF_AD_PROTOCOL and SKF_AD_PKTTYPE."""
_OUTGOING = 4
"""PACKET_OUTGOING: it leaves this host, or is forwarded by it."""
_TAKE, _LEAVE = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)
_WORD = 0xFFFFFFFF


def program(networks: Iterable[Network]) -> List[Instruction]:
    """The instructions (code, jump if true, jump if false, constant)."""
    listed = list(networks)
    four = _ranges([network for network in listed if network.version == 4])
    six = _prefixes([network for network in listed if network.version == 6])
    return [
        (_LOAD_WORD, 0, 0, _PACKET_TYPE),
        (_JUMP_EQUAL, 1, 0, _OUTGOING),
        _LEAVE,
        (_LOAD_WORD, 0, 0, _PROTOCOL),
        (_JUMP_EQUAL, 3, 0, 0x0800),
        (_JUMP_EQUAL, 1, 0, 0x86DD),
        _LEAVE,
        (_JUMP_ALWAYS, 0, 0, len(four)),  # a condition cannot jump that far
        *four,
        *six,
    ]


def cost(network: Network) -> int:
    """Instructions that `network` adds, at most."""
    return 4 if network.version == 4 else len(_prefixes([network])) - 1


def _ranges(networks: Sequence[Network]) -> List[Instruction]:
    """The part for IPv4."""
    found: List[Instruction] = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + 16)]
    for network in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]
        first, last = int(network.network_address), int(network.broadcast_address)
        found += [(_JUMP_GREATER, 3, 0, last), (_JUMP_NOT_LESS, 0, 1, first), _TAKE, _LEAVE]
    return [*found, _LEAVE]


def _prefixes(networks: Sequence[Network]) -> List[Instruction]:
    """The part for IPv6."""
    found: List[Instruction] = []
    for network in networks:
        tests: List[Instruction] = []
        for index in range((network.prefixlen + 31) // 32):
            shift = 96 - 32 * index
            mask, wanted = int(network.netmask) >> shift & _WORD, int(network.network_address) >> shift & _WORD
            tests.append((_LOAD_WORD, 0, 0, _NETWORK_HEADER + 24 + 4 * index))
            if mask != _WORD:
                tests.append((_AND, 0, 0, mask))
            tests.append((_JUMP_EQUAL, 0, 0, wanted))
        for place, (code, _yes, _no, constant) in enumerate(tests):
            if code == _JUMP_EQUAL:
                tests[place] = (code, 0, len(tests) - place, constant)  # to what follows _TAKE
        found += [*tests, _TAKE]
    return [*found, _LEAVE]


def packed(instructions: Sequence[Instruction]) -> bytes:
    """As an array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
