"""One question to one nameserver (RFC 1035 section 4.2, RFC 5452, RFC 7766).

Over UDP each question has a socket of its own, connected to the nameserver: the kernel picks a random source port and
lets nobody else answer; the id is random too, and so is the case of the name's letters, which the answer must repeat
("0x20", draft-vixie-dnsext-dns0x20): one bit for each letter that a forger has to guess besides. DNS cookies (RFC 7873)
would protect as well, but only with nameservers that know them, and with a state for each. What does not answer our
question is ignored and counted, and the wait goes on. The socket stays open after its time is up, until the whole
question is decided: a late answer is an answer.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

from netbridge.bridge.forward.poller import IN, Poller

from .answer import Answer, OtherCaseError, parse_answer
from .message import HEADER, MessageError, Query, opt_record
from .nameserver import Nameserver
from .resolvconf import socket_address

MAX_IGNORED = 32
"""Wrong datagrams on one socket before it is given up: more is somebody guessing ids (RFC 5452 section 9.2)."""


class Sockets:
    """How many sockets all questions together may have open, and who watches them."""

    __slots__ = ("most", "open", "poller")

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.poller: Poller | None = None
        """Watches them; without one the event loop does, which costs a question a tenth more."""

    def take(self) -> None:
        """One more; OSError as the kernel's own (EMFILE) when none is left."""
        if self.open >= self.most:
            raise OSError(errno.EMFILE, "no socket is left for another question")
        self.open += 1

    def give_back(self) -> None:
        """One less."""
        self.open -= 1

    def watch(self, descriptor: int, readable: Callable[[int], None]) -> None:
        """Call `readable` whenever there is something to read. Raises OSError."""
        if self.poller is not None:
            self.poller.register(descriptor, readable, events=IN, edge=False)
        else:
            asyncio.get_running_loop().add_reader(descriptor, readable, IN)

    def unwatch(self, descriptor: int) -> None:
        """No more."""
        if self.poller is not None:
            self.poller.unregister(descriptor)
        else:
            asyncio.get_running_loop().remove_reader(descriptor)


@dataclass(slots=True)
class UpstreamCounters:
    """What was asked of nameservers."""

    sent_udp: int = 0
    """Questions sent over UDP, repetitions included."""
    sent_tcp: int = 0
    """Questions sent over TCP because the answer did not fit a datagram."""
    ignored: int = 0
    """Datagrams that did not answer what was asked: wrong id, wrong question, or no DNS at all."""
    timeouts: int = 0
    """Questions that a nameserver did not answer in its time."""
    refused: int = 0
    """Nameservers that said "port unreachable", or could not be reached at all."""
    no_socket: int = 0
    """Questions not sent because no descriptor was left for them; see the limit `dns-sockets`."""
    failures: int = 0
    """Answers like SERVFAIL or REFUSED, after which the next nameserver was asked."""
    without_edns: int = 0
    """Questions repeated without EDNS because a nameserver did not know it."""
    other_case: int = 0
    """Questions repeated in the client's own spelling because a nameserver did not keep the case of ours."""
    name_service: int = 0
    """Questions given to getaddrinfo because no nameserver could answer."""
    name_service_busy: int = 0
    """Questions that could not be given to getaddrinfo because all its threads were busy or no thread could be had."""
    hosts: int = 0
    """Questions answered from the hosts file."""


def encode(query: Query, id_: int, question: bytes, *, edns: bool) -> bytes:
    """The question as it goes to a nameserver: the client's flags, `question` in some spelling, our own OPT record."""
    header = HEADER.pack(id_, query.flags, 1, 0, 0, 1 if edns else 0)
    if not edns:
        return header + question
    return header + question + opt_record(dnssec=query.dnssec, options=query.options)


def mixed_case(question: bytes) -> bytes:
    """The question with each letter of its name in upper or lower case at random."""
    name = question[:-4]  # the length bytes in it are below 64, and no letters
    lower = int.from_bytes(name.lower(), "big")
    letters = lower ^ int.from_bytes(name.upper(), "big")
    mixed = lower ^ (letters & int.from_bytes(secrets.token_bytes(len(name)), "big"))
    return mixed.to_bytes(len(name), "big") + question[-4:]


class UdpExchange:
    """One datagram sent, and the wait for its answer; `done` is called at most once, from the event loop."""

    def __init__(
        self, nameserver: Nameserver, query: Query, counters: UpstreamCounters, sockets: Sockets,
        done: Callable[[UdpExchange, Answer | OSError | OtherCaseError], None], *, edns: bool, mixed: bool,
    ) -> None:
        """Send it, with its letters `mixed` in case or as the client wrote them. Raises OSError, EMFILE among them."""
        self.nameserver = nameserver
        self.edns = edns
        self.finished = False
        """An outcome was delivered."""
        self._query = query
        self._counters = counters
        self._sockets = sockets
        self._done = done
        self._ignored = 0
        self._id = secrets.randbits(16)
        self._spelling = mixed_case(query.question) if mixed else None
        family, address = socket_address(nameserver.address, nameserver.port)
        self._socket: socket.socket | None = None
        sockets.take()
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.connect(address)
            self._socket.send(encode(query, self._id, self._spelling or query.question, edns=edns))
            sockets.watch(self._socket.fileno(), self._readable)
        except OSError:
            self._release()
            raise
        counters.sent_udp += 1

    def close(self) -> None:
        """Stop waiting. Harmless when done already."""
        if self._socket is not None:
            self._sockets.unwatch(self._socket.fileno())
            self._release()

    def _release(self) -> None:
        self._sockets.give_back()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _readable(self, _events: int) -> None:
        try:
            while self._socket is not None:
                self._received(self._socket.recv(65535))
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(error)

    def _received(self, data: bytes) -> None:
        try:
            answer = parse_answer(data, self._id, self._query, self._spelling)
        except OtherCaseError as error:
            self._finish(error)
            return
        except MessageError:
            self._counters.ignored += 1
            self._ignored += 1
            if self._ignored >= MAX_IGNORED:
                self._finish(ConnectionAbortedError(f"{self.nameserver.address} answers something else over and over"))
            return
        self._finish(answer)

    def _finish(self, outcome: Answer | OSError | OtherCaseError) -> None:
        self.close()
        self.finished = True
        self._done(self, outcome)


async def ask_tcp(
    nameserver: Nameserver, query: Query, counters: UpstreamCounters, sockets: Sockets, *, edns: bool,
) -> Answer:
    """One question over a TCP connection of its own; OSError (or EOF, or MessageError) when no proper answer comes."""
    sockets.take()
    try:
        return await _ask_tcp(nameserver, query, counters, edns=edns)
    finally:
        sockets.give_back()


async def _ask_tcp(nameserver: Nameserver, query: Query, counters: UpstreamCounters, *, edns: bool) -> Answer:
    id_ = secrets.randbits(16)
    message = encode(query, id_, query.question, edns=edns)
    _, address = socket_address(nameserver.address, nameserver.port)
    host = nameserver.address if len(address) == 2 else socket.getnameinfo(address, socket.NI_NUMERICHOST)[0]
    reader, writer = await asyncio.open_connection(host, nameserver.port)
    counters.sent_tcp += 1
    try:
        writer.write(len(message).to_bytes(2, "big") + message)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return parse_answer(await reader.readexactly(length), id_, query)
    finally:
        writer.close()
