"""DNS queries as they come from strangers (RFC 1035 section 4, RFC 6891): peeked at, never fully parsed.

A service that relays needs little of a message: its id and flags, the question, and what the client can take. All of
it stands in the first bytes, so a query is read by hand here and costs a few microseconds. Records are only walked
(:func:`skip_records`), never decoded: a type nobody has heard of passes as well as an A record does.

Every function here that takes bytes takes untrusted bytes, and raises :class:`MessageError` and nothing else.
"""

from __future__ import annotations

import struct

from dnslib import QTYPE, RCODE

HEADER = struct.Struct(">6H")
"""Id, flags, and the counts of questions, answers, authorities and additionals."""
RECORD = struct.Struct(">HHIH")
"""Type, class, TTL and length of the data: what follows a record's name."""
OPT_RECORD = struct.Struct(">BHHBBHH")
"""An OPT record: root name, type 41, size, extended rcode, version, flags, length of the options (RFC 6891 6.1.2)."""

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE = 0x7800
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
A, SOA, PTR, AAAA, OPT, IXFR, AXFR, ANY = 1, 6, 12, 28, 41, 251, 252, 255
IN = 1
DO = 0x8000
"""The flag of an OPT record that asks for DNSSEC records (RFC 3225)."""

PLAIN_SIZE = 512
"""Bytes of a UDP answer that every client takes (RFC 1035 2.3.4)."""
EDNS_SIZE = 1232
"""Bytes of a UDP answer that no path fragments (DNS flag day 2020); the most that is sent or asked for."""

HOP_BY_HOP = frozenset({10, 11, 12})
"""EDNS options that concern one hop and are not passed on: COOKIE (RFC 7873), KEEPALIVE (7828), PADDING (7830)."""

MAX_ADDITIONALS = 8
"""Records of a query that are looked at for its OPT record; real queries have one or two (OPT, TSIG)."""


class MessageError(ValueError):
    """Bytes that are no proper DNS message; `rcode` is what to answer, None when they deserve no answer."""

    def __init__(self, text: str, rcode: int | None = None, query: Query | None = None) -> None:
        super().__init__(text)
        self.rcode = rcode
        self.query = query
        """The question, where that much could be read."""


class Query:
    """A client's question and all that decides which answer fits it."""

    __slots__ = ("dnssec", "edns_size", "flags", "id", "key", "name", "options", "question", "rclass", "rtype")

    def __init__(self, id_: int, flags: int, question: bytes, rtype: int, rclass: int) -> None:
        self.id = id_
        self.flags = flags & (RD | AD | CD)
        """RD, AD and CD of the query; the rest says nothing."""
        self.question = question
        """The question section as the client wrote it, case included (clients check it: 0x20)."""
        self.rtype = rtype
        self.rclass = rclass
        self.name = question[:-4].lower()
        """The name in wire form, lower case. (Length bytes are below 64 and so untouched by lower().)"""
        self.edns_size = 0
        """Bytes of UDP answer the client takes as its OPT record says; 0 without OPT record."""
        self.dnssec = False
        """The DO bit."""
        self.options = b""
        """EDNS options to pass on."""
        self.key = b""
        """Equal for questions that one answer fits."""

    @property
    def limit(self) -> int:
        """Bytes a UDP answer to this client may have (RFC 6891 6.2.5: sizes below 512 mean 512)."""
        return min(max(self.edns_size, PLAIN_SIZE), EDNS_SIZE)

    def __repr__(self) -> str:
        return f"<Query {name_text(self.name)} {type_text(self.rtype)} id {self.id}>"


def parse_query(data: bytes) -> Query:
    """Read a client's query; what is wrong with it is a :class:`MessageError` with the rcode it deserves.

    Responses (QR set) and runts get no answer at all, so that two confused servers never talk to each other for ever.
    """
    if len(data) < HEADER.size:
        raise MessageError("shorter than a header")
    id_, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & QR:
        raise MessageError("a response where a query was due")
    if flags & OPCODE:
        raise MessageError("an opcode other than QUERY", NOTIMP)
    if questions != 1 or answers or authorities:  # RFC 9619: a query has exactly one question
        raise MessageError("not exactly one question and no answer", FORMERR)
    end = skip_name(data, HEADER.size, compressed=False) + 4
    if end > len(data):
        raise MessageError("the question is cut off", FORMERR)
    question = data[HEADER.size : end]
    rtype = question[-4] << 8 | question[-3]
    rclass = question[-2] << 8 | question[-1]
    query = Query(id_, flags, question, rtype, rclass)
    if additionals:
        _read_additionals(query, data, end, additionals)
    elif end != len(data):
        raise MessageError("bytes after the last record", FORMERR, query)
    if rtype in (AXFR, IXFR):  # a zone transfer is many messages, and none of a relay's business
        raise MessageError("zone transfers are refused", REFUSED, query)
    edns = b"\0" if not query.edns_size else b"\2" if query.dnssec else b"\1"
    query.key = query.name + question[-4:] + query.flags.to_bytes(2, "big") + edns + query.options
    return query


