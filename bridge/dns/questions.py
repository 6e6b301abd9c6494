"""The questions asked last and what was answered, for people; and the names that addresses were the answer to.

Nothing is made readable until somebody looks: a question costs an entry in a ring, and the addresses of a new answer
their place in a table. Both are bounded.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from netbridge.stack.packet import text

from .answer import Answer
from .message import AAAA, HEADER, PTR, RECORD, A, MessageError, Query, name_text, rcode_text, skip_name, type_text

REMEMBERED = 256
"""Questions that can be looked at; a screen shows some fifty."""
NAMES = 8192
"""Addresses whose name is known, as many as the cache has answers."""
LARGEST = 4096
"""Bytes of an answer that is kept to be looked at; the ring holds a megabyte at most."""
SHOWN = 4
"""Records of an answer that are made readable."""

NS, CNAME, MX, TXT, SRV = 2, 5, 15, 16, 33
_NAMES_AT = {NS: 0, CNAME: 0, PTR: 0, MX: 2, SRV: 6}
"""Where the name begins in the data of these types."""


class Questions:
    """What the DNS service tells its observer."""

    def __init__(self) -> None:
        self.total = 0
        """Questions so far; each has the number that this was before it."""
        self._ring: deque[tuple[int, float, Query, Answer | None, int, float, str, int]] = deque(maxlen=REMEMBERED)
        self._names: OrderedDict[bytes, bytes] = OrderedDict()

    def told(self, query: Query, answer: Answer | None, rcode: int, seconds: float, source: str, age: int = 0) -> None:
        """Somebody was answered; see `OnAnswer`."""
        kept = answer if answer is not None and len(answer.tail) <= LARGEST else None
        self._ring.append((self.total, time.monotonic(), query, kept, rcode, seconds, source, age))
        self.total += 1
        if answer is not None and source != "cache" and query.rtype in (A, AAAA):
            for address, _ in answer.addresses():
                self._names[bytes(address)] = query.name
                self._names.move_to_end(bytes(address))
            while len(self._names) > NAMES:
                self._names.popitem(last=False)

    def name(self, address: bytes) -> str:
        """The name that `address` (packed) was last the answer to; empty when it was to none."""
        found = self._names.get(address)
        return name_text(found) if found else ""

    def since(self, number: int, most: int) -> list[dict[str, Any]]:
        """Questions from `number` on as JSON, the `most` newest at most, the oldest first."""
        found: list[dict[str, Any]] = []
        for entry in reversed(self._ring):
            if entry[0] < number or len(found) >= most:
                break
            found.append(_described(*entry))
        found.reverse()
        return found


def _described(
    number: int, when: float, query: Query, answer: Answer | None, rcode: int, seconds: float, source: str, age: int,
) -> dict[str, Any]:
    records, ttl = readable(query, answer) if answer is not None else ([], 0)
    return {
        "number": number, "time": round(when, 3), "name": name_text(query.name), "type": type_text(query.rtype),
        "rcode": rcode_text(rcode), "answer": ", ".join(records), "ttl": max(0, ttl - age), "source": source,
        "seconds": round(seconds, 6),
    }


def _records(answer: Answer) -> Iterator[tuple[int, int, int, int]]:
    """Type, TTL, and where the data begins and ends, of the answer section's records. They were checked before."""
    tail = answer.tail
    position = 0
    for _ in range(answer.answers):
        position = skip_name(tail, position)
        rtype, _, ttl, length = RECORD.unpack_from(tail, position)
        position += RECORD.size + length
        yield rtype, ttl, position - length, position


def readable(query: Query, answer: Answer) -> tuple[list[str], int]:
    """Its first records as text, and the shortest TTL; without records for how long that is remembered."""
    shown: list[str] = []
    shortest: int | None = None
    count = 0
    message = bytes(HEADER.size) + query.question + answer.tail  # what compressed names point into
    before = HEADER.size + len(query.question)
    try:
        for rtype, ttl, start, end in _records(answer):
            shortest = ttl if shortest is None else min(shortest, ttl)
            count += 1
            if len(shown) < SHOWN:
                shown.append(_record(message, rtype, before + start, before + end))
    except (MessageError, struct.error):
        pass
    if count > SHOWN:
        shown.append(f"and {count - SHOWN} more")
    return shown, answer.lifetime if shortest is None else shortest


def _record(message: bytes, rtype: int, start: int, end: int) -> str:
    if (rtype, end - start) in ((A, 4), (AAAA, 16)):
        return text(message[start:end])
    if rtype in _NAMES_AT and end - start > _NAMES_AT[rtype]:
        return f"{type_text(rtype)} {name_text(_whole_name(message, start + _NAMES_AT[rtype]))}"
    if rtype == TXT and end - start > 1:
        return "TXT " + message[start + 1 : min(end, start + 1 + message[start])].decode("utf-8", "replace")
    return type_text(rtype)


def _whole_name(message: bytes, position: int) -> bytes:
    """The name at `position` with its pointers followed (RFC 1035, section 4.1.4); each leads further to the front."""
    labels = b""
    before = position
    while position < len(message) and (length := message[position]) and len(labels) < 255:
        if length >= 0xC0:
            position = (length & 0x3F) << 8 | message[position + 1] if position + 1 < len(message) else len(message)
            if position >= before:
                break
            before = position
            continue
        labels += message[position : position + 1 + length]
        position += 1 + length
    return labels + b"\0"
