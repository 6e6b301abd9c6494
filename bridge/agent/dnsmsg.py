"""What a relay needs of DNS messages: the header and the first question (RFC 1035 section 4.1). Untrusted bytes."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple, Optional

HEADER_LEN = 12
FLAG_RESPONSE = 0x8000
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5

_HEADER = struct.Struct(">HHHHHH")


class Question(NamedTuple):
    """The question of a message."""

    name: str
    """Lower case, without the last dot; bytes that are no ASCII are written as \\xNN."""
    section: bytes
    """The question section, in lower case, for comparing a reply with its query."""


class Message(NamedTuple):
    """What the relay reads from a message."""

    ident: int
    response: bool
    rcode: int
    question: Optional[Question]


def parse(data: bytes) -> Optional[Message]:
    """The header and the question, None when it is no DNS message. One question or none (some errors repeat none)."""
    if len(data) < HEADER_LEN:
        return None
    ident, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    question = None
    if questions == 1:
        question = _question(data)
        if question is None:
            return None
    elif questions:
        return None
    return Message(ident, bool(flags & FLAG_RESPONSE), flags & 15, question)


def _question(data: bytes) -> Optional[Question]:
    """The name from byte 12 on, uncompressed as it must be in a question, and 4 bytes of type and class."""
    position = HEADER_LEN
    labels = []
    while True:
        if position >= len(data):
            return None
        length = data[position]
        if length == 0:
            break
        # 63 octets a label, 255 a name with its last zero (RFC 1035 section 2.3.4). A pointer has nothing to point to.
        if length > 63 or position + 1 + length - HEADER_LEN > 254:
            return None
        labels.append(data[position + 1 : position + 1 + length].decode("ascii", "backslashreplace"))
        position += 1 + length
    end = position + 5
    if end > len(data):
        return None
    return Question(".".join(labels).lower(), data[HEADER_LEN:end].lower())


def with_ident(data: bytes, ident: int) -> bytes:
    """The same message with another id."""
    return struct.pack(">H", ident) + data[2:]


def section(data: bytes, question: Question) -> bytes:
    """The question section as it is spelled in a message that has this question."""
    return data[HEADER_LEN : HEADER_LEN + len(question.section)]


def respelled(query: bytes, question: Question) -> bytes:
    """The query with capitals at random, spelled otherwise than before if that is possible."""
    end = HEADER_LEN + len(question.section) - 4
    letters = [place for place in range(HEADER_LEN, end) if query[place : place + 1].isalpha() and query[place] > 63]
    if not letters:
        return query
    spelled = bytearray(query)
    while spelled == query:
        flips = int.from_bytes(os.urandom(len(letters) + 7 >> 3), "big")
        for place in letters:
            spelled[place] = query[place] ^ (flips & 1) << 5
            flips >>= 1
    return bytes(spelled)


def addressed(reply: bytes, query: bytes, question: Question) -> bytes:
    """A reply to this question as one to `query`, which asks the same: with its id and its spelling of the name."""
    end = HEADER_LEN + len(question.section)
    if reply[4:6] == b"\0\1":
        return query[:2] + reply[2:HEADER_LEN] + query[HEADER_LEN:end] + reply[end:]
    return query[:2] + reply[2:]


def failure(query: bytes, rcode: int) -> bytes:
    """A reply that says nothing but `rcode`: the query's id, opcode, RD and question."""
    flags = struct.unpack_from(">H", query, 2)[0]
    question = _question(query)
    section = b"" if question is None else query[HEADER_LEN : HEADER_LEN + len(question.section)]
    flags = FLAG_RESPONSE | flags & 0x7900 | 0x0080 | rcode
    return _HEADER.pack(ident(query), flags, 1 if section else 0, 0, 0, 0) + section


def ident(data: bytes) -> int:
    """A message's id."""
    number: int = struct.unpack_from(">H", data)[0]
    return number
