"""This machine's part: names as its resolver has them, the way an address leaves, a connect as a forwarder makes it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import os
import socket
import sys
import time

import dnslib

from ..agent.tracing import candidates
from ..dns import Upstream
from ..dns.message import parse_query, rcode_text
from ..forward.tcpsocket import USUAL_HOPS, keep_icmp_errors, open_tcp
from .found import Answer, Connect, Names, Way
from .place import Place

RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
"""A living host answers within one; a SYN that was lost is sent again after one and after three."""
MOST = 64
"""Addresses of an answer that are taken."""
SYSTEM = "system"


async def resolve(place: Place, upstream: Upstream) -> Names:
    """The host as this machine's resolver has it, asked the way a bridge asks it."""
    if place.address is not None:
        return Names(addresses=[str(place.address)], who="literal", name=place.host)
    upstream.generation()
    search = list(upstream.names.search)
    names = Names(search=search, nameservers=list(upstream.config.nameservers))
    begun = time.monotonic()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            for name in candidates(place.host, search):
                answer = await _ask_both(upstream, name)
                names.answers.append(answer)
                if answer.addresses:
                    names.addresses, names.name, names.server = list(answer.addresses), name, answer.server
                    names.who = answer.server if answer.server in {"hosts", SYSTEM} else "here"
                    break
    except TimeoutError:
        names.error = f"no answer within {RESOLVE_SECONDS:g} s"
    names.seconds = round(time.monotonic() - begun, 4)
    if not names.addresses and not names.error:
        names.error = next((answer.error for answer in names.answers if answer.error), "")
    return names


async def _ask_both(upstream: Upstream, name: str) -> Answer:
    """A and AAAA as one answer."""
    found = await asyncio.gather(*(_ask(upstream, name, rtype) for rtype in ("A", "AAAA")))
    best = next((answer for answer in found if answer.addresses), found[0])
    best.addresses = [address for answer in found for address in answer.addresses]
    best.seconds = max(answer.seconds for answer in found)
    return best


async def _ask(upstream: Upstream, name: str, rtype: str) -> Answer:
    begun = time.monotonic()
    try:
        query = parse_query(bytes(dnslib.DNSRecord.question(name, rtype).pack()))
        found, source = await upstream.ask(query)
    except (OSError, ValueError, dnslib.DNSError) as error:
        return Answer("here", "", name, "", [], round(time.monotonic() - begun, 4), str(error))
    addresses = [str(ipaddress.ip_address(packed)) for packed, _ in itertools.islice(found.addresses(), MOST)]
    return Answer("here", source, name, rcode_text(found.rcode), addresses, round(time.monotonic() - begun, 4))


def way(address: str) -> Way:
    """The route that this machine takes to an address."""
    place = ipaddress.ip_address(address)
    if sys.platform.startswith("linux"):
        from ..agent.netlink import Netlink
        from ..agent.routelookup import lookup

        with contextlib.suppress(OSError):
            netlink = Netlink()
            try:
                return Way(**lookup(netlink, place))
            finally:
                netlink.close()
    return _by_socket(place)


def _by_socket(place: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Way:
    """Only the source address, by a UDP socket that sends nothing."""
    with socket.socket(socket.AF_INET if place.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(place), 9))
            return Way(source=str(probe.getsockname()[0]))
        except OSError as error:
            return Way(error=error.strerror or str(error))


async def connect(address: str, port: int) -> Connect:
    """Connect once by the socket that a forwarder opens, and hang up."""
    version = ipaddress.ip_address(address).version
    begun = time.monotonic()

    def outcome(code: str = "", error: str = "") -> Connect:
        return Connect(code, error, round(time.monotonic() - begun, 4))

    try:
        sock = open_tcp(version, USUAL_HOPS)
        with sock:
            keep_icmp_errors(sock, version, keep=False)  # they would hide the error from who waits for the socket
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError as error:
        if error.errno is None:
            return outcome("ETIMEDOUT", f"no answer within {CONNECT_SECONDS:g} s")
        return outcome("ETIMEDOUT", error.strerror or "")
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "EIO")
        return outcome(code, os.strerror(error.errno) if error.errno else str(error))
    return outcome()
