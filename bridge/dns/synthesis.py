"""Answers made here: from the hosts file and from the system's name service, which speak of addresses, not of records.

They are packed by dnslib and then read back like a nameserver's, so there is one way for an answer to come into being.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import dnslib

from .answer import Answer, parse_answer
from .message import AAAA, IN, NOERROR, NXDOMAIN, PTR, A, MessageError, Query, name_text

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

TTL = 60
"""Seconds a name of the hosts file or the name service holds: both change by hand or as neighbours come and go."""


def answer_addresses(query: Query, addresses: Iterable[Address]) -> Answer:
    """A and AAAA: the addresses of the asked family; none of them is NODATA, never NXDOMAIN (the name exists)."""
    version, data = (4, dnslib.A) if query.rtype == A else (6, dnslib.AAAA)
    fitting = [str(address) for address in addresses if address.version == version]
    return _pack(query, [dnslib.RR(_label(query), query.rtype, IN, TTL, data(each)) for each in fitting])


def answer_names(query: Query, names: Sequence[str]) -> Answer:
    """PTR: the names of an address, the canonical one first."""
    return _pack(query, [dnslib.RR(_label(query), PTR, IN, TTL, dnslib.PTR(name)) for name in names])


def answer_nothing(query: Query) -> Answer:
    """NODATA: the name exists, a record of this type does not."""
    return _pack(query, [])


def answer_no_name(query: Query) -> Answer:
    """NXDOMAIN, without a SOA record and so not to be kept."""
    return _pack(query, [], NXDOMAIN)


def host_name(query: Query) -> str | None:
    """The name as the system's name service may be given it: a plain host name, never something it reads as an address.

    getaddrinfo takes "127.1", "0x7f000001" and "1" for addresses; a name from the codespace must not be read so.
    """
    text = name_text(query.name)
    labels = text.split(".")
    if not all(label and label.replace("-", "").replace("_", "").isalnum() and label[0] != "-" for label in labels):
        return None
    last = labels[-1]
    if last.isdigit() or last.startswith("0x"):
        return None
    return text if text.isascii() else None


def reverse_address(query: Query) -> Address | None:
    """The address a name under in-addr.arpa (RFC 1035 3.5) or ip6.arpa (RFC 3596 2.5) stands for, if it is whole."""
    labels = name_text(query.name).split(".")
    try:
        if labels[4:] == ["in-addr", "arpa"]:
            return ipaddress.IPv4Address(".".join(reversed(labels[:4])))
        if labels[32:] == ["ip6", "arpa"] and all(len(label) == 1 for label in labels[:32]):
            return ipaddress.IPv6Address(int("".join(reversed(labels[:32])), 16))
    except ValueError:
        return None
    return None


def speaks_of_hosts(query: Query) -> bool:
    """The question is one that a hosts file or getaddrinfo can answer at all."""
    return query.rclass == IN and query.rtype in (A, AAAA, PTR)


def reachable(address: Address) -> bool:
    """The address means the same machine in the codespace as here; loopback and link-local ones do not."""
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def _label(query: Query) -> dnslib.DNSLabel:
    labels = []
    position = 0
    while length := query.question[position]:
        labels.append(query.question[position + 1 : position + 1 + length])
        position += length + 1
    return dnslib.DNSLabel(labels)


def _pack(query: Query, records: list[dnslib.RR], rcode: int = NOERROR) -> Answer:
    """Let dnslib write the message, and read it back as if a nameserver had sent it."""
    header = dnslib.DNSHeader(id=0, qr=1, aa=0, rd=1, ra=1, rcode=rcode)
    question = dnslib.DNSQuestion(_label(query), query.rtype, query.rclass)
    try:
        return parse_answer(bytes(dnslib.DNSRecord(header, q=question, rr=records).pack()), 0, query)
    except (ValueError, MessageError, UnicodeError) as error:
        raise MessageError(f"no answer can be made for {name_text(query.name)}: {error}") from error