def _read_additionals(query: Query, data: bytes, position: int, count: int) -> None:
    """Find the OPT record among a query's additionals; the others are stepped over."""
    if count > MAX_ADDITIONALS:
        raise MessageError("too many additional records", FORMERR, query)
    try:
        for _ in range(count):
            start = position
            position = skip_name(data, position)
            rtype, size, ttl, length = RECORD.unpack_from(data, position)
            position += RECORD.size + length
            if position > len(data):
                raise MessageError("a record is cut off", FORMERR)
            if rtype != OPT:
                continue
            if query.edns_size or data[start]:  # RFC 6891 6.1.1: one OPT record, owned by the root
                raise MessageError("a second or misplaced OPT record", FORMERR)
            query.edns_size = max(size, PLAIN_SIZE)
            query.dnssec = bool(ttl & DO)
            if length:
                query.options = _passed_on(data[position - length : position])
            if ttl >> 16 & 0xFF:
                raise MessageError("an EDNS version other than 0", BADVERS)
        if position != len(data):
            raise MessageError("bytes after the last record", FORMERR)
    except struct.error:
        raise MessageError("a record is cut off", FORMERR, query) from None
    except MessageError as error:
        raise MessageError(str(error), error.rcode, query) from None


def _passed_on(options: bytes) -> bytes:
    """The EDNS options that concern more than one hop (code, length, data; RFC 6891 6.1.2)."""
    kept = b""
    position = 0
    while position < len(options):
        code, length = struct.unpack_from(">HH", options, position)
        end = position + 4 + length
        if end > len(options):
            raise MessageError("an EDNS option is cut off", FORMERR)
        if code not in HOP_BY_HOP:
            kept += options[position:end]
        position = end
    return kept


def skip_name(data: bytes, position: int, *, compressed: bool = True) -> int:
    """The offset behind the name at `position`; pointers (RFC 1035 4.1.4) are not followed, only stepped over."""
    start = position
    try:
        while length := data[position]:
            if length > 63:
                if length < 0xC0 or not compressed:
                    raise MessageError("a label of an unknown kind", FORMERR)
                if position + 2 > len(data):
                    raise MessageError("a name is cut off", FORMERR)
                return position + 2
            position += length + 1
    except IndexError:
        raise MessageError("a name is cut off", FORMERR) from None
    if position + 1 - start > 255:
        raise MessageError("a name longer than 255 bytes", FORMERR)
    return position + 1


def opt_record(*, dnssec: bool, rcode: int = 0, options: bytes = b"") -> bytes:
    """Our own OPT record; `rcode` is the whole extended rcode, of which its upper bits stand here."""
    return OPT_RECORD.pack(0, OPT, EDNS_SIZE, rcode >> 4, 0, DO if dnssec else 0, len(options)) + options


def failure(query: Query, rcode: int, flags: int = RA) -> bytes:
    """An answer without records: an error, or (with `flags` TC) the advice to ask again over TCP."""
    flags |= QR | query.flags | rcode & 0xF
    if not query.edns_size:
        return HEADER.pack(query.id, flags, 1, 0, 0, 0) + query.question
    return HEADER.pack(query.id, flags, 1, 0, 0, 1) + query.question + opt_record(dnssec=query.dnssec, rcode=rcode)


def bare_failure(data: bytes, rcode: int) -> bytes:
    """An error for a message whose question could not be read: a header alone, with id, opcode and RD of the query."""
    id_, flags = struct.unpack_from(">HH", data)
    return HEADER.pack(id_, QR | RA | flags & (OPCODE | RD) | rcode & 0xF, 0, 0, 0, 0)


def name_text(name: bytes) -> str:
    """A name in wire form as text, without the last dot; odd bytes are escaped (RFC 1035 5.1). The root is '.'."""
    labels = []
    position = 0
    while position < len(name) and (length := name[position]):
        label = name[position + 1 : position + 1 + length]
        plain = label.replace(b"-", b"").isalnum()  # as nearly every one is
        labels.append(label.decode("ascii") if plain else "".join(map(_character, label)))
        position += length + 1
    return ".".join(labels) or "."


def _character(byte: int) -> str:
    if byte in b'.\\"();@$':
        return "\\" + chr(byte)
    return chr(byte) if 0x21 <= byte <= 0x7E else f"\\{byte:03d}"


def type_text(rtype: int) -> str:
    """The mnemonic of a record type, TYPE12345 for one without (RFC 3597 section 5)."""
    known: dict[int, str] = QTYPE.forward
    return known.get(rtype) or f"TYPE{rtype}"


def rcode_text(rcode: int) -> str:
    """The mnemonic of an rcode (NOERROR, NXDOMAIN ...)."""
    known: dict[int, str] = RCODE.forward
    return known.get(rcode) or f"RCODE{rcode}"
