"""The DNS service on the stack: the codespace asks it, it asks the local machine's resolver.

A question takes one of two ways. What the cache knows is answered at once from its bytes (no task, no future, no
dnslib). Everything else joins the question of the same key that is already on its way, or sets out with a task of its
own; all who wait get the same answer, each with its own id, spelling and size.

Over UDP an answer has at most what the client says it takes, never above 1,232 bytes; what is longer is cut to
nothing with TC set, and the client comes again over TCP (RFC 7766), where several questions may be under way on one
connection and answers leave as they come.

Bounds: questions under way, those who wait for them, connections, questions per connection. Beyond them the answer is
SERVFAIL, at once: a client that hears it asks elsewhere or later, one that hears nothing hangs. Of questions under way
the oldest gives way once it has waited for a second: what a nameserver knows it mostly says sooner, and 60 a second
for names of a domain whose nameservers are silent would else keep everybody from asking.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from .answer import Answer
from .cache import Cache
from .message import (
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    MessageError,
    Query,
    bare_failure,
    failure,
    parse_query,
)
from .own import OwnNames
from .streams import StreamServer
from .upstream import Upstream

log = logging.getLogger(__name__)

PORT = 53
MAX_QUESTIONS = 256
"""Questions on their way to the local resolver, unless said otherwise."""
GIVES_WAY = 1.0
"""Seconds that a question may be under way before another takes its place."""
MAX_WAITING = 4096
"""Clients that wait for them; each costs some hundred bytes."""

class OnAnswer(Protocol):
    """Hears of every answer that is given; it must be quick."""

    def __call__(
        self, query: Query, answer: Answer | None, rcode: int, seconds: float, source: str, age: int = 0, /
    ) -> None:
        """`seconds` it took; `source`: "cache", "bridge" (its own names), "hosts", "system", or a nameserver's address;
        `age`: seconds since the answer was received.
        """


Deliver = Callable[[Query, Answer | None], None]
"""Takes the answer to a question that had to be asked; None: SERVFAIL."""


class Listener(Protocol):
    """What the service needs of a stack: the asyncio face, with the stack's addresses."""

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], Any], local_addr: Any = None, remote_addr: Any = None
    ) -> tuple[Any, Any]: ...

    async def start_server(
        self, connected: Callable[[Any, Any], Awaitable[None]], host: str, port: int, /
    ) -> Any: ...


class Ways(Protocol):
    """What sees to it that the addresses of an answer can be reached."""

    def lacks(self, query: Query, answer: Answer, age: int = 0) -> bool:
        """Whether something has to be made first for this answer, `age` seconds old."""

    async def make(self) -> None:
        """Return when it is made, or could not be in time."""


@dataclass(slots=True)
class DnsCounters:
    """What the codespace asked and heard."""

    udp_queries: int = 0
    """Datagrams received."""
    tcp_queries: int = 0
    """Messages received over TCP."""
    tcp_connections: int = 0
    """TCP connections accepted."""
    tcp_refused: int = 0
    """TCP connections closed at once because too many were open."""
    tcp_cut: int = 0
    """TCP connections that were silent or did not read for too long, or broke."""
    dropped: int = 0
    """Messages that deserve no answer: runts and responses."""
    malformed: int = 0
    """Messages answered with FORMERR, NOTIMP, REFUSED or BADVERS."""
    cache_hits: int = 0
    """Questions answered from the cache."""
    own: int = 0
    """Questions about the bridge's own names."""
    joined: int = 0
    """Questions that waited for the same question already under way."""
    asked: int = 0
    """Questions put to the local machine's resolver."""
    positive: int = 0
    """NOERROR answers of the local resolver, empty ones included."""
    no_such_name: int = 0
    """NXDOMAIN answers of the local resolver."""
    failed: int = 0
    """Questions without an answer in time or before the end, and other rcodes than these."""
    udp_answers: int = 0
    """Answers sent as datagrams."""
    truncated: int = 0
    """UDP answers cut to the TC bit because they were too long."""
    overload: int = 0
    """Questions answered with SERVFAIL because too many were under way."""
    given_up: int = 0
    """Questions under way that had waited for long when another needed their place."""


