"""Asking a nameserver over a stack for the addresses of a name: what a stub resolver does (RFC 1035, section 7)."""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Any

import dnslib

from netbridge.stack.stack import Stack

TRIES = (1.0, 3.0, 6.0)
"""Seconds each try is waited for, ten in all: the exit itself asks for five before it says that nobody answers."""
PORT = 53


class _Answer(asyncio.DatagramProtocol):
    """Takes what is an answer to the question asked, whatever else may come."""

    def __init__(self, query: dnslib.DNSRecord) -> None:
        self.query = query
        self.came: asyncio.Future[dnslib.DNSRecord] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            answer = dnslib.DNSRecord.parse(data)
        except (dnslib.DNSError, ValueError):
            return
        if answer.header.id == self.query.header.id and answer.header.qr and not self.came.done():
            self.came.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        if not self.came.done():
            self.came.set_exception(exc)


async def ask(stack: Stack, nameserver: str, name: str) -> list[str]:
    """The numeric addresses of `name`, of the versions that the stack has, IPv4 first.

    Raises socket.gaierror: EAI_NONAME when it has none, EAI_AGAIN when the nameserver does not answer or cannot.
    """
    versions = sorted({one.version for one in stack.interfaces})
    answers = await asyncio.gather(*(_asked(stack, nameserver, name, version) for version in versions))
    found = [address for one in answers for address in _addresses(one)]
    if found:
        return found
    if any(answer.header.rcode not in (dnslib.RCODE.NOERROR, dnslib.RCODE.NXDOMAIN) for answer in answers):
        raise socket.gaierror(socket.EAI_AGAIN, f"{nameserver} could not find out about {name!r}")
    raise socket.gaierror(socket.EAI_NONAME, f"{nameserver} knows no address of {name!r}")


async def _asked(stack: Stack, nameserver: str, name: str, version: int) -> dnslib.DNSRecord:
    try:
        query = dnslib.DNSRecord.question(name, "A" if version == 4 else "AAAA")
        query.header.id = secrets.randbelow(65536)
        packed = query.pack()
    except (dnslib.DNSError, ValueError):  # a label that is too long, no ASCII
        raise socket.gaierror(socket.EAI_NONAME, f"{name!r} cannot be a name") from None
    try:
        transport, answer = await stack.create_datagram_endpoint(lambda: _Answer(query), remote_addr=(nameserver, PORT))
        try:
            for patience in TRIES:
                transport.sendto(packed)
                done, _ = await asyncio.wait([answer.came], timeout=patience)
                if done:
                    break
            else:
                raise TimeoutError(f"{nameserver} does not answer")
            reply = answer.came.result()
        finally:
            transport.close()
            answer.came.cancel()
        return await _whole(stack, nameserver, packed) if reply.header.tc else reply
    except OSError as error:
        raise socket.gaierror(socket.EAI_AGAIN, f"{name!r} could not be asked for: {error}") from error


async def _whole(stack: Stack, nameserver: str, packed: bytes) -> dnslib.DNSRecord:
    """The answer by TCP, which did not fit into a datagram (RFC 7766)."""
    reader, writer = await stack.open_connection(nameserver, PORT)
    try:
        async with asyncio.timeout(TRIES[-1]):
            writer.write(len(packed).to_bytes(2, "big") + packed)
            size = int.from_bytes(await reader.readexactly(2), "big")
            return dnslib.DNSRecord.parse(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, dnslib.DNSError, ValueError) as error:
        raise ConnectionResetError(f"{nameserver} broke its answer off") from error
    finally:
        writer.close()


def _addresses(answer: dnslib.DNSRecord) -> list[str]:
    return [str(one.rdata) for one in answer.rr if one.rtype == answer.q.qtype]
