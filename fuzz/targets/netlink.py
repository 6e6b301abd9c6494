"""Whatever comes as the kernel's answer is read to an end: links, addresses, routes and neighbours, or an OSError.

The input is what the socket gives, a datagram after each length of two bytes; then nothing more comes.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Callable
from typing import Any

from fuzz.repairs import each, joined
from netbridge.bridge.agent import netlink
from netbridge.bridge.agent.routelookup import lookup

MOST = 10
"""Reads beyond what there is, until somebody is said to wait for ever."""


class _Socket:
    """The kernel's end: gives the same to whoever asks, once a request."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self._datagrams = datagrams
        self._left: list[bytes] = []
        self.in_vain = 0

    def sendall(self, request: bytes) -> None:
        self.sequence = netlink._HEADER.unpack_from(request)[3]
        self._left = list(self._datagrams)

    def recv(self, _size: int) -> bytes:
        if not self._left:
            self.in_vain += 1
            assert self.in_vain < MOST
            raise OSError(errno.ENOBUFS, "nothing more")
        return in_turn(self._left.pop(0), self.sequence)


def in_turn(datagram: bytes, sequence: int) -> bytes:
    """The messages of a datagram with the number of the request that they answer, where theirs is 0."""
    changed, at = bytearray(datagram), 0
    while at + netlink._HEADER.size <= len(changed):
        length = struct.unpack_from("=I", changed, at)[0]
        if changed[at + 8 : at + 12] == bytes(4):
            struct.pack_into("=I", changed, at + 8, sequence)
        if length < netlink._HEADER.size:
            break
        at += (length + 3) & ~3
    return bytes(changed)


def _talk(data: bytes) -> tuple[netlink.Netlink, _Socket]:
    talk = object.__new__(netlink.Netlink)
    kernel: Any = _Socket(each(data))
    talk._socket, talk._sequence = kernel, 0
    return talk, kernel


def run(data: bytes) -> object:
    found = []
    asks: list[Callable[[netlink.Netlink], Any]] = [
        netlink.Netlink.links, netlink.Netlink.addresses, netlink.Netlink.routes, netlink.Netlink.neighbours,
        lambda talk: lookup(talk, ipaddress.ip_address("10.0.0.1")),
    ]  # fmt: skip
    for ask in asks:
        talk, _ = _talk(data)
        try:
            found.append(min(len(ask(talk)), 3))
        except OSError as error:
            found.append(-(error.errno or 1))
    return tuple(found)


def repair(data: bytes) -> bytes:
    """Each message's length right as long as it was whole before, the others cut."""
    return joined(each(data))
