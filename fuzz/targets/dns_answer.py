"""Whatever a nameserver says is refused, or a proper answer to the client's own question, of any age and size."""

from __future__ import annotations

import dnslib

from netbridge.bridge.dns.answer import MAX_LIFETIME, parse_answer
from netbridge.bridge.dns.message import HEADER, MessageError, Query, parse_query

ID = 0x6E62


def _query(*, edns: bool) -> Query:
    record = dnslib.DNSRecord.question("Host.Example", "A")
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=4096, flags="do"))
    return parse_query(bytes(record.pack()))


PLAIN, EDNS = _query(edns=False), _query(edns=True)
SPELLING = b"\4hOsT\7eXaMpLe\0\0\1\0\1"


def run(data: bytes) -> object:
    labels: list[object] = []
    for query in (PLAIN, EDNS):
        for spelling in (None, SPELLING):
            try:
                answer = parse_answer(data, ID, query, spelling)
            except MessageError as error:
                labels.append(str(error))
                continue
            assert 0 <= answer.lifetime <= MAX_LIFETIME
            for age, limit in ((0, 65535), (7, 512), (MAX_LIFETIME, 1232)):
                message = answer.render(query, age, limit)
                assert len(message) <= limit
                assert message[:2] == query.id.to_bytes(2, "big")
                assert message[HEADER.size : HEADER.size + len(query.question)] == query.question
                again = parse_answer(message, query.id, query)
                # without OPT record, which a client may not know, an answer has no room for more than four bits
                assert again.rcode in ({answer.rcode} if query.edns_size else {answer.rcode, answer.rcode & 0xF})
            labels.append((answer.rcode, answer.truncated, answer.has_opt, bool(answer.lifetime), answer.answers > 0))
    return tuple(labels)


def repair(data: bytes) -> bytes:
    """Our id and question, so that what stands behind them is looked at."""
    return ID.to_bytes(2, "big") + data[2:4] + b"\0\1" + data[6:12] + SPELLING + data[12 + len(SPELLING) :]
