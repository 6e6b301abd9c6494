"""Answers, checked once and then served from their bytes.

An :class:`Answer` keeps everything behind the question section of a nameserver's message untouched, together with the
offsets of the TTLs in it. Giving it to a client is a header, the client's own spelling of the question (of equal
length, so compression pointers stay right) and the rest, with TTLs counted down once a second at most.

The message came from a nameserver, or from someone who pretends to be one: it must carry our id and our question
(RFC 5452 section 9.1) and every record must lie inside it. What the records say is the client's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .message import (
    AAAA,
    FORMERR,
    HEADER,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPCODE,
    OPT,
    QR,
    RECORD,
    SOA,
    TC,
    A,
    MessageError,
    Query,
    failure,
    opt_record,
    skip_name,
)

MAX_LIFETIME = 300
"""Seconds an answer is kept at most, whatever its TTL: the local resolver has its own cache, and a network that changes
under an unchanged resolv.conf (systemd-resolved's stub) should be seen soon."""
MAX_NEGATIVE_LIFETIME = 30
"""The same for "no such name": a VPN that comes up makes names appear."""

_TTL = struct.Struct(">I")


class OtherCaseError(MessageError):
    """An answer to our question, but for the case of its letters: of a nameserver that does not keep it, or forged."""


class Answer:
    """One nameserver's answer to one question."""

    __slots__ = (
        "_age", "_aged", "_ttls", "additionals", "answers", "authorities", "flags", "has_opt", "lifetime", "rcode",
        "tail",
    )

    def __init__(self, flags: int, counts: tuple[int, int, int], tail: bytes) -> None:
        self.flags = flags
        self.answers, self.authorities, self.additionals = counts
        self.tail = tail
        """The message behind its question."""
        self.rcode = flags & 0xF
        """The whole rcode, the upper bits of the OPT record included."""
        self.has_opt = False
        self.lifetime = 0
        """Seconds this answer may be kept; 0: not at all."""
        self._ttls: list[tuple[int, int]] = []
        self._age = 0
        self._aged = tail

    @property
    def truncated(self) -> bool:
        """The nameserver had more to say than fitted."""
        return bool(self.flags & TC)

    def addresses(self) -> Iterator[tuple[bytes, int]]:
        """The packed addresses of its A and AAAA records, and their TTLs in seconds; of the answer section alone."""
        for offset, ttl in self._ttls[: self.answers]:
            rtype, _, _, length = RECORD.unpack_from(self.tail, offset - 4)
            if (rtype, length) in ((A, 4), (AAAA, 16)):
                start = offset - 4 + RECORD.size
                yield self.tail[start : start + length], ttl

    def render(self, query: Query, age: int = 0, limit: int = 65535) -> bytes:
        """The message for one client, `age` seconds after it was received; above `limit` bytes only the TC bit."""
        if self.flags & TC:
            return failure(query, self.rcode, self.flags)
        tail = self._aged if age == self._age else self._grow(age)
        question = query.question
        if query.edns_size and not self.has_opt:
            size = HEADER.size + len(question) + len(tail) + 11
            if size > limit:
                return failure(query, self.rcode, self.flags | TC)
            counts = self.answers, self.authorities, self.additionals + 1
            opt = opt_record(dnssec=query.dnssec, rcode=self.rcode)
            return b"".join((HEADER.pack(query.id, self.flags, 1, *counts), question, tail, opt))
        if HEADER.size + len(question) + len(tail) > limit:
            return failure(query, self.rcode, self.flags | TC)
        header = HEADER.pack(query.id, self.flags, 1, self.answers, self.authorities, self.additionals)
        return b"".join((header, question, tail))

    def _grow(self, age: int) -> bytes:
        """The tail with its TTLs counted down by `age` seconds."""
        tail = bytearray(self.tail)
        for offset, ttl in self._ttls:
            _TTL.pack_into(tail, offset, max(ttl - age, 0))
        self._age, self._aged = age, bytes(tail)
        return self._aged


def parse_answer(data: bytes, id_: int, query: Query, spelling: bytes | None = None) -> Answer:
    """Check a nameserver's message against what was asked; MessageError when it is not an answer to that.

    `spelling` is the question as it was sent, where its case was changed; it must come back so, else OtherCaseError.
    A refusal without question section counts as an answer: old servers that know no EDNS say FORMERR so.
    """
    if len(data) < HEADER.size:
        raise MessageError("shorter than a header")
    got, flags, questions, *counts = HEADER.unpack_from(data)
    if got != id_ or not flags & QR or flags & OPCODE:
        raise MessageError("not a response to our query")
    start = HEADER.size
    if questions == 1:
        start = skip_name(data, start, compressed=False) + 4
        if start > len(data):
            raise MessageError("the question is cut off")
        if data[start - 4 : start] != query.question[-4:] or data[HEADER.size : start - 4].lower() != query.name:
            raise MessageError("a response to another question")
        if spelling is not None and data[HEADER.size : start] != spelling:
            raise OtherCaseError("a response in another case")
    elif questions or flags & 0xF in (NOERROR, NXDOMAIN) or any(counts[:2]):
        raise MessageError("not exactly one question")
    answer = Answer(flags, (counts[0], counts[1], counts[2]), b"")
    try:
        _walk(answer, data, start, None if spelling is None else (spelling[:-4], query.question[:-4]))
    except struct.error:
        if not flags & TC:  # a truncated message may end anywhere; nothing behind its header is used
            raise MessageError("a record is cut off") from None
    except MessageError:
        if not flags & TC:
            raise
    return answer


def _walk(answer: Answer, data: bytes, start: int, respelt: tuple[bytes, bytes] | None) -> None:
    """Step over the records: find their TTLs, the OPT record, and for how long the answer may be kept.

    `respelt`: the asked name as it was sent, and as the client wrote it, which takes its place before the records of a
    nameserver that does not compress. (What points to the question, as most do, is right by itself: the client gets his
    own question.)
    """
    position = start
    lifetime = MAX_LIFETIME
    negative = not answer.answers or answer.rcode == NXDOMAIN
    has_soa = False
    first_authority, first_additional = answer.answers, answer.answers + answer.authorities
    ttls = []
    owners = []
    for number in range(first_additional + answer.additionals):
        owner, position = position, skip_name(data, position)
        if respelt is not None and data[owner:position] == respelt[0]:
            owners.append(owner - start)
        rtype, _, ttl, length = RECORD.unpack_from(data, position)
        offset = position + 4 - start
        position += RECORD.size + length
        if position > len(data):
            raise MessageError("a record is cut off")
        if rtype == OPT and number >= first_additional:
            answer.has_opt = True
            answer.rcode |= ttl >> 20 & 0xFF0
            continue
        ttl = 0 if ttl & 0x80000000 else ttl  # RFC 2181 section 8
        ttls.append((offset, ttl))
        lifetime = min(lifetime, ttl)
        if rtype == SOA and first_authority <= number < first_additional and length >= 22:
            has_soa = True  # RFC 2308 section 5: the last field bounds how long "no" is kept
            lifetime = min(lifetime, _TTL.unpack_from(data, position - 4)[0])
    if negative:
        lifetime = min(lifetime, MAX_NEGATIVE_LIFETIME) if has_soa else 0
    if answer.rcode not in (NOERROR, NXDOMAIN) or answer.truncated:
        lifetime = 0
    answer.lifetime = lifetime
    answer._ttls = ttls
    tail = data[start:position]
    for offset in owners:
        assert respelt is not None
        tail = tail[:offset] + respelt[1] + tail[offset + len(respelt[1]) :]
    answer.tail = answer._aged = tail


def refuses_edns(answer: Answer) -> bool:
    """The nameserver seems not to know EDNS; the same question without may please it (RFC 6891 section 7)."""
    return answer.rcode in (FORMERR, NOTIMP) and not answer.has_opt
