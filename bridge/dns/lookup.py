"""One question on its way through nameservers and the name service.

Outcomes come by callbacks; :meth:`Lookup.run` waits for them by one future and one timer, which cost a fifth of what a
queue and nested timeouts do. Only what is rare (TCP, the name service) has a timeout of its own.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from typing import TYPE_CHECKING

from .answer import Answer, OtherCaseError, refuses_edns
from .exchange import UdpExchange, ask_tcp
from .message import FORMERR, NOTIMP, NXDOMAIN, PTR, REFUSED, SERVFAIL, MessageError, Query, name_text
from .nameserver import Nameserver, UpstreamError
from .synthesis import speaks_of_hosts

if TYPE_CHECKING:
    from .upstream import Upstream

TURNS = 3
"""Times each nameserver is asked; the total timeout ends it sooner."""
SYSTEM = "system"
"""The name service as the source of an answer."""

Settled = tuple[Answer, str]
"""An answer and who gave it."""

_RESOLVED = ("127.0.0.53", "127.0.0.54")
"""systemd-resolved's stub, which has asked every source it knows already."""

Outcome = Answer | OSError | OtherCaseError | None
"""What an exchange came to; None: the name service cannot say."""

PLAIN_SECONDS = 300.0
"""How long a nameserver that did not know EDNS, or did not keep the case, is asked without."""

_GO_ON = {FORMERR, SERVFAIL, NOTIMP, REFUSED}