class DnsService:
    """Answers DNS on the given addresses of a stack from the local machine's resolver. An async context manager."""

    def __init__(
        self, stack: Listener, addresses: Sequence[str], upstream: Upstream, *, port: int = PORT,
        on_answer: OnAnswer | None = None, max_questions: int = MAX_QUESTIONS, own: OwnNames | None = None,
        clock: Callable[[], float] = time.monotonic, ways: Ways | None = None,
    ) -> None:
        """`own`: names answered here, whatever the local machine's resolver says; `ways` is asked before an answer is
        given whether its addresses can be reached, and may have them made so.
        """
        self._ways = ways
        self.counters = DnsCounters()
        self.cache = Cache()
        self.upstream = upstream
        self.on_answer = on_answer
        self._own = own or OwnNames()
        self._stack = stack
        self._addresses = [address.partition("/")[0] for address in addresses]
        self._port = port
        self._max_questions = max_questions
        self._clock = clock
        self._waiting: dict[bytes, list[tuple[Query, float, Deliver]]] = {}
        self._waiting_count = 0
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._transports: list[Any] = []
        self._streams = StreamServer(self)
        self._generation = upstream.generation()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        try:
            for address in self._addresses:
                transport, _ = await self._stack.create_datagram_endpoint(
                    lambda: DnsDatagrams(self), local_addr=(address, self._port)
                )
                self._transports.append(transport)
                self._streams.servers.append(
                    await self._stack.start_server(self._streams.connected, address, self._port)
                )
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for transport in self._transports:
            transport.close()
        self._transports.clear()
        await self._streams.close()
        for task in self._tasks.values():
            task.cancel()
        self.counters.failed += len(self._waiting)
        self._waiting.clear()
        self._waiting_count = 0
        await asyncio.sleep(0)  # datagram transports let go of their address one turn of the loop after close()
        await self._group.__aexit__(None, None, None)

    @property
    def under_way(self) -> int:
        """Questions on their way to the local resolver."""
        return len(self._waiting)

    def flush(self) -> None:
        """Forget all answers: the local machine's network changed."""
        self.cache.flush()

    def ask(self, data: bytes, deliver: Deliver, limit: int | None) -> bytes | None:
        """Take one message of a client. Never raises, whatever the bytes.

        Returns the answer where it is at hand, b"" when the message deserves none, None when `deliver` is called later.
        `limit` is the most bytes an answer may have; None: what the client's message says.
        """
        now = self._clock()
        try:
            query = parse_query(data)
        except MessageError as error:
            return self._reject(data, error)
        generation = self.upstream.generation()
        if generation != self._generation:
            self._generation = generation
            self.flush()
        found = self.cache.get(query.key, now)
        if found is None or (self._ways is not None and self._ways.lacks(query, *found)):
            own = self._about_us(query)
            if own is not None:
                return self.fit(query, own, 0, query.limit if limit is None else limit)
            return self._join(query, now, deliver)
        answer, age = found
        self.counters.cache_hits += 1
        if self.on_answer is not None:
            self._tell(query, answer, 0.0, "cache", age)
        return self.fit(query, answer, age, query.limit if limit is None else limit)

    def fit(self, query: Query, answer: Answer | None, age: int = 0, limit: int = 65535) -> bytes:
        """The message for one client; without answer SERVFAIL."""
        if answer is None:
            return failure(query, SERVFAIL)
        message = answer.render(query, age, limit)
        if message[2] & 2:  # TC
            self.counters.truncated += 1
        return message

    def _about_us(self, query: Query) -> Answer | None:
        """The answer to a question about the bridge's own names."""
        try:
            answer = self._own.answer(query)
        except MessageError as error:  # a name that no answer can carry is none of ours
            log.debug("no answer for %r: %s", query, error)
            return None
        if answer is not None:
            self.counters.own += 1
            if self.on_answer is not None:
                self._tell(query, answer, 0.0, "bridge")
        return answer

    def _reject(self, data: bytes, error: MessageError) -> bytes:
        if error.rcode is None:
            self.counters.dropped += 1
            return b""
        self.counters.malformed += 1
        return bare_failure(data, error.rcode) if error.query is None else failure(error.query, error.rcode)

    def _join(self, query: Query, now: float, deliver: Deliver) -> bytes | None:
        """Wait for the question that is under way, or send it on its way."""
        waiting = self._waiting.get(query.key)
        full = waiting is None and len(self._waiting) >= self._max_questions and not self._gave_way(now)
        if full or self._waiting_count >= MAX_WAITING:
            self.counters.overload += 1
            return failure(query, SERVFAIL)
        self._waiting_count += 1
        if waiting is not None:
            self.counters.joined += 1
            waiting.append((query, now, deliver))
            return None
        waiting = self._waiting[query.key] = [(query, now, deliver)]
        self.counters.asked += 1
        task = self._tasks[query.key] = self._group.create_task(self._resolve(query, waiting))
        task.add_done_callback(lambda task: self._over(query.key, task))
        return None

    def _over(self, key: bytes, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    def _gave_way(self, now: float) -> bool:
        """Whether the oldest question has waited long enough; it is then given up."""
        key, waiting = next(iter(self._waiting.items()))
        if now - waiting[0][1] < GIVES_WAY:
            return False
        self.counters.given_up += 1
        self._tasks.pop(key).cancel()
        del self._waiting[key]
        self._waiting_count -= len(waiting)
        self._deliver(waiting, None, "none")
        return True

    async def _resolve(self, query: Query, waiting: list[tuple[Query, float, Deliver]]) -> None:
        """Ask the local resolver once, and answer all who want to know."""
        answer: Answer | None = None
        source = "none"
        flushes = self.cache.flushes
        try:
            answer, source = await self.upstream.ask(query)
            if flushes == self.cache.flushes:  # else it may come from a resolver that is no longer ours
                self.cache.put(query.key, answer, self._clock())
            if self._ways is not None and self._ways.lacks(query, answer):
                await self._ways.make()
        except OSError as error:
            log.debug("no answer for %r: %s", query, error)
        except Exception:
            log.exception("asking for %r failed", query)
        finally:
            if self._waiting.get(query.key) is waiting:  # else it was given up
                del self._waiting[query.key]
                self._waiting_count -= len(waiting)
        self._count(answer)
        self._deliver(waiting, answer, source)

    def _deliver(self, waiting: list[tuple[Query, float, Deliver]], answer: Answer | None, source: str) -> None:
        now = self._clock()
        for client, since, deliver in waiting:
            try:
                deliver(client, answer)
            except OSError as error:  # the way back is gone; the others still wait
                log.debug("an answer to %r could not be sent: %s", client, error)
            if self.on_answer is not None:
                self._tell(client, answer, now - since, source)

    def _count(self, answer: Answer | None) -> None:
        if answer is not None and answer.rcode == NOERROR:
            self.counters.positive += 1
        elif answer is not None and answer.rcode == NXDOMAIN:
            self.counters.no_such_name += 1
        else:
            self.counters.failed += 1

    def _tell(self, query: Query, answer: Answer | None, seconds: float, source: str, age: int = 0) -> None:
        if self.on_answer is None:
            return
        try:
            self.on_answer(query, answer, SERVFAIL if answer is None else answer.rcode, seconds, source, age)
        except Exception:  # who watches must not break what is watched
            log.exception("the DNS observer failed; it is not called again")
            self.on_answer = None


class DnsDatagrams(asyncio.DatagramProtocol):
    """The UDP face: one datagram in, at most one out, to where it came from."""

    def __init__(self, service: DnsService) -> None:
        self._service = service
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a datagram endpoint has a datagram transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        service = self._service
        service.counters.udp_queries += 1
        message = service.ask(data, lambda query, answer: self._deliver(query, answer, addr), None)
        if message:
            self._send(message, addr)

    def error_received(self, exc: Exception) -> None:
        """A client that is gone (ICMP port unreachable) concerns nobody else."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def _deliver(self, query: Query, answer: Answer | None, addr: Any) -> None:
        if self._transport is not None:
            self._send(self._service.fit(query, answer, limit=query.limit), addr)

    def _send(self, message: bytes, addr: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._service.counters.udp_answers += 1
            self._transport.sendto(message, addr)