class Lookup:
    """One question; `run` once, then `close`."""

    def __init__(self, upstream: Upstream, query: Query) -> None:
        self.second_best: Settled | None = None
        """An answer to fall back on: a refusal, or one that was cut off and could not be had over TCP."""
        self._upstream = upstream
        self._counters = upstream.counters
        self._query = query
        self._exchanges: list[UdpExchange] = []
        self._outcomes: deque[tuple[UdpExchange | None, Outcome]] = deque()
        """Who (None: the name service) said what, in the order in which it came."""
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + upstream.total_timeout
        self._came: asyncio.Future[None] | None = None
        """Waited for: the next outcome, or the end of the time for it."""
        self._open = 0
        """Outcomes still to come or to be looked at."""

    async def run(self) -> Settled:
        """Ask until somebody answers; UpstreamError when nobody is left to ask, TimeoutError when the time is up."""
        upstream = self._upstream
        servers, patience = upstream.whom_to_ask(self._query)
        patience = min(patience, upstream.total_timeout / max(len(servers), 1))
        edns = bool(self._query.edns_size)
        for turn in range(TURNS):
            silent = 0
            for server in servers:
                # The later turns do without EDNS, which some home routers drop without a word.
                knows_edns = server.plain_until <= upstream.clock()
                exchange = self._send(server, edns=edns and knows_edns and (turn < 1 or self._query.dnssec))
                settled = await self._wait(patience, exchange)
                if settled is not None:
                    return settled
                if self._loop.time() >= self._deadline:
                    raise TimeoutError
                silent += exchange is not None and not exchange.finished
            if turn == 0:
                self._ask_system()
            if not silent:  # everybody refused; asking again at once would change nothing
                break
        while self._open:
            if not await self._outcome(self._deadline):
                raise TimeoutError
            settled = await self._judge(self._deadline)
            if settled is not None:
                return settled
        if self.second_best is not None:
            return self.second_best
        raise UpstreamError("no nameserver could answer" if servers else "no nameserver is configured")

    def close(self) -> None:
        """Let go of all sockets."""
        for exchange in self._exchanges:
            exchange.close()

    def _send(self, server: Nameserver, *, edns: bool) -> UdpExchange | None:
        try:
            exchange = UdpExchange(
                server, self._query, self._counters, self._upstream.sockets,
                self._tell,
                edns=edns, mixed=server.other_case_until <= self._upstream.clock(),
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._counters.no_socket += 1
            else:
                self._counters.refused += 1
            return None
        self._exchanges.append(exchange)
        self._open += 1
        return exchange

    def _ask_system(self) -> None:
        """Ask the name service beside the nameservers that were silent so far."""
        if speaks_of_hosts(self._query):
            self._count_name_service()
            self._open += 1
            self._upstream.name_service.start(self._query, lambda answer: self._tell(None, answer))

    def _count_name_service(self) -> None:
        if self._upstream.name_service.free:
            self._counters.name_service += 1
        else:
            self._counters.name_service_busy += 1

    async def _wait(self, seconds: float, exchange: UdpExchange | None) -> Settled | None:
        """Wait until somebody answers, or `exchange` failed, or its time is up; None: ask the next."""
        if exchange is None:
            return None
        until = self._loop.time() + seconds
        while not exchange.finished or self._outcomes:
            if not await self._outcome(min(until, self._deadline)):
                if until < self._deadline:
                    self._counters.timeouts += 1
                    exchange.nameserver.was_silent(self._upstream.clock())
                return None
            settled = await self._judge(min(until, self._deadline))
            if settled is not None:
                return settled
        return None

    def _tell(self, exchange: UdpExchange | None, outcome: Outcome) -> None:
        self._outcomes.append((exchange, outcome))
        if self._came is not None:
            _wake(self._came)

    async def _outcome(self, until: float) -> bool:
        """Whether there is an outcome to look at; waits for it until then, by the event loop's clock."""
        if not self._outcomes:
            self._came = self._loop.create_future()
            timer = self._loop.call_at(until, _wake, self._came)
            try:
                await self._came
            finally:
                timer.cancel()
                self._came = None
        return bool(self._outcomes)

    async def _judge(self, until: float) -> Settled | None:
        """Whether the next outcome settles the question; what has to be asked besides may take until then."""
        exchange, outcome = self._outcomes.popleft()
        self._open -= 1
        if outcome is None:
            return None
        if isinstance(outcome, OSError):
            self._counters.refused += 1
            return None
        if isinstance(outcome, OtherCaseError):
            assert exchange is not None
            server = exchange.nameserver
            self._counters.other_case += 1
            server.other_case_until = self._upstream.clock() + PLAIN_SECONDS
            return await self._wait(self._upstream.attempt_timeout, self._send(server, edns=exchange.edns))
        if exchange is None:
            return outcome, SYSTEM
        server = exchange.nameserver
        server.was_heard()
        if exchange.edns and refuses_edns(outcome):
            self._counters.without_edns += 1
            server.plain_until = self._upstream.clock() + PLAIN_SECONDS
            return await self._wait(self._upstream.attempt_timeout, self._send(server, edns=False))
        address = server.address
        if outcome.truncated:
            self.second_best = outcome, address
            try:
                async with asyncio.timeout_at(until):
                    outcome = await ask_tcp(
                        server, self._query, self._counters, self._upstream.sockets, edns=exchange.edns
                    )
            except (OSError, EOFError, MessageError):
                return None
        if outcome.rcode in _GO_ON:
            self._counters.failures += 1
            self.second_best = self.second_best or (outcome, address)
            return None
        return await self._recheck(outcome, address)

    async def _recheck(self, answer: Answer, source: str) -> Settled:
        """Ask the name service about a name that nameservers deny but another source may know."""
        if answer.rcode != NXDOMAIN or self._query.rtype == PTR or not speaks_of_hosts(self._query):
            return answer, source
        name = name_text(self._query.name)
        likely = "." not in name or name.endswith(".local")
        if not likely and (source in _RESOLVED or not self._upstream.name_service_knows_more):
            return answer, source
        self.second_best = answer, source  # should the name service take too long
        self._count_name_service()
        async with asyncio.timeout_at(self._deadline):
            found = await self._upstream.name_service.ask(self._query)
        return (answer, source) if found is None or found.rcode == NXDOMAIN else (found, SYSTEM)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
